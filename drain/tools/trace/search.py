"""The spans of a trace, out of whatever holds spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.otlp.encoder import Encoder
from drain.replay.sources import SourceError
from drain.rings.directory import RING_SUFFIX
from drain.spool.copied import SQLITE_MAGIC, beginning, copied
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
                # Not opened to see what it is: whoever may make rings could put a pipe there, which waits for ever.
                is_ring = path.name.endswith(RING_SUFFIX)
                kind = b"" if is_ring or path.is_fifo() else beginning(path)  # open_source copies a pipe
                if is_ring or kind.startswith(RING_MAGIC):
                    yield from self._of_ring(path)
                else:
                    copy = copied(path, self._folder) if kind.startswith(SQLITE_MAGIC) else path
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
