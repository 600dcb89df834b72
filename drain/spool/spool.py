"""The spool: parts of batches that wait on disk for a backend that does not take them now.

One thread owns the database. Everybody else hands it jobs; all that wait at the same time become one transaction, so
that a disk that needs 5 ms to make a write durable takes many batches in these 5 ms.

An entry is held by whoever put or took it, until that one says what became of it (`done`) or gives it back (`back`).
What is held is not given to anybody else, and neither expired nor dropped.
"""

from __future__ import annotations

import functools
import math
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drain.accounting.spool_status import SpoolStatus
from drain.log import RepeatedTrouble
from drain.otlp.request import Request
from drain.spool.damage import set_aside_body
from drain.spool.database import Addition
from drain.spool.holds import Holds
from drain.spool.limits import SpoolLimits
from drain.spool.spool_time import Moment, SpoolTime, this_moment
from drain.spool.store import Removal, SpoolLockedError, SpoolStore
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.outcome import Outcome
    from drain.spool.database import Fate, Stored

__all__ = ["Entry", "Spool", "SpoolLimits", "SpoolLockedError", "SpoolRefusedError"]

DATABASE_NAME: Final = "spool.db"

_TEND_SECONDS: Final = 1.0
_TAKE_SECONDS: Final = 2.0  # that somebody who has other work waits for the disk
_STUCK_SECONDS: Final = 3.0  # of one transaction: then nobody begins to wait for the disk
_MOST_JOBS: Final = 32  # that wait for the thread: each may hold a batch
_PAUSE_SECONDS: Final = 0.05  # after an unexpected error
_MOST_ERRORS: Final = 100  # in a row: then it is no passing want of memory


class SpoolRefusedError(RingBufferError):
    """The spool does not take a batch now: it is full, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A part in the spool that the caller holds.

    Attributes:
        request: what is to be sent.
        stored: where it is.
        generation: of the database; entries of one that was set aside are gone from the spool.
    """

    request: Request
    stored: Stored
    generation: int


@dataclass(slots=True)
class _Put:
    request: Request
    future: Future[Entry]
    body: bytes = b""
    kept: Stored | None = None
    is_full: bool = False


@dataclass(slots=True)
class _Divide:
    entry: Entry
    requests: Sequence[Request]
    future: Future[Sequence[Stored]]
    bodies: Sequence[bytes] = ()
    made: Sequence[Stored] | None = None


@dataclass(slots=True)
class _Take:
    most: int
    without: frozenset[int]
    newest: bool
    destination: str | None
    only: int | None
    future: Future[list[tuple[Stored, bytes, int]]]
    taken: Sequence[tuple[Stored, bytes]] = ()


class _Stop:
    pass


_Job = _Put | Removal | _Divide | _Take | _Stop


