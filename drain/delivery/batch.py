"""Encoded records of several origins, gathered to a batch: one part for each destination, settled together."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Union

from drain.accounting.outcome import Outcome
from drain.otlp.batch_number import BatchNumbers
from drain.otlp.copied_batch import CopiedBatch
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.otlp.batch_number import BatchNumber
    from drain.otlp.encoder import Encoded
    from drain.otlp.request import Encoding

_WORTH_A_LOOK: Final = 8  # an eighth of a batch

Share = Union["Encoded", CopiedRecords]
"""Spans of one service for one destination."""


class BatchSegment(Protocol):
    """Spans of one service, which learn together what became of them.

    Attributes:
        spans: how many.
        invalid: how many records beside them are no spans.
        sampled_out: how many spans beside them are only counted.
        outcome: what became of them all; None until that is known.
        is_delivered: each of them, for sure: of a batch of which a part met something else nobody knows which did.
    """

    spans: int
    invalid: int
    sampled_out: int
    outcome: Outcome | None
    is_delivered: bool

    @property
    def service(self) -> str:
        """Whose they are."""

    @property
    def is_pressing(self) -> bool:
        """Whether they hold up what comes behind them."""


class Batch:
    """The parts of one batch, and the records that are released when the last of them has its verdict.

    Args:
        parts: what is sent, one request a destination, or two: of what is encoded and of what is not.
        segments: their spans: of each service as many as the parts have of it together.

    Attributes:
        parts: as given; whoever sends takes them out, so that none stays in memory until all have their verdict.
        segments: as given.
        spans: of all parts.

    Raises:
        ValueError: there is no part, so that nobody would ever settle it.
    """

    def __init__(self, parts: Sequence[Request], segments: Sequence[BatchSegment]) -> None:
        if not parts:
            raise ValueError("a batch has at least one part")
        self.parts = parts
        self.segments = segments
        self.spans = sum(part.spans for part in parts)
        self._services = [part.services for part in parts]
        self._verdicts: list[Outcome | None] = [None] * len(parts)
        self._part_of = list(range(len(parts)))  # each verdict, where a part has several

    def is_pressing(self) -> bool:
        """Whether it holds up what comes behind any of its segments."""
        return any(segment.is_pressing for segment in self.segments)

    def divide(self, part: int, count: int, so_far: Outcome) -> range:
        """Let what is left of a part be decided in pieces.

        Args:
            part: its number, or that of a piece.
            count: how many pieces.
            so_far: what has become of that which is not left.

        Returns:
            the numbers that `decide` is called with for them.
        """
        numbers = range(len(self._verdicts), len(self._verdicts) + count)
        self._part_of += [self._part_of[part]] * count
        self._verdicts += [None] * count
        self._verdicts[part] = so_far
        return numbers

    def decide(self, part: int, outcome: Outcome) -> bool:
        """Say what became of a part; the last to be decided settles the segments.

        A partial success tells how many were rejected, not which: they are put down to the first services and segments.

        Args:
            part: its number, or that of a piece.
            outcome: adds up to its spans.

        Returns:
            whether all parts are decided.
        """
        self._verdicts[part] = outcome
        if None in self._verdicts:
            return False
        is_delivered = all(verdict is not None and verdict.delivered == sum(verdict) for verdict in self._verdicts)
        of_parts = [_Fates() for _ in self._services]
        for number, verdict in zip(self._part_of, self._verdicts, strict=True):
            of_parts[number].add(_Fates.of(verdict or Outcome()))
        became: dict[str, _Fates] = {}
        for services, fates in zip(self._services, of_parts, strict=True):
            for service, spans in services.items():
                became.setdefault(service, _Fates()).add(fates.take(spans))
        for segment in self.segments:
            fates = became[segment.service].take(segment.spans)
            segment.outcome = Outcome(
                fates.delivered,
                fates.spooled,
                fates.rejected,
                fates.dead_lettered,
                segment.invalid,
                segment.sampled_out,
            )
            segment.is_delivered = is_delivered
        return True


@dataclass(slots=True)
class _Fates:
    """What became of spans of which nobody knows which met what; the fields are in the order in which they go."""

    rejected: int = 0
    dead_lettered: int = 0
    spooled: int = 0
    delivered: int = 0

    @classmethod
    def of(cls, outcome: Outcome) -> _Fates:
        return cls(outcome.rejected, outcome.dead_lettered, outcome.spooled, outcome.delivered)

    def take(self, spans: int) -> _Fates:
        """Return the fates of so many spans, and have them no longer."""
        taken = _Fates()
        for name in self.__slots__:
            count = min(spans, getattr(self, name))
            setattr(taken, name, count)
            setattr(self, name, getattr(self, name) - count)
            spans -= count
        return taken

    def add(self, other: _Fates) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class _OpenPart:
    """What the open batch has for one destination, of what is encoded or of what is not."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._copies: list[CopiedRecords] = []
        self._services: Counter[str] = Counter()

    def add(self, share: Share, service: str) -> None:
        if isinstance(share, CopiedRecords):
            self._copies.append(share)
        else:
            self._bodies.append(share.body)
        self._services[service] += share.spans

    def request(self, encoding: Encoding, destination: str, number: BatchNumber) -> Request:
        if self._copies:
            copied = CopiedBatch(self._copies)
            return Request.of_records(copied, self._services.total(), destination, self._services, number)
        if encoding == "json":
            # Copied once: `+` would copy megabytes twice.
            body = b"".join((b'{"resourceSpans":[', b",".join(self._bodies), b"]}\n"))
        else:
            body = b"".join(self._bodies)
        return Request(body, self._services.total(), encoding, destination, self._services, batch=number)


