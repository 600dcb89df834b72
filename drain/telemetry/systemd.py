"""What a service manager is told: ready, stopping, still alive (systemd's sd_notify protocol, over a datagram socket).

Source: sd_notify(3), "Description" and "Notes"; sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_STATUS_SECONDS: Final = 10.0
_MAX_STATUS_CHARACTERS: Final = 200


class ServiceManager:
    """Tells systemd how the service is; without systemd, nobody.

    Args:
        environ: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are taken out of it: they are meant for this process
            alone, and not for what it starts.
        clock: seconds that never go back.
    """

    def __init__(
        self, environ: MutableMapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._socket: socket.socket | None = None
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watchdog_micro = environ.pop("WATCHDOG_USEC", "")
        watchdog_pid = environ.pop("WATCHDOG_PID", "")
        self._alive_every: float | None = None
        self._alive_at = self._status_at = clock()
        if self._address[:1] not in {"/", "@"}:
            return  # none, or a kind of address that only virtual machines have
        if self._address[0] == "@":  # a name that is in no file system
            self._address = "\0" + self._address[1:]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        if watchdog_micro.isdecimal() and int(watchdog_micro) and watchdog_pid in {"", str(os.getpid())}:
            self._alive_every = int(watchdog_micro) / 2e6  # half, as sd_watchdog_enabled(3) recommends

    @property
    def is_there(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Say that the service does its work."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def stopping(self, status: str) -> None:
        """Say that the service is about to end."""
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def alive(self, status: Callable[[], str]) -> None:
        """Say that the service is alive, as often as is asked for; call it often, it costs 0.1 microseconds.

        Args:
            status: one line; asked for every ten seconds.
        """
        if self._socket is None:
            return
        now = self._clock()
        if self._alive_every is not None and now - self._alive_at >= self._alive_every:
            self._alive_at = now
            self._send("WATCHDOG=1")
        if now - self._status_at >= _STATUS_SECONDS:
            self._status_at = now
            self._send(f"STATUS={_one_line(status())}")

    def close(self) -> None:
        """Give up the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        # A manager that is gone or busy is no reason to stop or to wait: it asks again, or ends us.
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(), self._address)


def _one_line(status: str) -> str:
    return "".join(character if character.isprintable() else " " for character in status[:_MAX_STATUS_CHARACTERS])
