"""One limit for the whole of an HTTP attempt, however slowly the other side drips.

A socket's timeout starts anew with every byte that arrives, so a server that sends one byte a second would hold a
worker for ever. A timer shuts the socket down instead, which wakes the thread that waits on it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from drain.exporters.whole_response import WholeResponse

if TYPE_CHECKING:
    from types import TracebackType

_thread = threading.local()


class Deadline:
    """Ends what the connections below send and receive in this thread while it is entered.

    Args:
        seconds: after which the socket in use is shut down.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._lock = threading.Lock()
        self._socket: Any = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _thread.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _thread.deadline = None
        with self._lock:
            self._socket = None
        self._timer.cancel()

    def watch(self, sock: Any) -> None:
        """Name the socket to shut down.

        Raises:
            TimeoutError: it is too late already.
        """
        with self._lock:
            if self.expired:
                raise TimeoutError
            self._socket = sock

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            if self._socket is None:
                return  # still connecting, which has a timeout of its own
            # TLS inside TLS (an https proxy) is no socket itself, but has one. SSLSocket.shutdown would take the TLS
            # state away from under the thread that reads.
            sock = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError):  # the other side was quicker
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _WatchedConnection(HTTPConnection):
    response_class = WholeResponse

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _thread.deadline.watch(self.sock)
        super().send(data)


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class WatchedPool(HTTPConnectionPool):
    """urllib3's pool, whose connections obey the `Deadline` that is entered."""

    ConnectionCls = _WatchedConnection


class WatchedTLSPool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _WatchedTLSConnection
