"""A WSGI application that emits a span for each request, whose number is its path; the answer says who wrote it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# As applications do at import: in each worker, or once in the process that forks them, where a server loads first.
ringbuf.configure("web", capacity=1024)
IMPORTED_IN = os.getpid()
serve = site(OpType.FBMU_READ)
look_up = site(OpType.FBMU_WRITE)
serve.emit(LeaseId(int(os.environ["BOOT"]) + IMPORTED_IN), 1, 2)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Emit the request's span, with another inside it."""
    lease = LeaseId(int(environ["PATH_INFO"].strip("/")))
    with serve.span(lease):
        written = look_up.emit(lease, 1, 2)
    start_response("200 OK" if written else "503 No room", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {IMPORTED_IN}\n".encode()]
