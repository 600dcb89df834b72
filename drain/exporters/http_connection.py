"""HTTP connections that end in time and with a whole answer: what urllib3 and http.client leave to their user.

One limit holds for the whole of an attempt, however slowly the other side drips. A socket's timeout starts anew with
every byte that arrives, so a server that sends one byte a second would hold a worker for ever. A timer shuts the socket
down instead, which wakes the thread that waits on it.

An answer whose headers break off is none, and neither is one that only announces another. To http.client the end of the
connection is the end of the headers. So a server that dies behind the words "200 OK" would have said that it has a
batch which nobody has; and one of the lost headers may have announced a body. Of the interim answers (RFC 9110, 15.2)
http.client passes over 100 alone. A proxy's "103 Early Hints" would stand for the backend's word, which comes behind it
and may be 503.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from io import BufferedReader
    from types import TracebackType

_EMPTY_LINES = (b"\r\n", b"\n")

_thread = threading.local()


class Deadline:
    """Ends what the connections below send and receive in this thread while it is entered.

    Args:
        seconds: after which the socket in use is shut down.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.was_connected = False  # when it expired
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
            self.was_connected = True
            # TLS inside TLS (an https proxy) is no socket itself, but has one. SSLSocket.shutdown would take the TLS
            # state away from under the thread that reads.
            sock = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError):  # the other side was quicker
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class WholeResponse(HTTPResponse):
    """The final response, whose headers end with an empty line; `begin` raises HTTPException for another."""

    def begin(self) -> None:
        """Read the status and the headers."""
        while True:
            lines = _Lines(self.fp)
            self.fp = lines  # type: ignore[assignment]  # `begin` reads its lines, and may close it
            super().begin()
            self.fp = lines.stream
            if lines.last not in _EMPTY_LINES:
                raise HTTPException("the answer's headers break off")
            if self.status >= HTTPStatus.OK:
                return
            self.headers = None  # type: ignore[assignment]  # else `begin` takes them for the answer's


class _Lines:
    """The lines of a stream, of which the last is remembered."""

    def __init__(self, stream: BufferedReader) -> None:
        self.stream = stream
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self.stream.readline(limit)
        return self.last

    def close(self) -> None:
        self.stream.close()

    def flush(self) -> None:
        self.stream.flush()


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
