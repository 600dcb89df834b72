r"""OTLP JSON lines in a file: the exporter that needs no backend.

Source: OpenTelemetry specification `protocol/file-exporter.md`: UTF-8, one `TracesData` a line, `\n` behind each.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import structlog

from drain.exporters.compression import check_compression, compressed
from drain.exporters.file_options import FileOptions
from drain.exporters.protocol import Result, Verdict
from drain.exporters.rotation import move_away
from drain.exporters.stdout import StdoutExporter
from drain.otlp.transcode import in_encoding
from drain.private_folder import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request

LINE_START = b'{"resourceSpans":['
_SCAN_BYTES = 65536

log = structlog.get_logger("drain.exporters.file")


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "file": to a file, or to standard output.

    Raises:
        ValueError: there is no output, it cannot be opened, or the options do not fit it.
    """
    if destination.output is None:
        raise ValueError("exporter file needs an output: name a file, or - for standard output")
    options = destination.file or FileOptions()
    if str(destination.output) != "-":
        return FileExporter(destination.output, options)
    if options != FileOptions():
        raise ValueError("standard output cannot be rotated, synced or compressed: name a file, or use a pipe")
    return StdoutExporter()


class FileExporter:
    """Appends one line (or zstd frame) a batch to a file of mode 0600; delivered means that all of it was written.

    The file is locked (flock), since a second writer's line in the making would look like one that a kill left behind.
    A file that was renamed or removed by somebody else (logrotate) is left, and a new one begun.

    Args:
        path: of a regular file, or of none yet.
        options: sync, rotation, compression.
        clock: seconds that never go back, for the age of the file.

    Raises:
        ValueError: the file cannot be opened, is not regular, holds something else, or has another writer.
    """

    encoding: Encoding = "json"

    def __init__(
        self, path: Path, options: FileOptions | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = str(path.absolute())  # a relative one says little in a log
        self._path = path
        self._options = options or FileOptions()
        check_compression(self._options.compression)
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = -1
        self._opened = clock()
        try:
            self._open()
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}; name a file in a folder of yours") from None

    def export(self, request: Request) -> Result:
        """Append one batch; a write that fails midway is taken back. See `drain.exporters.protocol.Exporter`."""
        data = compressed(in_encoding(request, self.encoding), self._options.compression)
        with self._lock:
            try:
                self._make_ready(len(data))
                self._append(data)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                return Result(Verdict.RETRY, message=f"{self._path}: {reason}")
        return Result(Verdict.DELIVERED, sent_bytes=len(data))

    def renew(self) -> None:
        """Leave the file: the next batch opens the one that has the name then."""
        self.close()

    def close(self) -> None:
        """Close the file; a later batch would open it again."""
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        start = os.fstat(self._descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._options.sync:
                os.fdatasync(self._descriptor)
        except OSError:
            try:
                os.ftruncate(self._descriptor, start)
            except OSError:
                self._close()  # opening it again cuts the incomplete line, or fails again
            raise

    def _make_ready(self, more_bytes: int) -> None:
        if self._descriptor >= 0 and not self._is_still_ours():
            self._close()
        if self._descriptor < 0:
            self._open()
        if self._is_due(os.fstat(self._descriptor).st_size, more_bytes):
            try:
                rotated = move_away(self._path, self._options.keep)
                log.info("file rotated", path=str(self._path), rotated=str(rotated))
            except OSError as error:
                log.warning("file cannot be rotated", path=str(self._path), reason=error.strerror)
                self._opened = self._clock()  # by age it is tried again an age later; by size with every batch
                return
            self._close()
            self._open()

    def _is_due(self, size: int, more_bytes: int) -> bool:
        options = self._options
        too_large = 0 < options.rotate_bytes < size + more_bytes
        too_old = 0 < options.rotate_seconds <= self._clock() - self._opened
        return size > 0 and (too_large or too_old)

    def _is_still_ours(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1  # it is gone, too, where closing it tells of an error
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        if self._path.exists() and not self._path.is_file():
            raise ValueError(f"{self._path} is not a regular file; write to standard output (-) and pipe it there")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, stat.S_IRUSR | stat.S_IWUSR)
        try:
            self._lock_and_check(descriptor)
            if self._options.sync:
                sync_folder(self._path.parent)  # its name, and that of the file which was rotated away
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._opened = self._clock()

    def _lock_and_check(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self._path} is being written by another process; name another file") from None
        size = os.fstat(descriptor).st_size
        if self._options.compression == "none":
            end = _whole_lines_end(descriptor, size)
            start = LINE_START
        else:
            from drain.exporters.zstd_frames import MAGIC, whole_frames_end  # noqa: PLC0415 - only for compressed files

            end = whole_frames_end(descriptor)
            start = MAGIC
        # Zeros are what a loss of power leaves of data that was not synced. Anything else is not ours to cut.
        tail = os.pread(descriptor, len(start), end).rstrip(b"\0")
        if tail != start[: len(tail)] or (end and os.pread(descriptor, 1, 0) != start[:1]):
            raise ValueError(f"{self._path} holds something else; name another file")
        if end == size:
            return
        os.ftruncate(descriptor, end)
        log.warning("incomplete last batch cut off, which a kill had left", path=str(self._path), bytes=size - end)


def _whole_lines_end(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(end - _SCAN_BYTES, 0)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