class Spool:
    """A spool in a folder of its own; any thread may use it.

    Args:
        folder: made with mode 0700 if it is not there.
        limits: what it may take.
        log: a line for each change of state.
        now: the moment that it is, for the age of batches.
        clock: seconds that never go back.

    Raises:
        SpoolLockedError: another process has it.
        RingBufferError: the folder is not ours alone.
    """

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits,
        *,
        log: FilteringBoundLogger,
        now: Callable[[], Moment] = this_moment,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._log = log.bind(spool=str(folder))
        self._trouble = RepeatedTrouble(self._log, clock)
        self._time = SpoolTime(now)
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._holds = Holds(clock)
        self._refused_full = self._refused_failing = 0
        self._is_closing = False
        self._busy_since: float | None = None  # with the disk
        self._is_told_stuck = False
        self._store = SpoolStore(
            folder / DATABASE_NAME, limits, self._holds, log=self._log, time=self._time, clock=clock
        )
        # A daemon: a disk that hangs must not keep a stopped drain alive.
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()

    def put(self, request: Request) -> Future[Entry]:
        """Store a part.

        Args:
            request: what is to be sent.

        Returns:
            the entry, held by the caller, once it is durable; `SpoolRefusedError` when it was not taken. It can be
            cancelled until its transaction begins.
        """
        future: Future[Entry] = Future()
        self._jobs.put(_Put(request, future))
        return future

    def take(
        self,
        most: int = 1,
        *,
        without: frozenset[int] = frozenset(),
        newest: bool = False,
        destination: str | None = None,
        only: int | None = None,
    ) -> list[Entry]:
        """Return the oldest parts that nobody holds, which the caller then holds.

        Waits for the spool's thread, but no longer than two seconds: of a disk that hangs nothing is returned.

        Args:
            most: how many at most.
            without: ids of those that are passed over.
            newest: the newest instead.
            destination: of those that are for this one; None: whatever they are for.
            only: the one with this id, though it rests.
        """
        future: Future[list[tuple[Stored, bytes, int]]] = Future()
        self._jobs.put(_Take(most, without, newest, destination, only, future))
        try:
            taken = future.result(_TAKE_SECONDS)
        except TimeoutError:
            if not future.cancel():
                future.add_done_callback(self._let_go_of)
            return []
        entries = []
        try:
            for stored, body, generation in taken:
                request = Request.of_gzip(
                    body, stored.spans, stored.encoding, stored.destination, stored.services, stored.number
                )
                try:
                    request.body  # noqa: B018 - read, so that what a disk has changed is found here and not by the backend
                except ValueError as error:
                    self._set_body_aside(stored, body, generation, error)
                else:
                    entries.append(Entry(request, stored, generation))
        except BaseException:
            self._let_go_of(future)
            raise
        return entries

    def divide(self, entry: Entry, requests: Sequence[Request]) -> Sequence[Stored]:
        """Put parts in the place of one, in one transaction: a kill leaves the one, or all of them.

        Waits for the spool's thread, but no longer than two seconds.

        Args:
            entry: held by the caller, who does not hold it any more when this returns.
            requests: have its spans, each once.

        Returns:
            the parts, which nobody holds; none, where the entry has gone, or the disk hangs: then the spool itself goes
            on with it, or gives the entry back.

        Raises:
            SpoolRefusedError: it cannot be done now; the caller still holds the entry.
        """
        future: Future[Sequence[Stored]] = Future()
        self._jobs.put(_Divide(entry, requests, future))
        try:
            return future.result(_TAKE_SECONDS)
        except TimeoutError:
            if future.cancel():
                raise SpoolRefusedError("the disk does not answer") from None
            future.add_done_callback(functools.partial(self._give_back_undivided, entry))
            return ()

    def _give_back_undivided(self, entry: Entry, future: Future[Sequence[Stored]]) -> None:
        if future.exception() is not None:
            self.back(entry)

    def _let_go_of(self, future: Future[list[tuple[Stored, bytes, int]]]) -> None:
        for stored, _, generation in future.result():
            self._holds.rest(stored, generation, 0.0)

    def done(self, entry: Entry, outcome: Outcome) -> None:
        """Say what became of a held entry; it is removed soon.

        Args:
            entry: from `put` or `take`.
            outcome: delivered, rejected and dead-lettered spans; adds up to `entry.request.spans`.

        Raises:
            ValueError: it does not add up.
        """
        rejected, dead_lettered, delivered = outcome.rejected, outcome.dead_lettered, outcome.delivered
        if rejected + dead_lettered + delivered != entry.request.spans:
            raise ValueError(f"{outcome} does not add up to {entry.request.spans} spans")
        fates: dict[Fate, int] = {"rejected": rejected, "dead_lettered": dead_lettered, "delivered": delivered}
        self._jobs.put(Removal(entry.stored, entry.generation, fates))

    def withdraw(self, entry: Entry) -> None:
        """Undo a put, of which nobody was told: the batch has its outcome elsewhere."""
        self._jobs.put(Removal(entry.stored, entry.generation, None))

    def back(self, entry: Entry, not_before: float = 0.0) -> None:
        """Give a held entry back.

        Args:
            entry: from `put` or `take`.
            not_before: time of the spool's `clock` until which nobody is to get it.
        """
        self._holds.rest(entry.stored, entry.generation, not_before)

    def end_rests(self) -> None:
        """Let all entries be taken now that were given back for a later time."""
        self._holds.end_rests()

    def age_seconds(self, entry: Entry) -> float:
        """Return for how long an entry has been stored, whatever the clock was set to meanwhile."""
        return self._time.age_seconds(entry.stored.spooled)

    @property
    def is_broken(self) -> bool:
        """Whether its thread has ended, and nobody has closed it: nothing is stored or given any more."""
        return not (self._is_closing or self._thread.is_alive())

    @property
    def generation(self) -> int:
        """Of the database that there is now; see `Entry`."""
        return self._holds.generation

    def destinations(self) -> Collection[str]:
        """Return which destinations something is stored for."""
        return self._store.contents.by_destination.keys()

    def can_take(self, destination: str, *, even_resting: bool = False) -> bool:
        """Whether `take` would return something for this destination now."""
        stored = self._store.contents.by_destination.get(destination, 0)
        return not self._is_stuck and stored > len(self._holds.held(destination, even_resting=even_resting))

    def room(self) -> int:
        """Return how many batches may be put now, so that not too many wait for the disk."""
        return 0 if self._is_stuck else max(0, _MOST_JOBS - self._jobs.qsize())

    def look(self) -> None:
        """Say so when the disk hangs, or does no longer; for a thread that never waits for it."""
        is_stuck = self._is_stuck
        if is_stuck is not self._is_told_stuck:
            self._is_told_stuck = is_stuck
            if is_stuck:
                self._log.error("spool's disk does not answer, spans wait in the rings", seconds=_STUCK_SECONDS)
            else:
                self._log.info("spool's disk answers again")

    @property
    def _is_stuck(self) -> bool:
        since = self._busy_since
        return since is not None and self._clock() - since >= _STUCK_SECONDS

    def seconds_until_take(self, destination: str) -> float | None:
        """Return when `take` would return something for it; None where nothing rests, and nothing can be taken now."""
        if self.can_take(destination):
            return 0.0
        earliest = self._holds.earliest(destination)
        return None if math.isinf(earliest) else max(0.0, earliest - self._clock())

    def status(self) -> SpoolStatus:
        """Return what the spool holds, as of its last commit; never waits for the disk."""
        contents = self._store.contents
        return SpoolStatus(
            services=contents.services,
            services_before=self._store.found,
            batches=contents.batches,
            held=len(self._holds.held()),
            body_bytes=contents.body_bytes,
            file_bytes=contents.file_bytes,
            oldest_age_seconds=0.0 if contents.oldest is None else self._time.age_seconds(contents.oldest),
            refused_full=self._refused_full,
            refused_failing=self._refused_failing,
            set_aside=self._store.set_aside,
            is_writable=self._store.is_writable and not self._is_stuck,
        )

    def close(self, seconds: float = math.inf) -> bool:
        """Do the jobs that wait, and close the database; return whether that came to an end in time.

        Nobody may use the spool any more.
        """
        self._is_closing = True
        self._jobs.put(_Stop())
        self._thread.join(None if math.isinf(seconds) else seconds)
        return not self._thread.is_alive()

    def _set_body_aside(self, stored: Stored, body: bytes, generation: int, error: Exception) -> None:
        try:
            kept = str(set_aside_body(self._folder, body))
        except OSError as second:
            kept = f"nowhere: {second.strerror}"
        self._trouble.warn("spooled batch is damaged: set aside", spans=stored.spans, reason=str(error), kept=kept)
        self._jobs.put(Removal(stored, generation, {"damaged": stored.spans}))

    # ---- the thread ----

    def _work(self) -> None:
        next_tend = 0.0
        is_stopping = False
        errors = 0  # in a row
        jobs: deque[_Job] = deque()  # outlive an error: nobody may wait for ever
        # After the stop, too: whoever was told of a batch only now may have said what became of it behind it.
        while jobs or not (is_stopping and self._jobs.empty()):
            try:
                if not jobs:
                    self._gather(jobs)
                    self._busy_since = self._clock()
                    self._serve(jobs)
                    if self._clock() >= next_tend:
                        next_tend = self._clock() + _TEND_SECONDS
                        self._store.tend(is_idle=not jobs)
                    self._busy_since = None
                while jobs:
                    self._answer(jobs[0])
                    is_stopping |= isinstance(jobs[0], _Stop)
                    jobs.popleft()
                errors = 0
            except Exception as error:
                errors += 1
                self._busy_since = None
                if errors > _MOST_ERRORS:
                    raise
                for job in jobs:
                    if isinstance(job, Removal):  # may be done already, which does no harm
                        self._jobs.put(job)
                self._trouble.warn("spool met an unexpected error", reason=repr(error))
                time.sleep(_PAUSE_SECONDS)
        self._store.close()

    def _gather(self, jobs: deque[_Job]) -> None:
        """Add the jobs that wait, as many as make one transaction; wait a while for the first."""
        size = 0
        try:
            jobs.append(self._jobs.get(timeout=_TEND_SECONDS))
            while not isinstance(job := jobs[-1], _Stop):
                if isinstance(job, _Put | _Take | _Divide) and not job.future.set_running_or_notify_cancel():
                    jobs.pop()
                elif isinstance(job, _Put):
                    job.body = job.request.gzip()
                    size += len(job.body)
                elif isinstance(job, _Divide):
                    job.bodies = [request.gzip() for request in job.requests]
                    size += sum(map(len, job.bodies))
                if size >= self._store.group_bytes:
                    break
                jobs.append(self._jobs.get_nowait())
        except queue.Empty:
            pass

    def _serve(self, jobs: Iterable[_Job]) -> None:
        puts = [job for job in jobs if isinstance(job, _Put)]
        additions = [_addition(put.request, put.body) for put in puts]
        stored = self._store.write(additions, [job for job in jobs if isinstance(job, Removal)])
        for put, kept in zip(puts, stored or (), strict=False):
            put.kept = kept
            put.is_full = kept is None
        for job in jobs:
            if isinstance(job, _Divide) and job.made is None:
                parts = [_addition(*of_one) for of_one in zip(job.requests, job.bodies, strict=True)]
                job.made = self._store.divide(job.entry.stored, job.entry.generation, parts)
            elif isinstance(job, _Take):
                job.taken = self._store.take(
                    job.most, job.without, newest=job.newest, destination=job.destination, only=job.only
                )

    def _answer(self, job: _Job) -> None:
        """Say what became of a job; what met a disk in trouble, or a defect, is refused: nobody may wait for ever."""
        if isinstance(job, _Put) and not job.future.done():
            if job.kept is not None:
                job.future.set_result(Entry(job.request, job.kept, self._holds.generation))
            elif job.is_full:
                self._refused_full += 1
                job.future.set_exception(SpoolRefusedError("the spool is full"))
            else:
                self._refused_failing += 1
                job.future.set_exception(SpoolRefusedError("the spool cannot be written now"))
        elif isinstance(job, _Divide) and not job.future.done():
            if job.made is None:
                job.future.set_exception(SpoolRefusedError("the spool cannot be written now"))
            else:
                job.future.set_result(job.made)
        elif isinstance(job, _Take) and not job.future.done():
            job.future.set_result([(kept, body, self._holds.generation) for kept, body in job.taken])


def _addition(request: Request, body: bytes) -> Addition:
    return Addition(request.encoding, request.services, body, request.destination, request.batch)
