"""HTTP connections that end in time and with a whole answer: what urllib3 and http.client leave to their user.

One limit holds for the whole of an attempt, from the look-up of the name on, over all the addresses, and however slowly
the other side drips. A socket's timeout starts anew with every address and every byte that arrives, so a server that
sends one byte a second would hold a worker for ever. An alarm shuts the socket down instead, which wakes the thread
that waits on it. What is left of the time is shared among the addresses that are still to be tried: where the first one
swallows everything, the second one has its turn.

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
import time
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError

from drain.exporters.alarm_clock import ALARMS, Alarm
from drain.exporters.name_resolution import Address, addresses_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import BufferedReader
    from types import TracebackType

_EMPTY_LINES = (b"\r\n", b"\n")
_SHORTEST_SECONDS = 0.001  # a timeout of 0 would make a socket non-blocking

_thread = threading.local()


class Deadline:
    """Ends what the connections below look up, connect, send and receive in this thread while it is entered.

    Args:
        seconds: after which the socket in use is shut down.
        address: that is connected to, whatever name is spoken to; None: that of the name. A proxy has its own.
    """

    def __init__(self, seconds: float, address: str | None = None) -> None:
        self.address = address
        self.expired = False
        self.was_connected = False  # when it expired: the request was being sent, or its answer awaited
        self.has_sent = False  # something of the request, or nearly
        self.missed = ""  # what had not happened when it expired
        self._seconds = seconds
        self._awaited = ""
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: Any = None
        self._copy: socket.socket | None = None
        self._alarm: Alarm | None = None

    def __enter__(self) -> Self:
        _thread.deadline = self
        self._alarm = ALARMS.set(self._seconds, self.expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _thread.deadline = None
        self._await("", None)
        if self._alarm is not None:
            self._alarm.call_off()

    def share(self, awaited: str, among: int = 1) -> float:
        """Return how many seconds one of so many equal steps may take, the first of which begins now.

        Args:
            awaited: what is said to be missing if the time is over before the next call: "no connection to …".
            among: so many.

        Raises:
            TimeoutError: the time is over.
        """
        self._await(awaited, None)
        return max((self._ends - time.monotonic()) / among, _SHORTEST_SECONDS)

    def watch_handshake(self, sock: socket.socket, awaited: str) -> None:
        """Name a connected socket, which TLS takes over: it is shut down whichever object owns it by then.

        Raises:
            TimeoutError: it is too late already.
        """
        copy = sock.dup()
        try:
            self._await(awaited, copy)
        except TimeoutError:
            copy.close()
            raise
        self._copy = copy

    def watch(self, sock: Any) -> None:
        """Name the socket that carries the request and its answer.

        Raises:
            TimeoutError: it is too late already.
        """
        self._await("no complete answer", sock)
        self.has_sent = True

    def _await(self, awaited: str, sock: Any) -> None:
        with self._lock:
            if self.expired and awaited:
                raise TimeoutError
            self._awaited = awaited
            self._socket = sock
            copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()

    def expire(self) -> None:
        """End what runs; whoever finds that a step took all of its time need not wait for the alarm."""
        with self._lock:
            if self.expired:
                return
            self.expired = True
            self.missed = f"{self._awaited} within {self._seconds:g} s"
            if self._socket is None:
                return  # looking up or connecting, which end by the time that `share` gave them
            self.was_connected = self._copy is None
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

    def __str__(self) -> str:
        """Return the other side's name, with which urllib3 begins what it says of a failed connection."""
        return f"{self.host}:{self.port}"

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _thread.deadline.watch(self.sock)
        super().send(data)

    def _new_conn(self) -> socket.socket:
        # urllib3 gives each address the whole of the time, and getaddrinfo all of the world's.
        deadline = _thread.deadline
        addresses = self._addresses(deadline)
        failure: OSError | None = None
        for tried, address in enumerate(addresses):
            try:
                seconds = deadline.share(f"no connection to {self}", among=len(addresses) - tried)
                sock = _connected(address, seconds, self.socket_options or ())
                deadline.watch_handshake(sock, f"no TLS handshake or tunnel with {self}")
            except OSError as error:
                failure = error
            else:
                sock.settimeout(self.timeout)
                return sock
        if isinstance(failure, TimeoutError):
            deadline.expire()
        raise NewConnectionError(self, str(failure)) from failure

    def _addresses(self, deadline: Deadline) -> Sequence[Address]:
        host = self._dns_host.strip("[]")
        if deadline.address is not None and self.proxy is None:
            host = deadline.address
        try:
            return addresses_of(host, self.port, deadline.share(f"no address of the name {host}"))
        except UnicodeError as error:
            raise LocationParseError(f"{host!r}, label empty or too long") from error
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            deadline.expire()
            raise ConnectTimeoutError(self, str(error)) from error


def _connected(address: Address, seconds: float, options: Iterable[tuple[int, int, int | bytes]]) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.settimeout(seconds)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class WatchedPool(HTTPConnectionPool):
    """urllib3's pool, whose connections obey the `Deadline` that is entered."""

    ConnectionCls = _WatchedConnection

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class WatchedTLSPool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _WatchedTLSConnection

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
