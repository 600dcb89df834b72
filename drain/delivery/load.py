"""How much is on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.delivery.job import Job


class Load(NamedTuple):
    """How much is on its way.

    Attributes:
        change: of when.
        pressing: batches of which a part runs, or waits for its first attempt.
        waiting_bytes: of parts that nobody sends now.
        failed_bytes: of these, those that have failed.
    """

    change: int = -1
    pressing: int = 0
    waiting_bytes: int = 0
    failed_bytes: int = 0

    @classmethod
    def of(cls, change: int, in_hand: Iterable[Job], waiting: Iterable[Job]) -> Load:
        """Return the load of these parts.

        Args:
            change: the last one.
            in_hand: parts that are being sent.
            waiting: those that wait in memory.
        """
        pressing = {job.batch for job in in_hand}
        untried_bytes = failed_bytes = 0
        for job in waiting:
            if job.failures:
                failed_bytes += job.memory_bytes
            else:
                untried_bytes += job.memory_bytes
                pressing.add(job.batch)
        pressing.discard(None)  # of what came out of the spool
        return cls(change, len(pressing), untried_bytes + failed_bytes, failed_bytes)
