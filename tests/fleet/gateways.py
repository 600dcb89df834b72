"""Gateways of other makers, each on a node of its own, with a keeper behind it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Self

from tests.fleet.network import inside
from tests.python import command
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fleet.network import Network, Node

HTTP: Final = 4318
GRPC: Final = 4317
_KEEPER: Final = 5000
_EMPTY_SECONDS: Final = 1.5
_NGINX: Final = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off; client_max_body_size 64m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen {address}:{port}; location / {{ proxy_pass http://127.0.0.1:{keeper}; }} }}
}}
"""


class Gateway:
    """A process that is killed, stopped and started at one address.

    Args:
        network: in which it is.
        node: where it is.
        folder: for its files.
        line: its command line.
        ports: that it listens on.
        answers_early: it says that it has spans before the keeper has them: what it has then, a kill loses. So it is
            cut off before it is killed, and has handed on what it had.

    Attributes:
        node: as given.
        kept: what has come through it.
    """

    def __init__(
        self,
        network: Network,
        node: Node,
        folder: Path,
        line: Sequence[str],
        ports: Sequence[int],
        *,
        answers_early: bool,
    ) -> None:
        self.node = node
        self.kept = folder / "kept"
        self._network = network
        self._log = folder / "log"
        self._line = line
        self._ports = ports
        self._answers_early = answers_early
        self._processes: list[subprocess.Popen[bytes]] = []
        self._process = self._start(command("from tests.fleet.keeper import main\nmain()", _KEEPER, self.kept))
        self._wait_for("127.0.0.1", _KEEPER)
        self.start()

    def start(self) -> None:
        self._process = self._start(self._line)
        for port in self._ports:
            self._wait_for(self.node.address, port)

    def kill(self) -> None:
        """Let it die as a machine does that loses power, behind a link that was cut just before."""
        if not self._answers_early:
            self._end()
            return
        with self._network.dark(self.node):
            self._wait_until_empty()
            self._process.terminate()  # whoever was held up for so long hands on what it still has
            self._process.wait(SECONDS)
            self._end()

    def stall(self, *, on: bool) -> None:
        """Stop it, or let it go on."""
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._processes.remove(self._process)

    def _start(self, line: Sequence[str]) -> subprocess.Popen[bytes]:
        with inside(self.node), self._log.open("ab") as log:
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def _wait_for(self, address: str, port: int) -> None:
        def listens() -> bool:
            with inside(self.node), socket.socket() as tried:
                return tried.connect_ex((address, port)) == 0

        until(
            lambda: self._process.poll() is not None or listens(),
            lambda: time.sleep(0.02),
            why=lambda: f"{self._line} does not listen: {self._log.read_text(errors='replace')}",
        )
        assert self._process.poll() is None, self._log.read_text(errors="replace")

    def _wait_until_empty(self) -> None:
        seen, since = -1, time.monotonic()

        def is_empty() -> bool:
            nonlocal seen, since
            size = self.kept.stat().st_size if self.kept.exists() else 0
            if size != seen:
                seen, since = size, time.monotonic()
            return time.monotonic() - since >= _EMPTY_SECONDS

        until(is_empty, lambda: time.sleep(0.05))


def nginx(network: Network, node: Node, folder: Path, program: str) -> Gateway:
    """Return nginx, which answers when the keeper has: it may be killed at any time. OTLP over HTTP."""
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, address=node.address, port=HTTP, keeper=_KEEPER))
    line = [program, "-c", str(configuration), "-e", str(folder / "errors")]
    return Gateway(network, node, folder, line, [HTTP], answers_early=False)


def rotel(network: Network, node: Node, folder: Path) -> Gateway:
    """Return the rotel collector, which decodes what it gets, answers, and hands it on. OTLP over gRPC and HTTP."""
    folder.mkdir()
    program = shutil.copy(str(files("rotel") / "rotel-agent"), folder / "rotel-agent")  # the wheel's has no run bit
    (folder / "rotel-agent").chmod(0o700)
    line = [
        *(str(program), "start", "--pid-file", str(folder / "pid"), "--log-file", str(folder / "agent-log")),
        *("--otlp-grpc-endpoint", f"{node.address}:{GRPC}", "--otlp-http-endpoint", f"{node.address}:{HTTP}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms"),
        *("--otlp-exporter-endpoint", f"http://127.0.0.1:{_KEEPER}"),
    ]
    return Gateway(network, node, folder, line, [GRPC, HTTP], answers_early=True)
