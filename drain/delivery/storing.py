"""Parts that wait too long are stored in the spool, and taken out of it to be sent."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.delivery.job import Job, Keeping, Sending
from drain.delivery.queue import LOOK_AGAIN_SECONDS, SpoolView, Which
from drain.spool.spool import SpoolRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from concurrent.futures import Future

    from drain.accounting.outcome import Outcome
    from drain.delivery.changes import Changes
    from drain.exporters.protocol import Result
    from drain.spool.database import Stored
    from drain.spool.spool import Entry, Spool

STORE_AGAIN_SECONDS: Final = 1.0  # when the spool had no room
_MOST_KNOWN: Final = 10_000
_MOST_ERRORS: Final = 100


class _Past(NamedTuple):
    """What is known of a part in the spool that has failed."""

    destination: str
    failures: int
    own_failures: int
    sure_failures: int
    failed_at: float
    is_told_when: bool
    most_spans: int
    refusal: Result | None


@dataclass(slots=True, eq=False)
class _Told:
    """What the spool says of a batch that it was given, and what is left to do about it (None: that is not known)."""

    job: Job
    future: Future[Entry] | None = None
    steps: deque[Callable[[], None]] | None = None
    errors: int = 0

    def entry(self) -> Entry | None:
        if self.future is None:
            return None
        try:
            return self.future.result()
        except (SpoolRefusedError, CancelledError):
            return None


class Storing:
    """The delivery's side of the spool.

    Args:
        spool: where the batches go.
        changes: the delivery's lock.
        clock: seconds that never go back.
        stored: called with a job and its entry, or with None when it was not taken, by the spool's thread, or by who
            calls `put` and `catch_up` where that was quicker or has failed; returns what is left to do. What raises is
            done again.

    Attributes:
        why_broken: what it raised to the last; empty as long as all goes on.
    """

    def __init__(
        self,
        spool: Spool,
        changes: Changes,
        clock: Callable[[], float],
        stored: Callable[[Job, Entry | None], Iterator[Callable[[], None]]],
    ) -> None:
        self._spool = spool
        self._changes = changes
        self._clock = clock
        self._stored = stored
        # Of spooled parts, by generation and id: those that came first are forgotten first.
        self._past: dict[tuple[int, int], _Past] = {}
        self._suspects: dict[str, set[tuple[int, int]]] = {}  # by destination
        # When the spool may have such a part for a destination again, where it had none.
        self._look_at: dict[tuple[str, Which], float] = {}
        # Parts that are at no destination for sure, by destination, generation and id; of all others that is not known.
        self._sure: dict[str, dict[tuple[int, int], None]] = {}
        self._untold: dict[_Told, None] = {}  # whoever takes one out goes on with it
        self.why_broken = ""

    def put(self, job: Job) -> None:
        """Store a batch, whose job says so already; `stored` is called with what came of it."""
        if job.batch is not None:
            told = _Told(job)
            tell = functools.partial(self._tell, told)
            self._untold[told] = None
            try:
                told.future = self._spool.put(job.request)
            except BaseException:
                del self._untold[told]
                raise
            # The spool has it: whatever happens now, it is not put again. `catch_up` goes on without a callback, too.
            with contextlib.suppress(Exception):
                told.future.add_done_callback(tell)

    def room(self) -> int:
        """Return how many batches may be put now; says so when the disk hangs."""
        self._spool.look()
        return self._spool.room()

    def cancel(self, job: Job) -> None:
        """Let a batch that has its outcome not be stored, if that has not begun."""
        for told in tuple(self._untold):
            if told.job is job and told.future is not None:
                told.future.cancel()

    def withdraw(self, entry: Entry) -> None:
        """Let a batch be forgotten that was stored when it had its outcome already."""
        self._spool.withdraw(entry)

    def destinations(self) -> Collection[str]:
        """Return which destinations something is stored for."""
        return self._spool.destinations()

    def view(self, destination: str) -> SpoolView:
        """Return what `take` may give for a destination."""
        now = self._clock()
        can = {which: now >= self._look_at.get((destination, which), now) for which in Which}
        has_any = can[Which.ANY] and self._spool.can_take(destination)
        return SpoolView(
            untried=has_any and can[Which.UNTRIED],
            unsuspected=has_any and can[Which.UNSUSPECTED],
            suspect=has_any and bool(self._suspects.get(destination)),
        )

    def seconds_until_take(self, destination: str) -> float | None:
        """Return when a part that is stored may be sent; None where all of them are being sent, or there is none."""
        return self._spool.seconds_until_take(destination)

    def take(self, destination: str, which: Which, *, newest: bool) -> Job | None:
        """Return a part for a destination that nobody has in hand; waits for the disk."""
        if which is Which.SURE:
            return self._take_sure(destination)
        without = self._passed_over(destination, which)
        entries = self._spool.take(without=without, newest=newest, destination=destination)
        if not entries:
            with self._changes:
                self._look_at[destination, which] = self._clock() + LOOK_AGAIN_SECONDS
            return None
        (entry,) = entries
        try:
            return self._job(entry)
        except BaseException:
            self._spool.back(entry)
            raise

    def has_sure(self, destination: str) -> bool:
        """Return whether `take` may give a part that is at no destination for sure."""
        is_due = self._clock() >= self._look_at.get((destination, Which.SURE), float("-inf"))
        return is_due and bool(self._sure.get(destination)) and self._spool.can_take(destination, even_resting=True)

    def _take_sure(self, destination: str) -> Job | None:
        with self._changes:
            sure = self._sure.get(destination)
            if not sure:
                return None
            _, identity = key = next(iter(sure))
            del sure[key]  # it has expired, or it is in hand, or this thread gets it
        for entry in self._spool.take(only=identity):
            try:
                job = self._job(entry)
            except BaseException:
                self._spool.back(entry)
                raise
            job.is_doubtful = key != (entry.generation, identity)
            return job
        return None

    def divide(self, job: Job, entry: Entry) -> bool:
        """Put what is left of a part in its place, as parts for their destinations; waits for the disk.

        Returns:
            whether the part is not the caller's any more.
        """
        try:
            made = self._spool.divide(entry, tuple(job.left))
        except SpoolRefusedError:
            return False
        # What is durable must not look as if it were undone: it would be sent twice.
        with contextlib.suppress(Exception):
            self._note_divided(job, entry, made)
        return True

    def _note_divided(self, job: Job, entry: Entry, made: Sequence[Stored]) -> None:
        with self._changes:
            self._forget((entry.generation, entry.stored.id))
            if not job.is_doubtful:
                for stored in made:
                    self._note_sure(stored.destination, (entry.generation, stored.id))
            for stored in made:
                for which in Which:
                    self._look_at.pop((stored.destination, which), None)

    def _note_sure(self, destination: str, key: tuple[int, int]) -> None:
        sure = self._sure.setdefault(destination, {})
        sure[key] = None
        if len(sure) > _MOST_KNOWN:
            del sure[next(iter(sure))]

    def give_back(self, job: Job, entry: Entry) -> None:
        """Let a batch wait in the spool for its next attempt."""
        destination = job.request.destination
        key = (entry.generation, entry.stored.id)
        with self._changes:
            if job.is_doubtful or job.refusal is not None:  # what was refused moves to the dead letters alone
                self._sure.get(destination, {}).pop(key, None)
            else:
                self._note_sure(destination, key)
            if job.left[0].destination != destination:  # nor did the others take it: not again at once
                self._look_at[destination, Which.SURE] = self._clock() + LOOK_AGAIN_SECONDS
            if job.failures:
                self._forget(key)
                if len(self._past) >= _MOST_KNOWN:
                    self._forget(next(iter(self._past)))
                self._past[key] = _Past(
                    destination,
                    job.failures,
                    job.own_failures,
                    job.sure_failures,
                    job.failed_at,
                    job.is_told_when,
                    job.most_spans,
                    job.refusal if job.left[0].spans == job.spans else None,  # of a half: the whole is sent again
                )
                if job.own_failures:
                    self._suspects.setdefault(destination, set()).add(key)
            else:
                self._look_at.pop((destination, Which.UNTRIED), None)
            if not job.own_failures:
                self._look_at.pop((destination, Which.UNSUSPECTED), None)
        self._spool.back(entry, job.not_before)

    def forget_destination(self, destination: str) -> None:
        """Forget what is known of a destination that has gone, and for which nothing is stored; under the lock."""
        self._sure.pop(destination, None)
        self._suspects.pop(destination, None)
        for which in Which:
            self._look_at.pop((destination, which), None)

    def try_now(self) -> None:
        """Let what rests in the spool be taken now."""
        self._spool.end_rests()
        with self._changes:
            self._look_at.clear()

    def remove(self, entry: Entry, outcome: Outcome) -> None:
        """Say what became of a batch, which leaves the spool."""
        with self._changes:
            self._forget((entry.generation, entry.stored.id))
        self._spool.done(entry, outcome)

    def _forget(self, key: tuple[int, int]) -> None:
        past = self._past.pop(key, None)
        if past is not None:
            self._suspects.get(past.destination, set()).discard(key)

    def _passed_over(self, destination: str, which: Which) -> frozenset[int]:
        if which is Which.ANY:
            return frozenset()
        with self._changes:
            # Of a database that was set aside nothing is left, and the ids of a new one begin anew.
            generation = self._spool.generation
            for key in [key for key in self._past if key[0] != generation]:
                self._forget(key)
            passed_over = self._past if which is Which.UNTRIED else self._suspects.get(destination, ())
            return frozenset(identity for _, identity in passed_over)

    def _job(self, entry: Entry) -> Job:
        key = (entry.generation, entry.stored.id)
        with self._changes:
            past = self._past.get(key)
            is_sure = self._sure.get(entry.request.destination, {}).pop(key, self) is None
        born = self._clock() - self._spool.age_seconds(entry)
        job = Job(entry.request, born, entry=entry)
        job.sending, job.keeping = Sending.RUNNING, Keeping.STORED
        job.is_doubtful = not is_sure
        if past is not None:
            job.failures, job.own_failures, job.sure_failures = past.failures, past.own_failures, past.sure_failures
            job.failed_at, job.is_told_when = past.failed_at, past.is_told_when
            job.most_spans, job.refusal = past.most_spans, past.refusal
        return job

    def catch_up(self) -> None:
        """Go on with what an error came between, when the spool's thread told of it; called by the loop."""
        for told in tuple(self._untold):
            if told.future is not None and told.future.done():
                self._tell(told)

    def _tell(self, told: _Told, _future: Future[Entry] | None = None) -> None:
        if self._untold.pop(told, self) is self:
            return  # another thread goes on with it
        try:
            if told.steps is None:
                told.steps = deque(self._stored(told.job, told.entry()))
            while told.steps:
                told.steps[0]()
                told.steps.popleft()
        except Exception as error:  # noqa: BLE001 - no memory: `catch_up` goes on with it
            told.errors += 1
            if told.errors > _MOST_ERRORS:
                self.why_broken = repr(error)
            else:
                self._untold[told] = None
