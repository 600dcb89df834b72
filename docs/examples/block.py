"""FBBU: a storage worker that serves a real file to other processes, and continues their traces.

`with site.span(lease, traceparent=…)` makes the worker's span a child of the caller's, in another process. What happens
inside the block (the flush of a synchronous write) becomes a child of the worker's span by itself.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ringbuf.dataplane import (
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    emit_dataplane_span_from_traceparent,
    site,
)

if TYPE_CHECKING:
    from pathlib import Path

    from capability import Authority, Capability

_read = site(OpType.FBBU_READ)
_write = site(OpType.FBBU_WRITE)
_flush = site(OpType.FBBU_FLUSH)


class Request(NamedTuple):
    """What a client sends to a storage worker.

    Attributes:
        operation: FBBU_READ or FBBU_WRITE.
        lease: whose blocks these are.
        capability: what entitles the client to them.
        offset: in the file, bytes.
        nbytes: to read.
        data: to write.
        is_synchronous: a write returns after the disk has it.
        traceparent: the client's span, in the form of W3C Trace Context.
    """

    operation: OpType
    lease: LeaseId
    capability: Capability
    offset: int
    nbytes: int
    data: bytes
    is_synchronous: bool
    traceparent: str


class Reply(NamedTuple):
    """What comes back.

    Attributes:
        outcome: how it went.
        data: what was read.
        nbytes: bytes moved.
    """

    outcome: Outcome
    data: bytes
    nbytes: int


class BlockWorker:
    """Serves the blocks of one file.

    Args:
        path: the file; it is made.
        file_bytes: its size.
        authority: checks the capabilities of requests.
    """

    def __init__(self, path: Path, file_bytes: int, authority: Authority) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._fd, 0, file_bytes)
        self._authority = authority

    def serve(self, request: Request) -> Reply:
        """Do what a request asks for."""
        start = time.time_ns()
        outcome = self._authority.check(request.capability, request.lease)
        if outcome is not Outcome.OK:
            # The span of something that is over: all of it given by name, checked, and written in one call.
            emit_dataplane_span_from_traceparent(
                request.traceparent,
                DataplaneSpanKind.FBBU,
                lease_id=request.lease,
                resource_kind=ResourceKind.BLOCK,
                operation=request.operation,
                outcome=outcome,
                start_unix_nano=start,
                end_unix_nano=time.time_ns(),
            )
            return Reply(outcome, b"", 0)
        if request.operation is OpType.FBBU_READ:
            data = self._pread(request)
            return Reply(Outcome.OK, data, len(data))
        return Reply(Outcome.OK, b"", self._pwrite(request))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _pread(self, request: Request) -> bytes:
        with _read.span(request.lease, traceparent=request.traceparent) as span:
            data = os.pread(self._fd, request.nbytes, request.offset)
            span.nbytes = len(data)
            return data

    def _pwrite(self, request: Request) -> int:
        with _write.span(request.lease, traceparent=request.traceparent) as span:
            span.nbytes = written = os.pwrite(self._fd, request.data, request.offset)
            if request.is_synchronous:
                with _flush.span(request.lease):  # a child of the write
                    os.fdatasync(self._fd)
            return written
