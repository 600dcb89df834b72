"""Batches that wait too long are stored in the spool, and taken out of it to be sent."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Final

from drain.delivery.job import Job, Keeping, Sending
from drain.delivery.queue import LOOK_AGAIN_SECONDS
from drain.spool.spool import SpoolRefusedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent.futures import Future

    from drain.accounting.outcome import Outcome
    from drain.spool.spool import Entry, Spool

_STORE_AGAIN_SECONDS: Final = 1.0  # when the spool had no room
_REST_SHARE: Final = 1.5  # of the backend's wait: the next probe is made with another batch, if there is one
_MOST_FAILURES_KNOWN: Final = 10_000


class Storing:
    """The delivery's side of the spool.

    Args:
        spool: where the batches go.
        changed: the delivery's lock.
        clock: seconds that never go back.
        stored: called by the spool's thread with a job and its entry, or with None when it was not taken.
    """

    def __init__(
        self,
        spool: Spool,
        changed: threading.Condition,
        clock: Callable[[], float],
        stored: Callable[[Job, Entry | None], None],
    ) -> None:
        self._spool = spool
        self._changed = changed
        self._clock = clock
        self._stored = stored
        self._failures: dict[int, int] = {}  # of spooled batches, by id
        self._take_not_before = 0.0

    def put(self, job: Job) -> None:
        """Store a batch, whose job says so already; `stored` is called with what came of it."""
        if job.batch is not None:
            future = self._spool.put(job.batch.request, job.batch.spans_by_service())
            future.add_done_callback(functools.partial(self._answered, job))

    def may_take(self) -> bool:
        """Whether `take` may give something."""
        return self._clock() >= self._take_not_before and self._spool.can_take()

    def take(self) -> Job | None:
        """Return the oldest batch that nobody has in hand; waits for the disk."""
        entries = self._spool.take()
        if not entries:
            with self._changed:
                self._take_not_before = self._clock() + LOOK_AGAIN_SECONDS
            return None
        (entry,) = entries
        with self._changed:
            failures = self._failures.get(entry.stored.id, 0)
        job = Job(None, entry, entry.request.spans, deque([entry.request]), self._clock(), failures=failures)
        job.born -= self._spool.age_seconds(entry)
        job.sending, job.keeping = Sending.RUNNING, Keeping.STORED
        return job

    def give_back(self, job: Job, entry: Entry) -> None:
        """Let a batch wait in the spool for its next attempt."""
        with self._changed:
            if len(self._failures) >= _MOST_FAILURES_KNOWN:
                self._failures.clear()
            self._failures[entry.stored.id] = job.failures
        now = self._clock()
        self._spool.back(entry, now + _REST_SHARE * max(0.0, job.not_before - now))

    def remove(self, entry: Entry, outcome: Outcome) -> None:
        """Say what became of a batch, which leaves the spool."""
        with self._changed:
            self._failures.pop(entry.stored.id, None)
        self._spool.done(entry, outcome)

    def _answered(self, job: Job, future: Future[Entry]) -> None:
        try:
            entry = future.result()
        except SpoolRefusedError:
            with self._changed:
                job.store_not_before = self._clock() + _STORE_AGAIN_SECONDS
            self._stored(job, None)
        else:
            self._stored(job, entry)
