"""A batch on its way: where its attempts stand, where its spans are kept, and what has come of it so far."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drain.accounting.outcome import Outcome

if TYPE_CHECKING:
    from collections import deque

    from drain.delivery.batch import Batch
    from drain.otlp.request import Request
    from drain.spool.spool import Entry


class Sending(enum.Enum):
    """Where a batch's attempts stand."""

    WAITING = "waiting"
    RUNNING = "running"
    CONCLUDED = "concluded"
    """All of it has its final verdict."""


class Keeping(enum.Enum):
    """Where a batch's spans are safe meanwhile. Apart from `Sending`: a slow attempt goes on while they are stored."""

    IN_RINGS = "in rings"
    STORING = "storing"
    """Handed to the spool, which has not answered yet."""
    STORED = "stored"


@dataclass(slots=True, eq=False)
class Job:
    """A batch on its way; all of it changes under the delivery's lock, apart from what a thread does that runs it.

    Attributes:
        batch: to be settled in the rings; None when it was, or came out of the spool.
        entry: in the spool, once it is stored.
        spans: of the batch.
        parts: what is left to be sent; one request, as long as it was not too large.
        born: when it was first to be sent, on the delivery's clock.
        so_far: what has become of the parts that are not left.
        failures: attempts in vain.
        not_before: when it may be sent again.
        store_not_before: when it may be handed to the spool again.
        sending: where its attempts stand.
        keeping: where its spans are.
    """

    batch: Batch | None
    entry: Entry | None
    spans: int
    parts: deque[Request]
    born: float
    so_far: Outcome = field(default_factory=Outcome)
    failures: int = 0
    not_before: float = 0.0
    store_not_before: float = 0.0
    sending: Sending = Sending.WAITING
    keeping: Keeping = Keeping.IN_RINGS
