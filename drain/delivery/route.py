"""The way to one destination: what waits for it, and how it does; several destinations need several queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drain.delivery.queue import Send, Step, Take, Turns, Wait, next_step, seconds_until_attempt
from drain.delivery.request_size import TimelySpans

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from drain.delivery.breaker import Breaker
    from drain.delivery.job import Job
    from drain.delivery.storing import Storing


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
    """

    def __init__(self, destination: str, breaker: Breaker) -> None:
        self.destination = destination
        self.breaker = breaker
        self.timely = TimelySpans()
        self.waiting: list[Job] = []
        self.is_spools_turn = False
        self.since_suspect = 0


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


class Routes:
    """The ways to all destinations; guarded by the delivery's lock.

    One that is away, or hangs, takes no thread that another needs: for each of the others to which nothing is under way
    one thread is kept, as far as there are as many.

    Args:
        endpoint: for the log.
        make_breaker: of a destination, which the log calls so.
        storing: what is stored for them; None: there is no spool.
        concurrency: how many threads there are.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        endpoint: str,
        make_breaker: Callable[[str], Breaker],
        storing: Storing | None,
        concurrency: int,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._make_breaker = make_breaker
        self._storing = storing
        self._concurrency = concurrency
        self._clock = clock
        self._routes: dict[str, Route] = {}  # in the order of their turns

    def known(self) -> Collection[Route]:
        """Return all of them."""
        return self._routes.values()

    def had_its_turn(self, route: Route) -> None:
        """Let the next turn of a route come after those of the others."""
        self._routes[route.destination] = self._routes.pop(route.destination)

    def try_now(self, endpoint: str) -> None:
        """Let what waits for another attempt wait no longer.

        Args:
            endpoint: where it is sent now.
        """
        self._endpoint = endpoint
        for route in self._routes.values():
            route.breaker.try_now(where(endpoint, route.destination))
            for job in route.waiting:
                job.not_before = min(job.not_before, self._clock())

    def seconds_until_attempt(self) -> float:
        """Return when the next attempt may be made; 0 where nothing waits."""
        self.by_turn()  # makes those of which something is stored
        waits = [self._seconds_of(route) for route in self._routes.values()]
        return min((wait for wait in waits if wait is not None), default=0.0)

    def by_turn(self) -> list[Route]:
        """Return the routes on which there is something to send, whoever has waited longest for a turn first."""
        stored = () if self._storing is None else self._storing.destinations()
        for destination in stored:
            self.to(destination)
        return [route for route in self._routes.values() if route.waiting or route.destination in stored]

    def next_step(self, route: Route, grips: Sequence[Grip]) -> Step:
        """Return what a thread that has nothing to send does on a route.

        Args:
            route: of `by_turn`.
            grips: of all threads.
        """
        under_way = [grip for grip in grips if grip.route is route]
        others = {id(grip.route) for grip in grips} | {id(route)}
        if len(under_way) >= max(1, self._concurrency - len(self._routes) + len(others)):
            return Wait(None)  # a thread comes free with a change
        turns = Turns(
            is_spools=route.is_spools_turn,
            since_suspect=route.since_suspect,
            suspects_running=sum(grip.is_suspect for grip in under_way),
            most_suspects=max(1, self._concurrency // 2),
        )
        # What was taken out and delivered in part waits in memory: of a whole spool that would be too much.
        in_parts = sum(job.entry is not None for job in route.waiting)
        is_full = in_parts >= self._concurrency
        spool = None if self._storing is None or is_full else self._storing.view(route.destination)
        return next_step(route.waiting, route.breaker.state(), spool, turns, self._clock())

    def to(self, destination: str) -> Route:
        """Return the way to a destination, which there is from then on."""
        route = self._routes.get(destination)
        if route is None:
            breaker = self._make_breaker(where(self._endpoint, destination))
            route = self._routes[destination] = Route(destination, breaker)
        return route

    def _seconds_of(self, route: Route) -> float | None:
        breaker = route.breaker.state()
        waits = [seconds_until_attempt(route.waiting, breaker, self._clock())]
        if self._storing is not None and not breaker.is_open:
            waits.append(self._storing.seconds_until_take(route.destination))
        seconds = min((wait for wait in waits if wait is not None), default=None)
        if seconds is None and breaker.is_open:
            seconds = breaker.untried_wait  # what waits is in the spool, or not yet there
        return seconds


def where(endpoint: str, destination: str) -> str:
    """Return what the log calls a destination: one of several endpoints by its name, a partition beside its topic."""
    is_endpoint = destination and any(one.startswith(destination) for one in endpoint.split(", "))
    return destination if is_endpoint else f"{endpoint} {destination}".strip()
