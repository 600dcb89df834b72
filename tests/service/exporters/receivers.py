"""Third-party OTLP receivers, started as programs of their own on free loopback ports."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_ports
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_SECONDS = 30
STOP_SECONDS = 10


@dataclass(frozen=True)
class Receiver:
    """A running receiver's endpoints."""

    grpc: str
    http: str


@contextlib.contextmanager
def running(command: Sequence[str], folder: Path, ports: Sequence[int]) -> Iterator[None]:
    """Run a program until it listens on all ports, and stop it afterwards; its output is in `folder`/log."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            for port in ports:
                wait_for_port(port, process, folder / "log")
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    until(
        lambda: process.poll() is not None or listens(),
        lambda: time.sleep(0.02),
        why=lambda: f"{process.args!r} does not listen on port {port}: {log.read_text(errors='replace')}",
    )
    assert process.poll() is None, log.read_text(errors="replace")


@contextlib.contextmanager
def rotel(folder: Path, forward_to: str) -> Iterator[Receiver]:
    """Run the rotel collector, which decodes what it gets and sends it on by OTLP/gRPC."""
    # The wheel's binary has no run bit, and the environment may not be ours to change.
    program = Path(shutil.copy(str(files("rotel") / "rotel-agent"), folder / "rotel-agent"))
    program.chmod(0o700)
    ports = free_ports(2)
    grpc, http = (f"127.0.0.1:{port}" for port in ports)
    listen = ["--otlp-grpc-endpoint", grpc, "--otlp-http-endpoint", http]
    send = ["--exporter", "otlp", "--otlp-exporter-endpoint", forward_to]
    state = ["--pid-file", str(folder / "pid"), "--log-file", str(folder / "agent-log")]
    with running([str(program), "start", *listen, *send, *state], folder, ports):
        yield Receiver(f"http://{grpc}", f"http://{http}")


def peer(name: str) -> str:
    """Return a program of the environment that `make test` fills for those that demand other versions than ours."""
    program = Path(sys.prefix) / "peers" / "bin" / name
    if not program.exists():
        pytest.skip(f"needs {program} (make peers)")
    return str(program)


@contextlib.contextmanager
def oteltap(folder: Path) -> Iterator[Receiver]:
    """Run OtelTap (Rust), which writes each span that it got to `folder`/log, a line of OTLP JSON each."""
    (http,) = ports = free_ports(1)
    with running([peer("oteltap"), "--port", str(http)], folder, ports):
        yield Receiver("", f"http://127.0.0.1:{http}")


@contextlib.contextmanager
def ddapm_test_agent(folder: Path) -> Iterator[Receiver]:
    """Run Datadog's test agent, which tells what it got at /test/session/traces of its HTTP endpoint."""
    program = peer("ddapm-test-agent")
    apm, grpc, http = ports = free_ports(3)
    command = [program, "--port", apm, "--otlp-grpc-port", grpc, "--otlp-http-port", http]
    with running([str(word) for word in command], folder, ports):
        yield Receiver(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}")
