"""Encoded records of several origins, gathered to one request."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drain.accounting.outcome import Outcome
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.otlp.encoder import Encoded
    from drain.otlp.request import Encoding


class BatchSegment(Protocol):
    """Spans of one service, which learn together what became of them.

    Attributes:
        spans: how many.
        invalid: how many records beside them are no spans.
        sampled_out: how many spans beside them are only counted.
        outcome: what became of them all; None until that is known.
    """

    spans: int
    invalid: int
    sampled_out: int
    outcome: Outcome | None

    @property
    def service(self) -> str:
        """Whose they are."""

    @property
    def is_pressing(self) -> bool:
        """Whether they hold up what comes behind them."""


@dataclass(slots=True)
class Batch:
    """A request, and the records that are to be released when it is done with.

    Attributes:
        request: what is sent.
        segments: its spans, in its order.
    """

    request: Request
    segments: Sequence[BatchSegment]

    def spans_by_service(self) -> dict[str, int]:
        """Return how many of the request's spans each service has."""
        spans: Counter[str] = Counter()
        for segment in self.segments:
            spans[segment.service] += segment.spans
        return dict(spans)

    def is_pressing(self) -> bool:
        """Whether it holds up what comes behind any of its segments."""
        return any(segment.is_pressing for segment in self.segments)

    def settle(self, outcome: Outcome) -> None:
        """Say what became of the request's spans.

        A partial success tells how many were rejected, not which: they are put down to the first segments.

        Args:
            outcome: adds up to `request.spans`.
        """
        spooled, rejected, dead_lettered = outcome.spooled, outcome.rejected, outcome.dead_lettered
        for segment in self.segments:
            left = segment.spans
            segment_rejected = min(left, rejected)
            left -= segment_rejected
            segment_dead = min(left, dead_lettered)
            left -= segment_dead
            segment_spooled = min(left, spooled)
            left -= segment_spooled
            rejected -= segment_rejected
            dead_lettered -= segment_dead
            spooled -= segment_spooled
            segment.outcome = Outcome(
                left, segment_spooled, segment_rejected, segment_dead, segment.invalid, segment.sampled_out
            )


class Batcher:
    """Gathers encoded segments to batches.

    Args:
        encoding: of all segments.
        max_spans: a batch with as many is full.
        max_bytes: of a batch, before compression; only a segment that is larger by itself exceeds it.

    Attributes:
        max_spans: as given, until somebody changes it.
        full: batches that are to be sent.
        spans: of the open batch.
        is_urgent: somebody needs the open batch to be sent.
    """

    def __init__(self, encoding: Encoding, max_spans: int, max_bytes: int) -> None:
        self._encoding = encoding
        self.max_spans = max_spans
        self._max_bytes = max_bytes
        self._bodies: list[bytes] = []
        self._segments: list[BatchSegment] = []
        self._bytes = 0
        self._opened_at = 0.0
        self.full: deque[Batch] = deque()
        self.spans = 0
        self.is_urgent = False

    def add(self, segment: BatchSegment, encoded: Encoded, now: float) -> None:
        """Put a segment into the open batch, or into a new one if it does not fit; a batch that is full goes to `full`.

        Args:
            segment: has at least one span.
            encoded: these spans.
            now: seconds of the clock that `age` is asked with.
        """
        size = len(encoded.body)
        if self._segments and (self._bytes + size > self._max_bytes or self.spans + encoded.spans > self.max_spans):
            self.close()
        if not self._segments:
            self._opened_at = now
        self._bodies.append(encoded.body)
        self._segments.append(segment)
        self._bytes += size
        self.spans += encoded.spans
        if self.spans >= self.max_spans or self._bytes >= self._max_bytes:
            self.close()

    def age(self, now: float) -> float:
        """Return for how many seconds the open batch has waited for more; 0 if there is none."""
        return now - self._opened_at if self._segments else 0.0

    def close(self) -> None:
        """Let the open batch be full, if there is one."""
        if not self._segments:
            return
        if self._encoding == "json":
            body = b'{"resourceSpans":[' + b",".join(self._bodies) + b"]}\n"
        else:
            body = b"".join(self._bodies)
        self.full.append(Batch(Request(body, self.spans, self._encoding), self._segments))
        self._bodies, self._segments = [], []
        self._bytes = self.spans = 0
        self.is_urgent = False
