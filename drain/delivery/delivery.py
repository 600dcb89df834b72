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

import functools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from drain.delivery.breaker import Backend
from drain.delivery.halves import halves
from drain.exporters import Result, Verdict
from drain.rings.ring import Outcome
from drain.spool.spool import SpoolRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.batch import Batch
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.retry import RetryPolicy
    from drain.exporters import Exporter, Request
    from drain.spool.spool import Entry, Spool

_TAKE_AGAIN_SECONDS: Final = 1.0  # when the spool could give nothing, or what is in it rests
_STORE_AGAIN_SECONDS: Final = 1.0  # when the spool had no room
_REST_SHARE: Final = 1.5  # of the backend's wait: the next probe is made with another batch, if there is one
# While the disk is slower than the rings: batches that may wait for it. Each holds up to --batch-bytes.
_STORING_BATCHES: Final = 16
_MOST_FAILURES_KNOWN: Final = 10_000


@dataclass(slots=True, eq=False)
class _Job:
    """A batch on its way: `batch` while it must be settled in the rings, `entry` once it is in the spool."""

    batch: Batch | None
    entry: Entry | None
    spans: int
    parts: deque[Request]
    born: float
    so_far: Outcome = field(default_factory=Outcome)
    failures: int = 0
    not_before: float = 0.0
    is_running: bool = False
    is_storing: bool = False
    store_not_before: float = 0.0
    is_concluded: bool = False


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
        self._backend = Backend(exporter.endpoint, policy, log, clock)
        self._log = log
        self._clock = clock
        self._spool = spool
        self._dead_letters = dead_letters
        self._settled: deque[Batch] = deque()
        self._in_flight = 0
        # Below: guarded by this.
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._unsettled: list[_Job] = []
        self._failures: dict[int, int] = {}  # of spooled batches, by id
        self._spool_s_turn = False
        self._take_not_before = 0.0
        self._stopping = False
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
        return self._in_flight <= self._concurrency + (_STORING_BATCHES if self._spool else 0)

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
        return self._backend.is_down

    @property
    def has_settled(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._settled)

    def send(self, batch: Batch) -> None:
        """Send a batch; `settled` gives it back."""
        self._in_flight += 1
        request = batch.request
        job = _Job(batch, None, request.spans, deque([request]), self._clock())
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
        if self._spool is None:
            return
        with self._changed:
            late = [job for at, job in enumerate(self._unsettled) if self._is_late(at, job)]
            for job in late:
                job.is_storing = True
        for job in late:
            batch = job.batch
            if batch is not None:
                future = self._spool.put(batch.request, batch.spans_by_service())
                future.add_done_callback(functools.partial(self._stored, job))

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

    def _next(self) -> _Job | None:
        """Wait for a batch that may be sent now, a new or a spooled one; None when there is to be an end."""
        while True:
            with self._changed:
                if self._stopping:
                    return None
                wait = self._backend.seconds_until_try()
                job = self._ready_job() if wait == 0 else None
                may_take = job is None and wait == 0 and self._may_take()
                if job is None and not may_take:
                    self._changed.wait(self._pause(wait))
                    continue
                self._backend.begin()
            if job is not None:
                return job
            job = self._taken()
            if job is not None:
                return job
            self._backend.cancel()

    def _ready_job(self) -> _Job | None:
        if self._spool_s_turn and self._may_take():
            self._spool_s_turn = False
            return None
        now = self._clock()
        for job in self._waiting:
            if job.not_before <= now:
                self._waiting.remove(job)
                job.is_running = True
                self._spool_s_turn = True
                return job
        return None

    def _may_take(self) -> bool:
        return self._spool is not None and self._clock() >= self._take_not_before and self._spool.can_take()

    def _pause(self, wait: float | None) -> float | None:
        """Return for how long nothing can change but by a notification."""
        pauses = [] if wait is None or wait == 0 else [wait]
        pauses += [max(0.0, job.not_before - self._clock()) for job in self._waiting]
        if self._spool is not None:
            pauses.append(_TAKE_AGAIN_SECONDS)
        pauses = [pause for pause in pauses if pause > 0 or wait == 0]
        return min(pauses, default=None)

    def _taken(self) -> _Job | None:
        spool = self._spool
        entries = [] if spool is None else spool.take()
        if spool is None or not entries:
            with self._changed:
                self._take_not_before = self._clock() + _TAKE_AGAIN_SECONDS
            return None
        (entry,) = entries
        with self._changed:
            failures = self._failures.get(entry.stored.id, 0)
        born = self._clock() - spool.age_seconds(entry)
        parts = deque([entry.request])
        return _Job(None, entry, entry.request.spans, parts, born, failures=failures, is_running=True)

    def _attempt(self, job: _Job) -> bool:
        """Send what is left of a batch; return whether all of it has its final verdict."""
        while job.parts:
            request = job.parts[0]
            started = self._clock()
            result = self._export(request)
            match result.verdict:
                case Verdict.DELIVERED:
                    self._backend.took(request, result)
                    rejected = min(result.rejected, request.spans)
                    became = Outcome(delivered=request.spans - rejected, rejected=rejected)
                case Verdict.TOO_LARGE if request.spans > 1:
                    self._backend.found_too_large(request, result)
                    job.parts.popleft()
                    job.parts.extendleft(reversed(halves(request)))
                    continue
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    self._backend.refused(request, result)
                    became = self._refused(request, result)
                case Verdict.RETRY:
                    job.failures += 1
                    wait = self._backend.failed(request, result, started, job.failures)
                    if not self._policy.gives_up(self._clock() - job.born):
                        job.not_before = self._clock() + wait
                        return False
                    self._backend.gave_up(request, result)
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

    def _conclude(self, job: _Job) -> None:
        with self._changed:
            job.is_running = False
            job.is_concluded = True
            if job.is_storing:
                return  # `_stored` goes on
        if job.entry is not None:
            self._finish_entry(job.entry, job.so_far)
        else:
            self._settle(job, job.so_far)

    def _wait_for_another(self, job: _Job) -> None:
        """Let a batch wait for its next attempt: in the spool if it is there, and none of it was delivered."""
        with self._changed:
            job.is_running = False
            entry = None if any(job.so_far) else job.entry
            if entry is None:
                self._waiting.append(job)  # from where `_stored` may take it
            self._changed.notify_all()
        if entry is not None:
            self._give_back(job, entry)

    def _give_back(self, job: _Job, entry: Entry) -> None:
        with self._changed:
            if len(self._failures) >= _MOST_FAILURES_KNOWN:
                self._failures.clear()
            self._failures[entry.stored.id] = job.failures
        now = self._clock()
        if self._spool is not None:
            self._spool.back(entry, now + _REST_SHARE * max(0.0, job.not_before - now))

    # ---- settling ----

    def _is_late(self, at: int, job: _Job) -> bool:
        """Whether a batch should be in the spool; the `at`-th has that many before it."""
        now = self._clock()
        is_decided = job.is_concluded or job.entry is not None  # and about to be settled
        if is_decided or job.batch is None or job.is_storing or now < job.store_not_before:
            return False
        has_no_turn = self._backend.is_down or at > 2 * self._concurrency
        return has_no_turn or now - job.born >= self.spool_after or job.batch.fills_a_lane()

    def _stored(self, job: _Job, future: Future[Entry]) -> None:
        """Go on with a batch that was handed to the spool; called by the spool's thread."""
        try:
            entry = future.result()
        except SpoolRefusedError:
            with self._changed:
                job.is_storing = False
                job.store_not_before = self._clock() + _STORE_AGAIN_SECONDS
                is_concluded = job.is_concluded
            if is_concluded:
                self._settle(job, job.so_far)
            return
        with self._changed:
            job.is_storing = False
            job.entry = entry
            is_concluded = job.is_concluded
            waits = job in self._waiting and not any(job.so_far)
            if waits:
                self._waiting.remove(job)
        self._settle(job, Outcome(spooled=job.spans))
        if is_concluded:
            self._finish_entry(entry, job.so_far)
        elif waits:
            self._give_back(job, entry)
            self._let_others_in()

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        with self._changed:
            self._unsettled.remove(job)
            batch, job.batch = job.batch, None
        if batch is not None:
            batch.settle(outcome)
            self._settled.append(batch)
            self._done()

    def _finish_entry(self, entry: Entry, outcome: Outcome) -> None:
        with self._changed:
            self._failures.pop(entry.stored.id, None)
        if self._spool is not None:
            self._spool.done(entry, outcome)
