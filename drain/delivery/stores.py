"""What a drain keeps on disk, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.delivery.dead_letters import DeadLetters
    from drain.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Stores:
    """Where batches go that cannot be delivered.

    Attributes:
        spool: for those that wait; None: they wait in the rings.
        dead_letters: for those that were refused for good; None: they are counted as rejected.
        spool_after: seconds that a batch waits for its delivery before it is spooled.
    """

    spool: Spool | None = None
    dead_letters: DeadLetters | None = None
    spool_after: float = 0.0
