"""The way to one destination: what waits for it, and how it does; several destinations need several queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drain.delivery.request_size import TimelySpans

if TYPE_CHECKING:
    from drain.delivery.breaker import Breaker
    from drain.delivery.job import Job
    from drain.delivery.queue import Send, Take


class Route:
    """What the delivery knows of one destination; guarded by its lock.

    Args:
        destination: of the requests.
        breaker: of this destination alone.

    Attributes:
        destination: as given.
        breaker: as given.
        timely: how many spans it takes in time: one that hangs makes no request to another smaller.
        waiting: parts that nobody sends now, in the order in which they came.
        is_spools_turn: the last that was sent had waited here, so that the next comes from the spool.
        since_suspect: attempts since the last that was to be made with a suspect part.
        question: an empty request by which it is known whether it is there, while nothing else is sent; or None.
    """

    def __init__(self, destination: str, breaker: Breaker) -> None:
        self.destination = destination
        self.breaker = breaker
        self.timely = TimelySpans()
        self.waiting: list[Job] = []
        self.is_spools_turn = False
        self.since_suspect = 0
        self.question: Job | None = None


@dataclass(slots=True, eq=False)
class Grip:
    """What a thread has in hand for one destination.

    Attributes:
        route: to it.
        step: what is to be done: a part that is sent, or one that is taken out of the spool.
        probe: what the breaker said then.
        job: what it sends; None: it is not yet out of the spool.
        is_suspect: of the job, when it was taken up.
    """

    route: Route
    step: Send | Take
    probe: int
    job: Job | None = None
    is_suspect: bool = False


def where(endpoint: str, destination: str) -> str:
    """Return what the log calls a destination: one of several endpoints by its name, a partition beside its topic."""
    is_endpoint = destination and any(one.startswith(destination) for one in endpoint.split(", "))
    return destination if is_endpoint else f"{endpoint} {destination}".strip()