class Batcher:
    """Gathers encoded segments to batches.

    Args:
        encoding: of all segments.
        max_spans: a batch with as many is full.
        max_bytes: of a batch, before compression, and of its records where these are copied; only a segment that is
            larger by itself exceeds it.

    Attributes:
        max_spans: as given, until somebody changes it.
        max_bytes: the same.
        full: batches that are to be sent.
        spans: of the open batch.
        is_urgent: somebody needs the open batch to be sent.
    """

    def __init__(self, encoding: Encoding, max_spans: int, max_bytes: int) -> None:
        self._encoding = encoding
        self.max_spans = max_spans
        self.max_bytes = max_bytes
        self._parts: dict[tuple[str, type], _OpenPart] = {}  # by destination and kind of share
        self._segments: list[BatchSegment] = []
        self._bytes = 0
        self._opened_at = 0.0
        self.full: deque[Batch] = deque()
        self.spans = 0
        self.is_urgent = False
        self._numbers = BatchNumbers()

    def add(self, segment: BatchSegment, shares: Sequence[tuple[str, Share]], now: float) -> None:
        """Put a segment into the open batch, or into a new one if it does not fit; a batch that is full goes to `full`.

        Args:
            segment: has at least one span.
            shares: these spans, by destination.
            now: seconds of the clock that `age` is asked with.
        """
        size = sum(share.size for _, share in shares)
        if self._segments and (self._bytes + size > self.max_bytes or self.spans + segment.spans > self.max_spans):
            self.close()
        if not self._segments:
            self._opened_at = now
        for destination, share in shares:
            if share.spans:
                self._parts.setdefault((destination, type(share)), _OpenPart()).add(share, segment.service)
        self._segments.append(segment)
        self._bytes += size
        self.spans += segment.spans
        if self.spans >= self.max_spans or self._bytes >= self.max_bytes:
            self.close()

    def room(self, span_bytes: int) -> int:
        """Return how many spans the open batch still takes, or a new one where that is worth no look at a ring.

        Args:
            span_bytes: of each, about; 0: nobody knows.
        """
        whole = max(1, min(self.max_spans, self.max_bytes // max(1, span_bytes)))
        left = min(self.max_spans - self.spans, (self.max_bytes - self._bytes) // max(1, span_bytes))
        return left if left * _WORTH_A_LOOK >= whole else whole

    def age(self, now: float) -> float:
        """Return for how many seconds the open batch has waited for more; 0 if there is none."""
        return now - self._opened_at if self._segments else 0.0

    def close(self) -> None:
        """Let the open batch be full, if there is one."""
        if not self._segments:
            return
        number = self._numbers.next(self.spans)
        requests = []
        for (destination, _), part in self._parts.items():
            requests.append(part.request(self._encoding, destination, number))
            number = number.after(requests[-1].spans)
        self.full.append(Batch(requests, self._segments))
        self._parts, self._segments = {}, []
        self._bytes = self.spans = 0
        self.is_urgent = False
