"""A part of a batch on its way: where its attempts stand, where its spans are kept, and what has come of it so far."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from drain.accounting.outcome import Outcome
from drain.delivery.request_size import ANY_SIZE

if TYPE_CHECKING:
    from drain.delivery.batch import Batch
    from drain.exporters.protocol import Result
    from drain.otlp.request import Request
    from drain.spool.spool import Entry


class Sending(enum.Enum):
    """Where a part's attempts stand."""

    WAITING = "waiting"
    RUNNING = "running"
    CONCLUDED = "concluded"
    """All of it has its final verdict."""
    GONE = "gone"
    """It is settled, or what is left to do is the spool's."""


class Keeping(enum.Enum):
    """Where a part's spans are safe meanwhile. Apart from `Sending`: a slow attempt goes on while they are stored."""

    IN_RINGS = "in rings"
    STORING = "storing"
    """Handed to the spool, which has not answered yet."""
    STORED = "stored"


@dataclass(slots=True, eq=False)
class Job:
    """A part on its way; all of it changes under the delivery's lock, apart from what a thread does that runs it.

    Attributes:
        request: all of it.
        born: when it was first to be sent, on the delivery's clock.
        batch: that it is of; None when that knows what became of it, or it came out of the spool.
        number: of the part, in its batch.
        entry: in the spool, once it is stored.
        left: what is to be sent; one request, as long as it was not too large.
        so_far: what has become of that which is not left.
        failures: attempts in vain.
        own_failures: of them, those beside which others got through.
        sure_failures: of these, those beside which most others got through.
        failed_at: when the last attempt failed.
        not_before: when it may be sent again.
        is_told_when: the backend has said so, and not this side.
        store_not_before: when it may be handed to the spool again.
        refusal: of the first of `left`, which is not sent again and waits to be kept as a dead letter; else None.
        is_doubtful: of an attempt, or one of an earlier process, nobody knows what came: it may be there already, and
            goes to no other destination.
        most_spans: that a request may have, since the backend's answers look as if it were too large.
        sending: where its attempts stand.
        keeping: where its spans are.
    """

    request: Request
    born: float
    batch: Batch | None = None
    number: int = 0
    entry: Entry | None = None
    left: deque[Request] = field(init=False)
    so_far: Outcome = field(default_factory=Outcome)
    failures: int = 0
    own_failures: int = 0
    sure_failures: int = 0
    failed_at: float = float("-inf")
    not_before: float = 0.0
    is_told_when: bool = False
    store_not_before: float = 0.0
    refusal: Result | None = None
    is_doubtful: bool = False
    most_spans: int = ANY_SIZE
    sending: Sending = Sending.WAITING
    keeping: Keeping = Keeping.IN_RINGS

    def __post_init__(self) -> None:
        """All of it is to be sent."""
        self.left = deque((self.request,))

    @property
    def spans(self) -> int:
        """How many spans it has."""
        return self.request.spans

    @property
    def memory_bytes(self) -> int:
        """How much of it is in memory."""
        return sum(request.memory_bytes for request in self.left)

    def release_whole(self) -> None:
        """Keep no body but those of what is left: the spool has the whole."""
        if self.entry is not None:
            self.request = self.request.without_body()
            self.entry = replace(self.entry, request=self.request)

    @property
    def may_move(self) -> bool:
        """Whether it may go to another destination than its own: it is at none for sure."""
        is_whole = len(self.left) == 1 and not any(self.so_far)
        return is_whole and not self.is_doubtful and self.refusal is None and self.spans > 0

    @property
    def is_untried(self) -> bool:
        """Whether no attempt has failed."""
        return not self.failures

    @property
    def is_suspect(self) -> bool:
        """Whether it failed while others got through: it may be what is wrong, and not the backend."""
        return self.own_failures > 0

    def piece(self, request: Request, number: int) -> Job:
        """Return the job of a piece of what is left; for another destination it is as one that was never tried."""
        if request.destination != self.request.destination:
            return Job(request, self.born, self.batch, number, is_doubtful=self.is_doubtful)
        piece = replace(self, request=request, number=number, so_far=Outcome())
        piece.keeping, piece.sending = Keeping.IN_RINGS, Sending.WAITING
        return piece

    def ready_in(self, now: float, back_at: float) -> float:
        """Return the seconds until it may be sent again.

        Args:
            now: the time.
            back_at: when the backend was back last: what waited for nothing else waits no longer.
        """
        waits_for_backend = not (self.is_suspect or self.is_told_when)
        if waits_for_backend and back_at >= self.failed_at:
            return 0.0
        return max(0.0, self.not_before - now)
