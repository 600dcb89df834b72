"""The spans of a trace, out of whatever holds spans."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from drain.otlp.encoder import Encoder
from drain.replay.sources import SourceError
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.span_filter import SpanFilter
from drain.tools.report.rings import RING_MAGIC
from drain.tools.report.sources import open_source
from drain.tools.report.spans import Keys, spans_of
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from drain.tools.report.spans import Span

_SQLITE_MAGIC: Final = b"SQLite format 3\0"
_WAL_HEADER_BYTES: Final = 32  # with the salts, which change when the log begins anew
_TRIES: Final = 5


class Search:
    """Looks for the spans of the traces whose ids begin so.

    Args:
        digits: of the trace id, its first ones.
        folder: for what must be copied before it can be read.

    Attributes:
        notes: what could not be read, and why.
    """

    def __init__(self, digits: str, folder: Path) -> None:
        self._wanted = SpanFilter(trace=digits)
        self._digits = digits
        self._folder = folder
        self.notes: list[str] = []

    def of(self, paths: Iterable[Path]) -> Iterator[Span]:
        """Yield the spans that these files have; files that are gone by now have none."""
        for path in dict.fromkeys(paths):
            try:
                kind = _beginning(path)
                if kind.startswith(RING_MAGIC):
                    yield from self._of_ring(path)
                else:
                    copy = self._copied(path) if kind.startswith(_SQLITE_MAGIC) else path
                    yield from self._of_file(path, copy)
            except FileNotFoundError:
                continue
            except (SourceError, RingBufferError, OSError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or getattr(
                    error, "reason", str(error)
                )
                self.notes.append(f"{path}: {reason}")

    def _of_ring(self, path: Path) -> Iterator[Span]:
        with ObservedRing(path) as ring:
            encoder, mask = Encoder(ring.layout, ring.resource), self._wanted.of(ring.layout)
            for lane in ring.lanes:
                for peeked in ring.rest(lane):
                    encoded = encoder.encode_json(peeked.records[mask(peeked.records)])
                    if encoded.spans:
                        yield from self._matching(b'{"resourceSpans":[' + encoded.body + b"]}")

    def _of_file(self, path: Path, copy: Path) -> Iterator[Span]:
        source = open_source(str(path), copy, self._folder, [])
        for number, line in source.lines():
            if self._digits.encode() in line.lower():
                try:
                    yield from self._matching(line)
                except ValueError as error:
                    source.note(f"line {number}: {error}")
        self.notes += [f"{source.name}: {note}" for note in source.notes]

    def _matching(self, line: bytes) -> Iterator[Span]:
        return (span for span in spans_of(line, Keys()) if span.trace_id.startswith(self._digits))

    def _copied(self, path: Path) -> Path:
        """Copy a spool, that of a running drain too, so that the copy is of one moment.

        Its drain has the database for itself. While neither the database nor the beginning of its log changes, copies
        of the two fit together: what is behind the log's last whole entry does not count.

        Raises:
            SourceError: there is no room for it, or it changes all the time.
        """
        log = path.with_name(f"{path.name}-wal")
        copy = self._folder / f"{len(list(self._folder.iterdir()))}.db"
        for _ in range(_TRIES):
            before = _state(path, log)
            if 2 * path.stat().st_size > shutil.disk_usage(self._folder).free:
                raise SourceError(
                    f"there is no room in {self._folder.parent} for a copy of the spool; name another by TMPDIR"
                )
            with suppress(FileNotFoundError):
                shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
            shutil.copyfile(path, copy)
            if _state(path, log) == before:
                return copy
        raise SourceError("the drain has changed the spool at every try to copy it: look again")


def _beginning(path: Path, count: int = len(_SQLITE_MAGIC)) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _state(path: Path, log: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    try:
        begun = _beginning(log, _WAL_HEADER_BYTES)
    except FileNotFoundError:
        begun = b""
    return status.st_mtime_ns, status.st_size, begun
