"""All parts that are on their way: what a thread that is free does next, and what becomes of what it did.

What becomes of a part is decided here and nowhere else: the records behind it are released by `drain.service`, in
order, when the last part of its batch is settled. A batch that is not settled stays in the rings.

                                        +--delivered, rejected, dead letter--> settled
    send --> waiting <--> attempt ------+
                |            |                          +--delivered, ...--> removed from the spool
                +--too long--+--> spooled: settled -----+
                                                        +--the attempt failed--> given back to the spool

With a spool, a part that waits too long is stored there while its attempt goes on. What comes first counts: one that
is delivered before the disk has it is settled at once, and forgotten by the spool. Nobody waits long for a disk.

Any step may raise (a MemoryError, a defect): what a thread has in hand then waits for another attempt, and each step is
such that it can be done again.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.accounting.outcome import Outcome
from drain.delivery.attempts import Attempts
from drain.delivery.breaker import Breaker
from drain.delivery.hand_over import HandOver
from drain.delivery.job import Job, Keeping, Sending
from drain.delivery.queue import LOOK_AGAIN_SECONDS, Send, Take, Wait, Which
from drain.delivery.request_size import ANY_SIZE, RequestSize
from drain.delivery.route import Grip
from drain.delivery.routes import Routes
from drain.delivery.storing import STORE_AGAIN_SECONDS, Storing
from drain.exporters.protocol import most_together_of
from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.batch import Batch
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.retry import RetryPolicy
    from drain.delivery.route import Route
    from drain.exporters.protocol import Exporter
    from drain.spool.spool import Entry, Spool

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


class _Load(NamedTuple):
    """How much is on its way; `change` says of when."""

    change: int = -1
    pressing: int = 0  # batches of which a part runs, or waits for its first attempt
    waiting_bytes: int = 0
    failed_bytes: int = 0


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
        self._attempts = Attempts(
            exporter,
            policy,
            self._route_of,
            self._size,
            dead_letters,
            divide=self._divide,
            hand_over=self._hand_over,
            has_spool=spool is not None,
            clock=clock,
        )
        self._settled: deque[Batch] = deque()
        self._in_flight = 0
        self._load = _Load()
        # Below: guarded by this.
        self._changed = threading.Condition()
        self._changes = 0
        self._unsettled: dict[Job, None] = {}
        self._hands: list[Hand] = []
        self.is_stopping = False
        self._storing = None if spool is None else Storing(spool, self._changed, clock, self._stored)
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
        with self._changed:
            self._routes.try_now(endpoint)
            self._changes += 1
            self._changed.notify_all()

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
        with self._changed:
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
    def is_backend_down(self) -> bool:
        """Whether nearly all that was tried lately failed, whatever destination it was for."""
        with self._changed:
            breakers = [route.breaker for route in self._routes.known()]
        return bool(breakers) and all(breaker.is_open for breaker in breakers)

    @property
    def answers(self) -> int:
        """How often the backend took or refused something."""
        with self._changed:
            return self._routes.answers

    @property
    def has_settled(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._settled)

    @property
    def why_not_stored(self) -> str:
        """What ended the storing of batches, empty while it goes on."""
        return "" if self._storing is None else self._storing.why_broken

    def send(self, batch: Batch) -> None:
        """Send a batch; `settled` gives it back."""
        now = self._clock()
        jobs = [Job(request, now, batch, number) for number, request in enumerate(batch.parts)]
        with self._changed:
            routes = [self._routes.to(job.request.destination) for job in jobs]
            batch.parts = ()
            self._in_flight += 1
            self._unsettled.update(dict.fromkeys(jobs))
            for route, job in zip(routes, jobs, strict=True):
                route.waiting.append(job)
            self._changes += 1
            self._changed.notify(len(jobs))

    def settled(self) -> list[Batch]:
        """Return the batches that got their final outcome since the last call."""
        batches = []
        while self._settled:
            batches.append(self._settled.popleft())
        self._in_flight -= len(batches)
        return batches

    def spool_late(self) -> None:
        """Store the batches that have waited enough, or whose lane is half full; nothing to do without a spool."""
        if self._storing is None:
            return
        late: deque[Job] = deque()
        try:
            room = self._storing.room()
            with self._changed:
                late.extend(itertools.islice(self._late(), room))
                for job in late:
                    job.keeping = Keeping.STORING
            self._storing.catch_up()
            while late:
                self._storing.put(late[0])
                late.popleft()
        except Exception as error:  # noqa: BLE001 - no memory: they are stored a moment later
            self._keep_in_rings(late)
            self._met(error, sum(job.spans for job in late))

    def seconds_until_attempt(self) -> float:
        """Return when the next attempt is made; 0 while one is running, or nothing waits."""
        with self._changed:
            if any(hand.grips for hand in self._hands):
                return 0.0
            return self._routes.seconds_until_attempt()

    def begin_stop(self) -> None:
        """Let all threads come to their end: attempts that run are finished, waits are cut short."""
        with self._changed:
            self.is_stopping = True
            self._change()

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
                self._conclude(job)
            elif job.sending is not Sending.GONE:
                self._let_wait(job)
            self._put_down(hand, grips[job])
        return wait

    def wait(self, hand: Hand, seconds: float | None) -> None:
        """Wait for a change since the last call of `advance`."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_stopping or self._changes != hand.seen, seconds)

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
        with self._changed:
            hand.seen = self._changes
            if self.is_stopping:
                return Wait(0.0)
            most = most_together_of(self._exporter)
            pauses = [LOOK_AGAIN_SECONDS] if self._storing is not None else []
            look_again = self._hand_over.look(self._routes.known())
            if look_again is not None:
                pauses.append(look_again)
            for route in self._routes.by_turn():
                step = self._routes.next_step(route, [grip for one in self._hands for grip in one.grips])
                if not isinstance(step, Wait):
                    self._grip(hand, route, step)
                elif step.seconds is not None:
                    pauses.append(step.seconds)
                if len(hand.grips) == most:
                    break
            return None if hand.grips else Wait(min(pauses, default=None))

    def _grip(self, hand: Hand, route: Route, step: Send | Take) -> None:
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

    def _fetch(self, hand: Hand, grip: Grip) -> None:
        """Take the part out of the spool, if that is where it is; let go where there is none."""
        is_from_spool = isinstance(grip.step, Take)
        if isinstance(grip.step, Take) and self._storing is not None:
            grip.job = self._storing.take(grip.route.destination, grip.step.which, newest=grip.step.newest)
            if grip.job is None:
                self._put_down(hand, grip)
                return
        with self._changed:
            grip.is_suspect = grip.job is not None and grip.job.is_suspect
            if grip.is_suspect:
                grip.route.since_suspect = 0
            grip.route.is_spools_turn = not is_from_spool
            self._changes += 1

    def _route_of(self, destination: str) -> Route:
        with self._changed:
            return self._routes.to(destination)

    def _most_fails(self) -> bool:
        with self._changed:
            return any(route.breaker.state().newest_first for route in self._routes.known())

    def _put_down(self, hand: Hand, grip: Grip) -> None:
        with self._changed:  # whoever looks at a hand has the lock
            if grip in hand.grips:
                hand.grips.remove(grip)
            grip.route.breaker.end(grip.probe)
            self._change()

    def _put_back(self, hand: Hand) -> None:
        """Let what an error came between wait for another attempt."""
        error, hand.error = hand.error, None
        spans = 0
        for grip in tuple(hand.grips):
            job = grip.job
            if job is not None:
                spans += job.spans
                with self._changed:
                    if job.sending in {Sending.RUNNING, Sending.CONCLUDED}:
                        job.is_doubtful = True  # it may have been sent
                        job.failures += 1
                        job.own_failures += 1
                        job.sure_failures += 1
                        job.failed_at = self._clock()
                        job.not_before = job.failed_at + self._policy.delay(job.failures)
                        job.sending = Sending.WAITING
                        grip.route.waiting.append(job)
            self._put_down(hand, grip)
        if error is not None:
            self._met(error, spans)

    def _met(self, error: Exception, spans: int) -> None:
        """Tell of something that is no trouble with a backend."""
        self._trouble.warn(
            "delivery met an unexpected error, the batch is tried again", reason=repr(error), spans=spans
        )

    def _conclude(self, job: Job) -> None:
        with self._changed:
            job.sending = Sending.CONCLUDED
            self._unsettled.pop(job, None)
        if job.entry is None:
            self._settle(job, job.so_far)
            if self._storing is not None and job.keeping is Keeping.STORING:  # it does not wait for the disk
                self._storing.cancel(job)
        else:
            self._remove(job, job.entry)
        job.sending = Sending.GONE

    def _let_wait(self, job: Job) -> None:
        """Let a batch wait for its next attempt: in the spool if it is there, and none of it was delivered."""
        with self._changed:
            if job.entry is None or any(job.so_far):
                job.sending = Sending.WAITING
                self._routes.to(job.request.destination).waiting.append(job)  # from where `_stored` may take it
                return
        self._give_back(job, job.entry)
        job.sending = Sending.GONE

    def _divide(self, job: Job) -> bool:
        """Let what is left of a part be parts of their own; return whether it is no longer this one's.

        One that is stored stays whole, unless its pieces are for other destinations: then they are stored in its place.
        """
        origin = job.request.destination
        is_divided = self._divide_in_memory(job)
        if job.entry is not None and self._storing is not None:
            is_for_others = job.left[0].destination != origin and not any(job.so_far)
            is_divided = is_for_others and self._storing.divide(job, job.entry)
        if not is_divided:
            job.release_whole()
            return False
        job.sending = Sending.GONE
        if job.left[0].destination != origin:
            self._hand_over.handed_over(origin, job.spans)
        self._note_change()
        return True

    def _divide_in_memory(self, job: Job) -> bool:
        with self._changed:
            batch = job.batch
            if batch is None or job.entry is not None:
                return False
            requests = tuple(job.left)
            pieces = [job.piece(request, 0) for request in requests]
            routes = [self._routes.to(request.destination) for request in requests]
            unsettled: dict[Job, None] = {}
            for one in self._unsettled:
                unsettled.update(dict.fromkeys(pieces if one is job else (one,)))
            for piece, number in zip(pieces, batch.divide(job.number, len(pieces)), strict=True):
                piece.number = number
            # Nothing from here on may raise: it is done once.
            self._unsettled = unsettled
            for route, piece in zip(reversed(routes), reversed(pieces), strict=True):
                route.waiting.insert(0, piece)
            job.batch, job.sending = None, Sending.GONE
            was_storing = job.keeping is Keeping.STORING
        if was_storing and self._storing is not None:
            self._storing.cancel(job)
        return True

    # ---- settling ----

    def _late(self) -> Iterator[Job]:
        """Return the parts that should be in the spool, the oldest first."""
        ahead, last = 0, None
        for job in self._unsettled:
            if last not in (None, job.batch):
                ahead += 1
            last = job.batch
            if self._is_late(ahead, job):
                yield job

    def _is_late(self, ahead: int, job: Job) -> bool:
        """Whether a part should be in the spool that has so many batches before it."""
        now = self._clock()
        if job.keeping is not Keeping.IN_RINGS or now < job.store_not_before:
            return False
        breaker = self._routes.to(job.request.destination).breaker
        has_no_turn = job.failures or breaker.is_open or ahead > 2 * self._concurrency
        is_pressing = job.batch is not None and job.batch.is_pressing()
        return bool(has_no_turn or now - job.born >= self.spool_after or is_pressing)

    def _keep_in_rings(self, jobs: Iterable[Job]) -> None:
        """Undo that batches were to be stored."""
        with self._changed:
            for job in jobs:
                job.keeping = Keeping.IN_RINGS
                job.store_not_before = self._clock() + STORE_AGAIN_SECONDS
            self._change()

    def _stored(self, job: Job, entry: Entry | None) -> Iterator[Callable[[], None]]:
        """Take note of what the spool says of a batch, and return what is left to do; called by the spool's thread."""
        with self._changed:
            if entry is None:
                self._keep_in_rings([job])
                return iter(())
            if job.batch is None or job.sending in {Sending.CONCLUDED, Sending.GONE}:
                job.keeping = Keeping.IN_RINGS  # where it is counted; its attempt was faster than the disk
                return iter([functools.partial(self._withdraw, entry)])
            todo: list[Callable[[], None]] = [functools.partial(self._settle, job, Outcome(spooled=job.spans))]
            waits = job.sending is Sending.WAITING
            if waits:
                todo += [functools.partial(self._give_back, job, entry), self._note_change]
            # Nothing from here on may raise: it is done once.
            job.entry, job.keeping = entry, Keeping.STORED
            self._unsettled.pop(job, None)
            if waits:
                waiting = self._routes.to(job.request.destination).waiting
                if job in waiting:
                    waiting.remove(job)
                job.sending = Sending.GONE
        return iter(todo)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        with self._changed:
            batch = job.batch
            is_last = True  # or it was, before something raised
            if batch is not None:
                # The last part settles the batch; what raises before the end of this is done again, and the same.
                is_last = batch.decide(job.number, outcome)
                if is_last:
                    self._settled.append(batch)
                job.batch = None
                self._change()
        if is_last:
            self._done()

    def _note_change(self) -> None:
        with self._changed:
            self._change()

    def _change(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _give_back(self, job: Job, entry: Entry) -> None:
        if self._storing is not None:
            self._storing.give_back(job, entry)

    def _withdraw(self, entry: Entry) -> None:
        if self._storing is not None:
            self._storing.withdraw(entry)

    def _remove(self, job: Job, entry: Entry) -> None:
        if self._storing is not None:
            self._storing.remove(entry, job.so_far)

    def _load_now(self) -> _Load:
        load = self._load
        if load.change != self._changes:
            with self._changed:
                pressing = {grip.job.batch for hand in self._hands for grip in hand.grips if grip.job is not None}
                untried_bytes = failed_bytes = 0
                for job in itertools.chain.from_iterable(route.waiting for route in self._routes.known()):
                    if job.failures:
                        failed_bytes += job.body_bytes
                    else:
                        untried_bytes += job.body_bytes
                        pressing.add(job.batch)
                pressing.discard(None)  # of what came out of the spool
                load = self._load = _Load(self._changes, len(pressing), untried_bytes + failed_bytes, failed_bytes)
        return load
