r"""Batches that the backend refused for good: a file each, which tells what it is and can be sent again.

A file is one line of JSON, the header, and behind it the request's body as it would be sent: `TracesData` as protobuf,
or an OTLP JSON line.

    {"format": "ringbuf-dead-letter", "version": 1, "encoding": "protobuf", "spans": 3, "unix_nano": ...,
     "endpoint": "http://...", "reason": "HTTP 400: ..."}\n<body>
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from drain.log import RepeatedTrouble
from drain.otlp.request import Request
from drain.private_folder import ensure_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

SUFFIX: Final = ".dead-letter"
FORMAT: Final = "ringbuf-dead-letter"

_VERSION: Final = 1
_LONGEST_HEADER: Final = 65536
_LONGEST_REASON: Final = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that was refused.

    Attributes:
        request: the batch.
        reason: the backend's, as far as it gave one.
        endpoint: of the backend.
        unix_nano: when it was refused.
    """

    request: Request
    reason: str
    endpoint: str
    unix_nano: int


class DeadLetters:
    """A folder of refused batches, bounded; any thread may use it.

    Args:
        folder: made with mode 0700 if it is not there.
        max_files: the oldest go when there are more.
        max_bytes: the oldest go when they take more together; the newest stays even if it alone takes more.
        log: where trouble is told.
        unix_nano: the time of day.

    Attributes:
        kept: batches that were kept, since the start.
        removed: batches that had to go for newer ones, since the start.
        failed: batches that could not be written, since the start.

    Raises:
        RingBufferError: the folder is not ours alone.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_files: int,
        max_bytes: int,
        log: FilteringBoundLogger,
        unix_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        ensure_private_folder(folder)
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._trouble = RepeatedTrouble(log.bind(dead_letters=str(folder)))
        self._unix_nano = unix_nano
        self._lock = threading.Lock()
        self._files: list[tuple[str, int]] = []
        self._bytes = 0
        self.kept = self.removed = self.failed = 0
        for left in folder.glob("*.part"):
            left.unlink()  # a kill had left it: the batch is where it came from
        self._look()

    def keep(self, request: Request, reason: str, endpoint: str) -> bool:
        """Write a batch to a file of its own; return whether it is on disk for good.

        Args:
            request: what was refused.
            reason: of the backend.
            endpoint: of the backend.
        """
        now = self._unix_nano()
        header = {
            "format": FORMAT,
            "version": _VERSION,
            "encoding": request.encoding,
            "spans": request.spans,
            "unix_nano": now,
            "endpoint": endpoint,
            "reason": reason[:_LONGEST_REASON],
        }
        data = json.dumps(header).encode() + b"\n" + request.body
        name = f"{now:020}-{secrets.token_hex(4)}{SUFFIX}"
        with self._lock:
            try:
                self._write(name, data)
            except OSError as error:
                self.failed += 1
                self._trouble.warn("dead letter cannot be kept", spans=request.spans, reason=error.strerror)
                return False
            self.kept += 1
            self._files.append((name, len(data)))
            self._bytes += len(data)
            try:
                self._remove_oldest()
            except OSError as error:  # the new one is kept, and must not be kept again
                self._trouble.warn("dead letters are too many, and cannot be removed", reason=str(error))
        return True

    def size(self) -> tuple[int, int]:
        """Return how many batches are kept, and their bytes."""
        with self._lock:
            return len(self._files), self._bytes

    def _write(self, name: str, data: bytes) -> None:
        part = self._folder / f"{name}.part"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._folder / name)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            # Under neither name: what is not kept is counted otherwise, or tried again.
            for left in (part, self._folder / name):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise

    def _look(self) -> None:
        """Take stock: `replay --remove` and people take files away."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # taken away this moment
                        found.append((entry.name, entry.stat().st_size))
        self._files = sorted(found)  # by time, which the names begin with
        self._bytes = sum(size for _, size in found)

    def _remove_oldest(self) -> None:
        if not self._is_too_much():
            return
        self._look()
        while self._is_too_much():
            name, size = self._files.pop(0)
            self._bytes -= size
            (self._folder / name).unlink(missing_ok=True)
            self.removed += 1
            self._trouble.warn("dead letters are too many, the oldest is removed", removed=name)

    def _is_too_much(self) -> bool:
        return len(self._files) > 1 and (len(self._files) > self._max_files or self._bytes > self._max_bytes)


def parse_dead_letter(data: bytes) -> DeadLetter:
    """Return the batch in a file's content.

    Raises:
        ValueError: it is no dead letter, or not of a version that is known here.
    """
    line, newline, body = data.partition(b"\n")
    if not newline or len(line) > _LONGEST_HEADER:
        raise ValueError("no dead letter: its first line is no header")
    header = cast("Any", json.loads(line))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("no dead letter: its first line is no header")
    if header.get("version") != _VERSION:
        raise ValueError(f"a dead letter of version {header.get('version')!r}, this reader knows {_VERSION}")
    encoding, spans, unix_nano = header.get("encoding"), header.get("spans"), header.get("unix_nano")
    if encoding not in {"protobuf", "json"} or not isinstance(spans, int) or not isinstance(unix_nano, int):
        raise ValueError("no dead letter: its header is not sound")
    return DeadLetter(Request(body, spans, encoding), str(header.get("reason")), str(header.get("endpoint")), unix_nano)
