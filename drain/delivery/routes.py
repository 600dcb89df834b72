"""The ways to all destinations: whose turn it is, and what is done then."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drain.delivery.breaker import BreakerState
from drain.delivery.queue import Send, Take, Turns, Wait, Which, is_question_due, next_step, seconds_until_attempt
from drain.delivery.route import Route, where

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from drain.delivery.breaker import Breaker
    from drain.delivery.hand_over import HandOver
    from drain.delivery.queue import Step
    from drain.delivery.route import Grip
    from drain.delivery.storing import Storing


class Routes:
    """The ways to all destinations; guarded by the delivery's lock.

    One that is away, or hangs, takes no thread that another needs: for each of the others to which nothing is under way
    one thread is kept, as far as there are as many.

    Args:
        endpoint: for the log.
        make_breaker: of a destination, which the log calls so.
        storing: what is stored for them; None: there is no spool.
        hand_over: knows which are gone, and which are left to the others.
        concurrency: how many threads there are.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        endpoint: str,
        make_breaker: Callable[[str], Breaker],
        storing: Storing | None,
        hand_over: HandOver,
        concurrency: int,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._make_breaker = make_breaker
        self._storing = storing
        self._hand_over = hand_over
        self._concurrency = concurrency
        self._clock = clock
        self._answers_of_gone = 0
        self._routes: dict[str, Route] = {}  # in the order of their turns

    def known(self) -> Collection[Route]:
        """Return all of them."""
        return self._routes.values()

    def had_its_turn(self, route: Route) -> None:
        """Let the next turn of a route come after those of the others."""
        self._routes.pop(route.destination, None)
        self._routes[route.destination] = route

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

    @property
    def answers(self) -> int:
        """How often any destination took or refused something."""
        return self._answers_of_gone + sum(route.breaker.answers for route in self._routes.values())

    def by_turn(self) -> list[Route]:
        """Return the routes on which there is something to send, whoever has waited longest for a turn first."""
        stored = () if self._storing is None else self._storing.destinations()
        for route in tuple(self._routes.values()):
            # Addresses come and go: of those that have gone, nothing is to stay.
            if not route.waiting and route.destination not in stored and self._hand_over.is_gone(route.destination):
                self._answers_of_gone += self._routes.pop(route.destination).breaker.answers
                if self._storing is not None:
                    self._storing.forget_destination(route.destination)
        for destination in stored:
            self.to(destination)
        return [route for route in self._routes.values() if route.waiting or route.destination in stored]

    def has_more(self, route: Route) -> bool:
        """Return whether there is something to send on a route."""
        is_stored = self._storing is not None and route.destination in self._storing.destinations()
        return bool(route.waiting) or is_stored

    def next_step(self, route: Route, under_way: Mapping[Route, Sequence[Grip]]) -> Step:
        """Return what a thread that has nothing to send does on a route.

        Args:
            route: of `by_turn`.
            under_way: what all threads have in hand; one at least for each route that is there.
        """
        mine = under_way.get(route, ())
        others = len(under_way) + (route not in under_way)
        if len(mine) >= max(1, self._concurrency - len(self._routes) + others):
            return Wait(None)  # a thread comes free with a change
        breaker = self._breaker_of(route)
        question = route.question
        # Before all that waits: who is back is to be known, however much there is to be moved.
        if question is not None and is_question_due(question, breaker, self._clock()):
            return Send(question)
        if self._hand_over.is_left(route.destination):
            move = next((job for job in route.waiting if job.may_move), None)
            if move is not None:
                return Send(move, is_move=True)
            if self._storing is not None and self._storing.has_sure(route.destination):
                return Take(Which.SURE)
        turns = Turns(
            is_spools=route.is_spools_turn,
            since_suspect=route.since_suspect,
            suspects_running=sum(grip.is_suspect for grip in mine),
            most_suspects=max(1, self._concurrency // 2),
        )
        # What was taken out and delivered in part waits in memory: of a whole spool that would be too much.
        in_parts = sum(job.entry is not None for job in route.waiting)
        is_full = in_parts >= self._concurrency
        spool = None if self._storing is None or is_full else self._storing.view(route.destination)
        return next_step(route.waiting, breaker, spool, turns, self._clock())

    def _breaker_of(self, route: Route) -> BreakerState:
        # Of one that is gone nothing is tried: what is for it is cut, and goes to the others.
        if self._hand_over.is_gone(route.destination):
            return BreakerState(back_at=math.inf)  # nothing waits for it any more
        return route.breaker.state()

    def to(self, destination: str) -> Route:
        """Return the way to a destination, which there is from then on."""
        route = self._routes.get(destination)
        if route is None:
            breaker = self._make_breaker(where(self._endpoint, destination))
            route = self._routes[destination] = Route(destination, breaker)
        return route

    def _seconds_of(self, route: Route) -> float | None:
        breaker = self._breaker_of(route)
        waits = [seconds_until_attempt(route.waiting, breaker, self._clock())]
        if self._storing is not None and not breaker.is_open:
            waits.append(self._storing.seconds_until_take(route.destination))
        seconds = min((wait for wait in waits if wait is not None), default=None)
        if seconds is None and breaker.is_open:
            seconds = breaker.untried_wait  # what waits is in the spool, or not yet there
        return seconds
