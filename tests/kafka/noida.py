"""noida-db: a Kafka broker of another maker, in one process; it has limits and makes topics.

It loses what it has acknowledged when it is killed: nothing here is about durability.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.ports import free_ports
from tests.waiting import until

if TYPE_CHECKING:
    from types import TracebackType


class NoidaBroker:
    """A process of it.

    Args:
        folder: for its data.

    Attributes:
        bootstrap: HOST:PORT.
    """

    def __init__(self, folder: Path) -> None:
        spec = find_spec("noida_db")
        assert spec is not None
        assert spec.origin is not None
        [port] = free_ports(1)
        self.bootstrap = f"127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [
                *(Path(spec.origin).with_name("noida-db"), "start", "--only", "kafka"),
                *("--kafka-port", str(port), "--data-dir", folder / "noida"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | {"HOME": str(folder)},
        )
        until(lambda: _listens(port) or self.process.poll() is not None, lambda: time.sleep(0.02))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
