"""What becomes of parts: settled when they have their verdict or the spool has them, cut where they are for others.

What becomes of a part is decided here and nowhere else: the records behind it are released by `drain.service`, in
order, when the last part of its batch is settled. A batch that is not settled stays in the rings.

                                        +--delivered, rejected, dead letter--> settled
    send --> waiting <--> attempt ------+
                |            |                          +--delivered, ...--> removed from the spool
                +--too long--+--> spooled: settled -----+
                                                        +--the attempt failed--> given back to the spool

With a spool, a part that waits too long is stored there while its attempt goes on. What comes first counts: one that
is delivered before the disk has it is settled at once, and forgotten by the spool. Nobody waits long for a disk.

Any step may raise (a MemoryError, a defect), and is such that it can be done again.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from typing import TYPE_CHECKING

from drain.accounting.outcome import Outcome
from drain.delivery.job import Job, Keeping, Sending
from drain.delivery.storing import STORE_AGAIN_SECONDS, Storing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from drain.delivery.batch import Batch
    from drain.delivery.changes import Changes
    from drain.delivery.hand_over import HandOver
    from drain.delivery.route import Route
    from drain.spool.spool import Entry, Spool


class Settlement:
    """Settles parts, and lets the spool have those that wait too long; any thread may call it.

    Args:
        changes: the delivery's lock.
        route_of: the way to a destination; called under the lock, too.
        hand_over: counts what is for others.
        spool: where parts go that wait; None: they stay in the rings.
        concurrency: how many parts are sent at the same time.
        done: called by a thread when it has settled a batch.
        met: told of an error that is no trouble with a backend, and of how many spans it came between.
        clock: seconds that never go back.

    Attributes:
        storing: the delivery's side of the spool; None without one.
        settled: batches that have their final outcome, until somebody takes them out.
    """

    def __init__(
        self,
        changes: Changes,
        route_of: Callable[[str], Route],
        hand_over: HandOver,
        spool: Spool | None,
        *,
        concurrency: int,
        done: Callable[[], None],
        met: Callable[[Exception, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._route_of = route_of
        self._hand_over = hand_over
        self._concurrency = concurrency
        self._done = done
        self._met = met
        self._clock = clock
        self.storing = None if spool is None else Storing(spool, changes, clock, self._stored)
        self.settled: deque[Batch] = deque()
        self._unsettled: dict[Job, None] = {}  # guarded by the lock

    def begin(self, jobs: Iterable[Job]) -> None:
        """Have these parts, which are on their way from now on; under the lock."""
        self._unsettled.update(dict.fromkeys(jobs))

    def spool_late(self, after: float) -> None:
        """Store the parts that have waited enough, or whose lane is half full; nothing to do without a spool.

        Args:
            after: seconds that one may wait.
        """
        if self.storing is None:
            return
        late: deque[Job] = deque()
        try:
            room = self.storing.room()
            with self._changes:
                late.extend(itertools.islice(self._late(after), room))
                for job in late:
                    job.keeping = Keeping.STORING
            self.storing.catch_up()
            while late:
                self.storing.put(late[0])
                late.popleft()
        except Exception as error:  # noqa: BLE001 - no memory: they are stored a moment later
            self._keep_in_rings(late)
            self._met(error, sum(job.spans for job in late))

    def conclude(self, job: Job) -> None:
        """Settle a part of which all has its final verdict."""
        with self._changes:
            job.sending = Sending.CONCLUDED
            self._unsettled.pop(job, None)
        if job.entry is None:
            self._settle(job, job.so_far)
            if self.storing is not None and job.keeping is Keeping.STORING:  # it does not wait for the disk
                self.storing.cancel(job)
        else:
            self._remove(job, job.entry)
        job.sending = Sending.GONE

    def let_wait(self, job: Job) -> None:
        """Let a batch wait for its next attempt: in the spool if it is there, and none of it was delivered."""
        with self._changes:
            if job.entry is None or any(job.so_far):
                route = self._route_of(job.request.destination)
                job.sending = Sending.WAITING
                route.waiting.append(job)  # from where `_stored` may take it
                return
        self._give_back(job, job.entry)
        job.sending = Sending.GONE

    def divide(self, job: Job) -> bool:
        """Let what is left of a part be parts of their own; return whether it is no longer this one's.

        One that is stored stays whole, unless its pieces are for other destinations: then they are stored in its place.
        """
        origin = job.request.destination
        is_divided = self._divide_in_memory(job)
        if job.entry is not None and self.storing is not None:
            is_for_others = job.left[0].destination != origin and not any(job.so_far)
            is_divided = is_for_others and self.storing.divide(job, job.entry)
        if not is_divided:
            job.release_whole()
            return False
        job.sending = Sending.GONE
        if job.left[0].destination != origin:
            self._hand_over.handed_over(origin, job.spans)
        self._note_change()
        return True

    def _divide_in_memory(self, job: Job) -> bool:
        with self._changes:
            batch = job.batch
            if batch is None or job.entry is not None:
                return False
            requests = tuple(job.left)
            pieces = [job.piece(request, 0) for request in requests]
            routes = [self._route_of(request.destination) for request in requests]
            unsettled: dict[Job, None] = {}
            for one in self._unsettled:
                unsettled.update(dict.fromkeys(pieces if one is job else (one,)))
            for piece, number in zip(pieces, batch.divide(job.number, len(pieces), job.so_far), strict=True):
                piece.number = number
            # Nothing from here on may raise: it is done once.
            self._unsettled = unsettled
            for route, piece in zip(reversed(routes), reversed(pieces), strict=True):
                route.waiting.insert(0, piece)
            job.batch, job.sending = None, Sending.GONE
            was_storing = job.keeping is Keeping.STORING
        if was_storing and self.storing is not None:
            self.storing.cancel(job)
        return True

    # ---- for the spool ----

    def _late(self, after: float) -> Iterator[Job]:
        """Return the parts that should be in the spool, the oldest first."""
        ahead, last = 0, None
        for job in self._unsettled:
            if last not in (None, job.batch):
                ahead += 1
            last = job.batch
            if self._is_late(ahead, job, after):
                yield job

    def _is_late(self, ahead: int, job: Job, after: float) -> bool:
        """Whether a part should be in the spool that has so many batches before it."""
        now = self._clock()
        if job.keeping is not Keeping.IN_RINGS or now < job.store_not_before:
            return False
        breaker = self._route_of(job.request.destination).breaker
        has_no_turn = job.failures or breaker.is_open or ahead > 2 * self._concurrency
        is_pressing = job.batch is not None and job.batch.is_pressing()
        return bool(has_no_turn or now - job.born >= after or is_pressing)

    def _keep_in_rings(self, jobs: Iterable[Job]) -> None:
        """Undo that batches were to be stored."""
        with self._changes:
            for job in jobs:
                job.keeping = Keeping.IN_RINGS
                job.store_not_before = self._clock() + STORE_AGAIN_SECONDS
            self._changes.note()

    def _stored(self, job: Job, entry: Entry | None) -> Iterator[Callable[[], None]]:
        """Take note of what the spool says of a batch, and return what is left to do; called by the spool's thread."""
        with self._changes:
            if entry is None:
                self._keep_in_rings([job])
                return iter(())
            if job.batch is None or job.sending in {Sending.CONCLUDED, Sending.GONE}:
                job.keeping = Keeping.IN_RINGS  # where it is counted; its attempt was faster than the disk
                return iter([functools.partial(self._withdraw, entry)])
            todo: list[Callable[[], None]] = [functools.partial(self._settle, job, Outcome(spooled=job.spans))]
            # Where an error came behind its verdict, nothing is left to be sent: it waits to be concluded.
            waits = job.sending is Sending.WAITING and not any(job.so_far)
            waiting = self._route_of(job.request.destination).waiting
            if waits:
                todo += [functools.partial(self._give_back, job, entry), self._note_change]
            # Nothing from here on may raise: it is done once.
            job.entry, job.keeping = entry, Keeping.STORED
            self._unsettled.pop(job, None)
            if waits:
                if job in waiting:
                    waiting.remove(job)
                job.sending = Sending.GONE
        return iter(todo)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        with self._changes:
            batch = job.batch
            is_last = True  # or it was, before something raised
            if batch is not None:
                # The last part settles the batch; what raises before the end of this is done again, and the same.
                is_last = batch.decide(job.number, outcome)
                if is_last:
                    self.settled.append(batch)
                job.batch = None
                self._changes.number += 1  # nobody waits for that: what comes next is for whoever has it in hand
        if is_last:
            self._done()

    def _note_change(self) -> None:
        with self._changes:
            self._changes.note()

    def _give_back(self, job: Job, entry: Entry) -> None:
        if self.storing is not None:
            self.storing.give_back(job, entry)

    def _withdraw(self, entry: Entry) -> None:
        if self.storing is not None:
            self.storing.withdraw(entry)

    def _remove(self, job: Job, entry: Entry) -> None:
        if self.storing is not None:
            self.storing.remove(entry, job.so_far)
