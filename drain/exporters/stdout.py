"""OTLP JSON lines on standard output, for a pipe or a container's log."""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
from typing import TYPE_CHECKING

from drain.exporters.protocol import Result, Verdict
from drain.otlp.transcode import in_encoding

if TYPE_CHECKING:
    from drain.otlp.request import Encoding, Request


class StdoutExporter:
    """Writes one line a batch; delivered means that the whole line was written.

    There is no timeout: a reader that pauses pauses the exporter, as with any pipe.
    """

    encoding: Encoding = "json"
    endpoint = "standard output"
    _lock = threading.Lock()  # of all: a process has one standard output

    def __init__(self) -> None:
        # A descriptor of its own, so that close() leaves the process its standard output.
        self._descriptor = os.dup(sys.stdout.fileno())
        self._torn = False

    def export(self, request: Request) -> Result:
        """Write one line; see `drain.exporters.protocol.Exporter`."""
        line = in_encoding(request, self.encoding).body
        with self._lock:
            try:
                # What was written of a line cannot be taken back here, but it must not swallow the next one.
                self._write(b"\n" + line if self._torn else line)
            except OSError as error:
                is_gone = error.errno == errno.EPIPE
                return Result(Verdict.RETRY, message=f"standard output: {error.strerror}", reader_is_gone=is_gone)
            self._torn = False
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        """Close the exporter's own descriptor."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever started us made it non-blocking
                select.select([], [self._descriptor], [])
            self._torn = True
