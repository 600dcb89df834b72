"""All parts that are on their way: what a thread that is free does next.

What becomes of what it did, says `settlement`. Any step may raise (a MemoryError, a defect): what a thread has in hand
then waits for another attempt, and each step is such that it can be done again.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drain.delivery.attempts import Attempts
from drain.delivery.breaker import Breaker
from drain.delivery.changes import Changes
from drain.delivery.hand_over import HandOver
from drain.delivery.job import Job, Sending
from drain.delivery.load import Load
from drain.delivery.queue import LOOK_AGAIN_SECONDS, Send, Take, Wait, Which
from drain.delivery.request_size import ANY_SIZE, RequestSize
from drain.delivery.route import Grip
from drain.delivery.routes import Routes
from drain.delivery.settlement import Settlement
from drain.exporters.protocol import most_together_of
from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.batch import Batch
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.retry import RetryPolicy
    from drain.delivery.route import Route
    from drain.exporters.protocol import Exporter
    from drain.spool.spool import Spool

# While the disk is slower than the rings: batches that may wait for it. Each holds up to --batch-bytes.
_STORING_BATCHES: Final = 16
# Of batches that wait in memory: of those that failed, and of all while most fails, so that there is a choice of
# what to try. Beyond, spans stay in the rings.
WAITING_BYTES: Final = 64 << 20


@dataclass(slots=True, eq=False)
class Hand:
    """What a thread has in hand; outlives an error in whatever it does.

    Attributes:
        grips: for each destination that it sends to.
        error: what came between.
        seen: number of the last change that it knows.
    """

    grips: list[Grip] = field(default_factory=list)
    error: Exception | None = None
    seen: int = 0


class Dispatch:
    """The parts that are on their way; any thread may call it.

    Args:
        exporter: makes the attempts.
        policy: how long to wait between them.
        concurrency: how many batches are sent at the same time.
        done: called by a thread when it has settled a batch.
        log: for state changes.
        clock: seconds that never go back.
        spool: where batches go that wait; None: they stay in the rings.
        spool_after: seconds that a batch may wait before that.
        dead_letters: where refused batches are kept; None: nowhere.

    Attributes:
        spool_after: as given.
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        concurrency: int,
        *,
        done: Callable[[], None],
        log: FilteringBoundLogger,
        clock: Callable[[], float],
        spool: Spool | None,
        spool_after: float,
        dead_letters: DeadLetters | None,
    ) -> None:
        self._policy = policy
        self._concurrency = concurrency
        self._done = done
        self._clock = clock
        self._exporter = exporter
        self._trouble = RepeatedTrouble(log, clock)
        self._size = RequestSize()
        self.spool_after = spool_after
        self._hand_over = HandOver(exporter, log, clock)
        self._changes = Changes()
        self._settlement = Settlement(
            self._changes,
            self._route_of,
            self._hand_over,
            spool,
            concurrency=concurrency,
            done=done,
            met=self._met,
            clock=clock,
        )
        self._storing = self._settlement.storing
        self._attempts = Attempts(
            exporter,
            policy,
            self._route_of,
            self._size,
            dead_letters,
            divide=self._settlement.divide,
            hand_over=self._hand_over,
            has_spool=spool is not None,
            clock=clock,
        )
        self._in_flight = 0
        self._load = Load()
        # Below: guarded by the lock.
        self._hands: list[Hand] = []
        self.is_stopping = False
        make_breaker = functools.partial(Breaker, policy=policy, log=log, clock=clock)
        self._routes = Routes(exporter.endpoint, make_breaker, self._storing, self._hand_over, concurrency, clock)

    # ---- for the loop ----

    def try_now(self, endpoint: str) -> None:
        """Send what waits for another attempt now: the exporter is another, or has other connections.

        Args:
            endpoint: where it sends now.
        """
        self._size.forget()
        if self._storing is not None:
            self._storing.try_now()
        with self._changes:
            self._routes.try_now(endpoint)
            self._changes.note()

    @property
    def has_room(self) -> bool:
        """Whether `send` may be called: one batch more than threads, so that a thread that is done has the next.

        Batches that failed and wait for another attempt have no thread, and keep none from the others. While most that
        is tried fails more are taken in: one may be of those that would get through.
        """
        load = self._load_now()
        most = self._concurrency + (_STORING_BATCHES if self._storing else 0)
        if load.pressing <= most and load.failed_bytes < WAITING_BYTES:
            return True
        return load.waiting_bytes < WAITING_BYTES and self._most_fails()

    @property
    def most_bytes(self) -> int:
        """How large the body of a request may be."""
        return self._attempts.most_bytes

    @property
    def most_spans(self) -> int:
        """How many spans a batch may have: as many as the quickest of the destinations takes in time."""
        with self._changes:
            return max((route.timely.most for route in self._routes.known()), default=ANY_SIZE)

    @property
    def is_idle(self) -> bool:
        """Whether a thread waits for work."""
        return self._load_now().pressing < self._concurrency

    @property
    def in_flight(self) -> int:
        """Batches that were sent and not taken back by `settled`."""
        return self._in_flight

    @property
    def has_more(self) -> bool:
        """Whether anything waits to be sent, or is under way; any thread may ask."""
        return self._in_flight > 0 or (self._storing is not None and bool(self._storing.destinations()))

    @property
    def is_backend_down(self) -> bool:
        """Whether nearly all that was tried lately failed, whatever destination it was for."""
        with self._changes:
            breakers = [route.breaker for route in self._routes.known()]
        return bool(breakers) and all(breaker.is_open for breaker in breakers)

    @property
    def answers(self) -> int:
        """How often the backend took or refused something."""
        with self._changes:
            return self._routes.answers

    @property
    def has_settled(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._settlement.settled)

    @property
    def why_not_stored(self) -> str:
        """What ended the storing of batches, empty while it goes on."""
        return "" if self._storing is None else self._storing.why_broken

    def send(self, batch: Batch) -> None:
        """Send a batch; `settled` gives it back."""
        now = self._clock()
        jobs = [Job(request, now, batch, number) for number, request in enumerate(batch.parts)]
        with self._changes:
            routes = [self._routes.to(job.request.destination) for job in jobs]
            batch.parts = ()
            self._in_flight += 1
            self._settlement.begin(jobs)
            for route, job in zip(routes, jobs, strict=True):
                route.waiting.append(job)
            self._changes.number += 1
            self._changes.notify(len(jobs))

    def settled(self) -> list[Batch]:
        """Return the batches that got their final outcome since the last call."""
        batches = []
        while self._settlement.settled:
            batches.append(self._settlement.settled.popleft())
        self._in_flight -= len(batches)
        return batches

    def spool_late(self) -> None:
        """Store the batches that have waited enough, or whose lane is half full; nothing to do without a spool."""
        self._settlement.spool_late(self.spool_after)

    def seconds_until_attempt(self) -> float:
        """Return when the next attempt is made; 0 while one is running, or nothing waits."""
        with self._changes:
            if any(hand.grips for hand in self._hands):
                return 0.0
            return self._routes.seconds_until_attempt()

    def begin_stop(self) -> None:
        """Let all threads come to their end: attempts that run are finished, waits are cut short."""
        with self._changes:
            self.is_stopping = True
            self._changes.note()

    # ---- for the threads ----

    def hand(self) -> Hand:
        """Return what a thread is to call `advance` with."""
        hand = Hand()
        self._hands.append(hand)
        return hand

    def advance(self, hand: Hand) -> Wait | None:
        """Make attempts for parts, new or spooled ones; return how long to wait where there is nothing to do.

        After an error, call it again with the same hand.
        """
        if hand.grips or hand.error is not None:
            self._put_back(hand)
        wait = self._take_up(hand)
        grips = {grip.job: grip for grip in hand.grips if grip.job is not None}
        for job, has_its_verdict in self._attempts.run(tuple(grips)):
            if has_its_verdict:
                self._settlement.conclude(job)
            elif job.sending is not Sending.GONE:
                self._settlement.let_wait(job)
            self._put_down(hand, grips[job])
        return wait

    def wait(self, hand: Hand, seconds: float | None) -> None:
        """Wait for a change since the last call of `advance`."""
        with self._changes:
            self._changes.wait_for(lambda: self.is_stopping or self._changes.number != hand.seen, seconds)

    def _take_up(self, hand: Hand) -> Wait | None:
        while not hand.grips:
            wait = self._take_hold(hand)
            if wait is not None:
                return wait
            for grip in tuple(hand.grips):
                self._fetch(hand, grip)
        return None

    def _take_hold(self, hand: Hand) -> Wait | None:
        """Choose what is sent to one destination, or to several at once where the exporter takes them together."""
        with self._changes:
            hand.seen = self._changes.number
            if self.is_stopping:
                return Wait(0.0)
            most = most_together_of(self._exporter)
            pauses = [LOOK_AGAIN_SECONDS] if self._storing is not None else []
            look_again = self._hand_over.look(self._routes.known())
            if look_again is not None:
                pauses.append(look_again)
            under_way: dict[Route, list[Grip]] = {}
            for grip in itertools.chain.from_iterable(one.grips for one in self._hands):
                under_way.setdefault(grip.route, []).append(grip)
            for route in self._routes.by_turn():
                step = self._routes.next_step(route, under_way)
                if not isinstance(step, Wait):
                    under_way.setdefault(route, []).append(self._grip(hand, route, step))
                elif step.seconds is not None:
                    pauses.append(step.seconds)
                if len(hand.grips) == most:
                    break
            return None if hand.grips else Wait(min(pauses, default=None))

    def _grip(self, hand: Hand, route: Route, step: Send | Take) -> Grip:
        is_move = step.is_move if isinstance(step, Send) else step.which is Which.SURE
        hand.grips.append(grip := Grip(route, step, 0 if is_move else route.breaker.begin()))
        self._routes.had_its_turn(route)
        route.since_suspect += 1
        if isinstance(step, Take) and step.which is Which.ANY:
            route.since_suspect = 0
        if isinstance(step, Send):
            step.job.sending = Sending.RUNNING
            grip.job = step.job
            route.waiting.remove(step.job)
        return grip

    def _fetch(self, hand: Hand, grip: Grip) -> None:
        """Take the part out of the spool, if that is where it is; let go where there is none."""
        is_from_spool = isinstance(grip.step, Take)
        if isinstance(grip.step, Take) and self._storing is not None:
            grip.job = self._storing.take(grip.route.destination, grip.step.which, newest=grip.step.newest)
            if grip.job is None:
                self._put_down(hand, grip)
                return
        with self._changes:
            grip.is_suspect = grip.job is not None and grip.job.is_suspect
            if grip.is_suspect:
                grip.route.since_suspect = 0
            grip.route.is_spools_turn = not is_from_spool
            self._changes.number += 1

    def _route_of(self, destination: str) -> Route:
        with self._changes:
            return self._routes.to(destination)

    def _most_fails(self) -> bool:
        with self._changes:
            return any(route.breaker.state().newest_first for route in self._routes.known())

    def _put_down(self, hand: Hand, grip: Grip) -> None:
        with self._changes:  # whoever looks at a hand has the lock
            if grip in hand.grips:
                hand.grips.remove(grip)
            grip.route.breaker.end(grip.probe)
            self._changes.number += 1  # before what may raise: else who asks how much is under way hears the old
            # For nothing the others are not woken. All routes are gone over when all is put down: an attempt may have
            # hundreds.
            if self._routes.has_more(grip.route) or (not hand.grips and self._routes.by_turn()):
                self._changes.notify_all()

    def _put_back(self, hand: Hand) -> None:
        """Let what an error came between wait for another attempt."""
        error, hand.error = hand.error, None
        spans = 0
        for grip in tuple(hand.grips):
            job = grip.job
            if job is not None:
                spans += job.spans
                with self._changes:
                    if job.sending in {Sending.RUNNING, Sending.CONCLUDED}:
                        route = self._routes.to(job.request.destination)  # another, if its destination left meanwhile
                        job.is_doubtful = True  # it may have been sent
                        job.failures += 1
                        job.own_failures += 1
                        job.sure_failures += 1
                        job.failed_at = self._clock()
                        job.not_before = job.failed_at + self._policy.delay(job.failures)
                        job.sending = Sending.WAITING
                        route.waiting.append(job)
            self._put_down(hand, grip)
        if error is not None:
            self._met(error, spans)

    def _met(self, error: Exception, spans: int) -> None:
        """Tell of something that is no trouble with a backend."""
        self._trouble.warn(
            "delivery met an unexpected error, the batch is tried again", reason=repr(error), spans=spans
        )

    def _load_now(self) -> Load:
        load = self._load
        if load.change != self._changes.number:
            with self._changes:
                in_hand = [grip.job for hand in self._hands for grip in hand.grips if grip.job is not None]
                waiting = itertools.chain.from_iterable(route.waiting for route in self._routes.known())
                load = self._load = Load.of(self._changes.number, in_hand, waiting)
        return load
