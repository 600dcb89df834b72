"""Records on their way out of a lane: copied in one go, and released in one go when their outcome is known."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.accounting.outcome import Outcome
    from drain.accounting.span_metrics import SpanSummary
    from drain.rings.ring import Ring


@dataclass(slots=True, eq=False)
class Segment:
    """Records that were copied out of a lane in one go, and are released in one go.

    Attributes:
        ring: whose they are.
        lane: which of its lanes.
        spans: how many of them are spans.
        invalid: how many are not.
        outcome: what became of them all; None until that is known.
        summary: what the spans add to the span metrics at their release.
    """

    ring: Ring
    lane: Lane
    spans: int
    invalid: int
    outcome: Outcome | None = None
    summary: SpanSummary | None = None


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
