"""Records on their way out of a lane: copied in one go, and released in one go when their outcome is known."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from drain.accounting.outcome import Outcome
    from drain.accounting.span_metrics import SpanSummary


class Origin(Protocol):
    """The ring that records come from, as far as it is asked for while they are on their way.

    Attributes:
        service: of the producer.
        capacity_slots: of each lane.
    """

    service: str
    capacity_slots: int


@dataclass(slots=True, eq=False)
class Segment:
    """Records that were copied out of a lane in one go, and are released in one go.

    Attributes:
        ring: whose they are.
        lane: which of its lanes.
        spans: how many of them are spans.
        invalid: how many are not.
        sampled_out: how many are spans that are only counted; they are not among `spans`.
        outcome: what became of them all; None until that is known.
        is_delivered: the backend has each of `spans`, for sure.
        summary: what the spans add to the span metrics at their release.
    """

    ring: Origin
    lane: Lane
    spans: int
    invalid: int
    sampled_out: int = 0
    outcome: Outcome | None = None
    is_delivered: bool = False
    summary: SpanSummary | None = None

    @property
    def service(self) -> str:
        """Whose they are."""
        return self.ring.service

    @property
    def is_pressing(self) -> bool:
        """Whether half of the lane waits for a release."""
        return self.lane.unreleased * 2 >= self.ring.capacity_slots


class Lane:
    """The drain's own account of a lane.

    Attributes:
        index: of the lane in its ring.
        unreleased: records copied and not released.
        segments: these records, in the order in which they were copied, which is the order of their release.
        last: position at which copying ends for good, None while there is no such end.
    """

    __slots__ = ("index", "last", "segments", "unreleased")

    def __init__(self, index: int) -> None:
        self.index = index
        self.unreleased = 0
        self.segments: deque[Segment] = deque()
        self.last: int | None = None
