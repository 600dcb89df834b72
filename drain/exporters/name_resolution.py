"""Looking up a host's addresses, with a bound: getaddrinfo has none, and nothing ends it.

A resolver that does not answer holds its caller for as long as resolv.conf says, often for longer than an attempt may
take. So a thread of its own asks, and the attempt stops waiting. Attempts for the same host wait for the same thread:
while a name server is away there is one such thread a host, and not one an attempt.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As getaddrinfo returns it: family, kind, protocol, canonical name, address."""

_lock = threading.Lock()
_running: dict[tuple[str, int], Future[Sequence[Address]]] = {}


def addresses_of(host: str, port: int, seconds: float) -> Sequence[Address]:
    """Return a host's addresses in the order in which they are to be tried.

    Raises:
        OSError: socket.gaierror, there are none; TimeoutError, nobody said so within so many seconds.
        UnicodeError: the name cannot be one.
    """
    with contextlib.suppress(socket.gaierror):  # it is a name
        return _look_up(host, port, socket.AI_NUMERICHOST)
    with _lock:
        lookup = _running.get((host, port))
        if lookup is None:
            lookup = Future()
            threading.Thread(target=_run, args=(host, port, lookup), name="name-resolution", daemon=True).start()
            _running[host, port] = lookup
    return lookup.result(seconds)


def _run(host: str, port: int, lookup: Future[Sequence[Address]]) -> None:
    try:
        addresses = _look_up(host, port)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is those who wait that must hear of it
        _end(host, port)
        lookup.set_exception(error)
    else:
        _end(host, port)
        lookup.set_result(addresses)


def _end(host: str, port: int) -> None:
    with _lock:
        del _running[host, port]


def _look_up(host: str, port: int, flags: int = 0) -> Sequence[Address]:
    # Here, as a drain that writes to a file loads no HTTP client.
    from urllib3.util.connection import allowed_gai_family  # noqa: PLC0415 - see above

    return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM, flags=flags)
