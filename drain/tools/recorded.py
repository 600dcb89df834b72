"""The spans that a ring or a file has, as sampling rules see them; nothing is taken out of a ring, nor written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.encode_plan import find_spans, stated_threshold
from drain.otlp.encoder import Encoder
from drain.otlp.transcode import in_encoding
from drain.replay.sources import SourceError, files_of, read
from drain.sampling.seen_span import seen_spans
from drain.tools.looking import standard_input
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.standard_input import STANDARD_INPUT
from drain.tools.looking.temporary_folder import temporary_folder
from drain.tools.report.rings import RING_MAGIC
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.present_bits import present_bits
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from drain.sampling.seen_span import SeenSpan
    from ringbuf.layout.layout import SpanLayout

_BATCH_SPANS: Final = 4096


class Recorded:
    """The spans of files of any kind that `replay` reads, and of rings, those of living producers too.

    Args:
        paths: of the files, or folders of such; `-` is standard input. One that is named twice is read once.
        progress: is told how many bytes of standard input have come.

    Attributes:
        notes: what could not be read, and why.
    """

    def __init__(self, paths: Iterable[Path], progress: Callable[[int], None] = lambda _: None) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._progress = progress
        self.notes: list[str] = []

    def spans(self) -> Iterator[SeenSpan]:
        """Yield what can be read, file by file."""
        for path in self._paths:
            if str(path) == STANDARD_INPUT:
                yield from self._of_copy(standard_input.NAME, lambda to: standard_input.copy(to, self._progress))
                continue
            if path.is_fifo():
                yield from self._of_copy(str(path), partial(standard_input.copy_pipe, path))
                continue
            for file in files_of([path]):
                yield from self._of(file, str(file))

    def _of_copy(self, name: str, copy: Callable[[IO[bytes]], None]) -> Iterator[SeenSpan]:
        with temporary_folder("ringbuf-sampling-") as folder:
            made = folder / "copy"
            try:
                with made.open("wb") as file:
                    copy(file)
            except OSError as error:
                self.notes.append(f"{name}: {error.strerror}")
                return
            yield from self._of(made, name)

    def _of(self, path: Path, name: str) -> Iterator[SeenSpan]:
        try:
            with path.open("rb") as file:
                is_ring = file.read(len(RING_MAGIC)) == RING_MAGIC
            yield from self._of_ring(path, name) if is_ring else self._of_file(path, name)
        except (SourceError, RingBufferError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else getattr(error, "reason", None)
            self.notes.append(f"{name}: {reason or error}")

    def _of_ring(self, path: Path, name: str) -> Iterator[SeenSpan]:
        with ObservedRing(path) as ring:
            encoder = Encoder(ring.layout, ring.resource, stated_threshold(ring.header))
            invalid = 0
            for lane in ring.lanes:
                for peeked in ring.rest(lane):
                    encoded = encoder.encode(peeked.records)
                    invalid += encoded.invalid
                    spans = seen_spans(TracesData.FromString(encoded.body))
                    for span, is_alone in zip(spans, _alone(peeked.records, ring.layout), strict=True):
                        yield replace(span, is_alone=True) if is_alone else span
            if invalid:
                self.notes.append(f"{name}: {counted(invalid, 'record is no span', 'records are no spans')}")

    def _of_file(self, path: Path, name: str) -> Iterator[SeenSpan]:
        for piece in read(path, "protobuf", _BATCH_SPANS):
            if piece.note:
                self.notes.append(f"{name}: {piece.note}")
            if piece.request is not None:
                try:
                    yield from seen_spans(TracesData.FromString(in_encoding(piece.request, "protobuf").body))
                except (ValueError, DecodeError) as error:
                    self.notes.append(f"{name}: {error}")


def _alone(records: np.ndarray, layout: SpanLayout) -> np.ndarray:
    """Return which spans of these records are their whole trace: bool, one for each span, in the order of OTLP."""
    found = records[find_spans(records, layout)]
    if any(attribute.type == "scope" for attribute in layout.attributes):  # then they have another order
        return np.zeros(len(found), np.bool_)
    bit = np.uint32(lib.RB_PRESENT_ALONE & present_bits(len(layout.attributes)))
    alone: np.ndarray = (found["present"] & bit) != 0
    return alone
