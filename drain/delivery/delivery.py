"""Delivers batches with several threads, and tries again until each has its final verdict.

What becomes of a batch is decided here and nowhere else: the records behind it are released by `drain.service`, in
order, when its batch is settled. A batch that is not settled stays in the rings.

                                        +--delivered, rejected, dead letter--> settled
    send --> waiting <--> attempt ------+
                |            |                          +--delivered, ...--> removed from the spool
                +--too long--+--> spooled: settled -----+
                                                        +--the backend is away--> given back to the spool

With a spool, a batch that waits too long is stored there while its attempt goes on, and threads that have nothing new
to send take the oldest batches out of it, in turn with new ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from drain.accounting.outcome import Outcome
from drain.delivery.breaker import Breaker
from drain.delivery.halves import halves
from drain.delivery.job import Job, Keeping, Sending
from drain.delivery.queue import Send, Take, Wait, next_step
from drain.delivery.storing import Storing
from drain.exporters.protocol import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.batch import Batch
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request
    from drain.spool.spool import Entry, Spool

# While the disk is slower than the rings: batches that may wait for it. Each holds up to --batch-bytes.
_STORING_BATCHES: Final = 16


class Delivery:
    """Threads that send batches.

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
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        concurrency: int,
        *,
        done: Callable[[], None],
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        spool: Spool | None = None,
        spool_after: float = 0.0,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self._exporter = exporter
        self._policy = policy
        self._concurrency = concurrency
        self._done = done
        self._breaker = Breaker(exporter.endpoint, policy, log, clock)
        self._clock = clock
        self._dead_letters = dead_letters
        self._settled: deque[Batch] = deque()
        self._in_flight = 0
        # Below: guarded by this.
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._unsettled: list[Job] = []
        self._is_spools_turn = False
        self._stopping = False
        self._storing = None if spool is None else Storing(spool, self._changed, clock, self._stored)
        self.spool_after = spool_after
        # Daemons: an attempt that hangs in a system call must not keep a stopped drain alive.
        self._threads = [
            threading.Thread(target=self._work, name=f"delivery-{number}", daemon=True) for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def has_room(self) -> bool:
        """Whether `send` may be called: one batch more than threads, so that a thread that is done has the next."""
        return self._in_flight <= self._concurrency + (_STORING_BATCHES if self._storing else 0)

    @property
    def is_idle(self) -> bool:
        """Whether a thread waits for work."""
        return self._in_flight < self._concurrency

    @property
    def in_flight(self) -> int:
        """Batches that were sent and not taken back by `settled`."""
        return self._in_flight

    @property
    def is_backend_down(self) -> bool:
        """Whether the last attempt that ended was in vain."""
        return self._breaker.is_down

    @property
    def has_settled(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._settled)

    def send(self, batch: Batch) -> None:
        """Send a batch; `settled` gives it back."""
        self._in_flight += 1
        request = batch.request
        job = Job(batch, None, request.spans, deque([request]), self._clock())
        with self._changed:
            self._unsettled.append(job)
            self._waiting.append(job)
            self._changed.notify()

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
        with self._changed:
            late = [job for at, job in enumerate(self._unsettled) if self._is_late(at, job)]
            for job in late:
                job.keeping = Keeping.STORING
        for job in late:
            self._storing.put(job)

    def stop(self, seconds: float) -> bool:
        """End the threads: attempts that run are finished, waits are cut short; return whether all ended in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    # ---- the threads ----

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if self._attempt(job):
                self._conclude(job)
            else:
                self._wait_for_another(job)

    def _next(self) -> Job | None:
        """Wait for a batch that may be sent now, a new or a spooled one; None when there is to be an end."""
        while True:
            with self._changed:
                if self._stopping:
                    return None
                step = self._next_step()
                if isinstance(step, Wait):
                    self._changed.wait(step.seconds)
                    continue
                self._breaker.begin()
                self._is_spools_turn = isinstance(step, Send)
                if isinstance(step, Send):
                    self._waiting.remove(step.job)
                    step.job.sending = Sending.RUNNING
                    return step.job
            job = None if self._storing is None else self._storing.take()
            if job is not None:
                return job
            self._breaker.cancel()

    def _next_step(self) -> Send | Take | Wait:
        storing = self._storing
        return next_step(
            self._waiting,
            breaker_wait=self._breaker.seconds_until_try(),
            has_spool=storing is not None,
            may_take=storing is not None and storing.may_take(),
            is_spools_turn=self._is_spools_turn,
            now=self._clock(),
        )

    def _attempt(self, job: Job) -> bool:
        """Send what is left of a batch; return whether all of it has its final verdict."""
        while job.parts:
            request = job.parts[0]
            started = self._clock()
            result = self._export(request)
            match result.verdict:
                case Verdict.DELIVERED:
                    self._breaker.took(request, result)
                    rejected = min(result.rejected, request.spans)
                    became = Outcome(delivered=request.spans - rejected, rejected=rejected)
                case Verdict.TOO_LARGE if request.spans > 1:
                    self._breaker.found_too_large(request, result)
                    job.parts.popleft()
                    job.parts.extendleft(reversed(halves(request)))
                    continue
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    self._breaker.refused(request, result)
                    became = self._refused(request, result)
                case Verdict.RETRY:
                    job.failures += 1
                    wait = self._breaker.failed(request, result, started, job.failures)
                    if not self._policy.gives_up(self._clock() - job.born):
                        job.not_before = self._clock() + wait
                        return False
                    self._breaker.gave_up(request, result)
                    became = self._refused(request, result)
                case _:
                    assert_never(result.verdict)
            job.parts.popleft()
            job.so_far = Outcome(*map(sum, zip(job.so_far, became, strict=True)))
            self._let_others_in()
        return True

    def _export(self, request: Request) -> Result:
        try:
            return self._exporter.export(request)
        except ValueError as error:  # a spooled request in another encoding, which does not parse
            return Result(Verdict.REFUSED, message=str(error))
        except Exception as error:  # noqa: BLE001 - no memory, no thread: a batch that nobody settles would wait for ever
            return Result(Verdict.RETRY, message=repr(error))

    def _let_others_in(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _refused(self, request: Request, result: Result) -> Outcome:
        letters = self._dead_letters
        if letters is not None and letters.keep(request, result.message, self._exporter.endpoint):
            return Outcome(dead_lettered=request.spans)
        return Outcome(rejected=request.spans)

    def _conclude(self, job: Job) -> None:
        with self._changed:
            job.sending = Sending.CONCLUDED
            if job.keeping is Keeping.STORING:
                return  # `_stored` goes on
            batch = self._taken_out(job)
        if job.entry is None:
            self._settle(batch, job.so_far)
        else:
            self._remove(job.entry, job.so_far)

    def _wait_for_another(self, job: Job) -> None:
        """Let a batch wait for its next attempt: in the spool if it is there, and none of it was delivered."""
        with self._changed:
            job.sending = Sending.WAITING
            entry = None if any(job.so_far) else job.entry
            if entry is None:
                self._waiting.append(job)  # from where `_stored` may take it
            self._changed.notify_all()
        if entry is not None:
            self._give_back(job, entry)

    # ---- settling ----

    def _is_late(self, at: int, job: Job) -> bool:
        """Whether a batch should be in the spool; the `at`-th has that many before it."""
        now = self._clock()
        if job.keeping is not Keeping.IN_RINGS or now < job.store_not_before:
            return False
        has_no_turn = self._breaker.is_down or at > 2 * self._concurrency
        return has_no_turn or now - job.born >= self.spool_after or (job.batch is not None and job.batch.fills_a_lane())

    def _stored(self, job: Job, entry: Entry | None) -> None:
        """Go on with a batch that was handed to the spool, or was not taken; called by the spool's thread."""
        with self._changed:
            is_concluded = job.sending is Sending.CONCLUDED
            waits = entry is not None and job in self._waiting and not any(job.so_far)
            if waits:
                self._waiting.remove(job)
            job.entry = entry
            job.keeping = Keeping.IN_RINGS if entry is None else Keeping.STORED
            batch = self._taken_out(job) if is_concluded or entry is not None else None
        if entry is None:
            self._settle(batch, job.so_far)
            return
        self._settle(batch, Outcome(spooled=job.spans))
        if is_concluded:
            self._remove(entry, job.so_far)
        elif waits:
            self._give_back(job, entry)
            self._let_others_in()

    def _taken_out(self, job: Job) -> Batch | None:
        """Let a batch be decided: it is not looked at any more, and what is returned is to be settled."""
        batch, job.batch = job.batch, None
        if batch is not None:
            self._unsettled.remove(job)
        return batch

    def _settle(self, batch: Batch | None, outcome: Outcome) -> None:
        if batch is not None:
            batch.settle(outcome)
            self._settled.append(batch)
            self._done()

    def _give_back(self, job: Job, entry: Entry) -> None:
        if self._storing is not None:
            self._storing.give_back(job, entry)

    def _remove(self, entry: Entry, outcome: Outcome) -> None:
        if self._storing is not None:
            self._storing.remove(entry, outcome)
