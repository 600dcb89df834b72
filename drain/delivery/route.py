"""The way to one destination: what waits for it, and how it does; several destinations need several queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.delivery.breaker import Breaker
    from drain.delivery.job import Job


class Route:
    """What the delivery knows of one destination; guarded by its lock.

    Args:
        destination: of the requests.
        breaker: of this destination alone.

    Attributes:
        destination: as given.
        breaker: as given.
        waiting: parts that nobody sends now, in the order in which they came.
        is_spools_turn: the last that was sent had waited here, so that the next comes from the spool.
        since_suspect: attempts since the last that was to be made with a suspect part.
    """

    def __init__(self, destination: str, breaker: Breaker) -> None:
        self.destination = destination
        self.breaker = breaker
        self.waiting: list[Job] = []
        self.is_spools_turn = False
        self.since_suspect = 0
