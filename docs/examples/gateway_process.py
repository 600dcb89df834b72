"""A gateway of the fleet demo as a process of its own: started, killed, started again."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway import Received

_FIRST_PORT: Final = 10_240
_START_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.02


class GatewayError(Exception):
    """A gateway did not start."""


class Gateway:
    """A gateway that may be killed and come back at the same address.

    Args:
        name: in what is printed.
        folder: for its file.

    Attributes:
        name: as given.
        received: what has arrived at it.
        kills: how often it was killed.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.received = Received(folder / f"{name}.spans")
        self._path = folder / f"{name}.spans"
        self.kills = 0
        self._port = _free_port()
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return when it listens.

        Raises:
            GatewayError: it does not.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", Path(__file__).with_name("gateway.py"), str(self._port), self._path],
                stdin=subprocess.DEVNULL,
                stderr=log,
                process_group=0,
            )
        end = time.monotonic() + _START_SECONDS
        while self.is_up and time.monotonic() < end:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(_POLL_SECONDS)
        raise GatewayError(f"{self.name} did not start:\n{self._log.read_text()}")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self.kills += self.is_up
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    """Return a port below those that the kernel gives to connections.

    One of these might be some connection's own end while the gateway is away: even that of a drain that looks for it.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(_FIRST_PORT, below), below - _FIRST_PORT):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise GatewayError("no port is free")
