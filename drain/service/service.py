"""The drain's loop: rings to batches, batches to the backend, and what is delivered out of the rings."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from drain.accounting.audit import Audit
from drain.accounting.snapshot import SnapshotExchange
from drain.delivery.batch import Batcher
from drain.delivery.delivery import Delivery
from drain.delivery.stores import Stores
from drain.rings.doorbell import Doorbell
from drain.rings.reader import Reader
from drain.rings.upkeep import Upkeep
from drain.service.accounts import Accounts
from drain.service.copier import Copier
from drain.service.pace import Pace
from drain.service.shutdown import Shutdown
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.rings.admission import Admission
    from drain.rings.directory import RingDirectory
    from drain.sampling.rules import Rules
    from drain.service.limits import Limits
    from drain.service.observer import Observer
    from drain.service.sampling_plan import SamplingPlan
    from drain.standard_streams import TextStream

_TEND_SECONDS: Final = 1.0
_SHORT_SECONDS: Final = 0.05  # a hold without room is looked at so often; what a delivery frees is seen at once
# A batch of so many, or of half of what it may have, waits for no more: what a request costs beside its spans is shared
# by enough. What is in the rings already goes along, up to its bounds: the more there is, the fewer requests it takes.
_ENOUGH_SPANS: Final = 8192
# However small the requests become that a backend is to answer in time: each batch costs some milliseconds, and those
# of single spans could not be spooled as fast as they come. What is too large is cut again before it is sent.
_LEAST_BATCH_SPANS: Final = 512


class Service:
    """One drain of one ring directory; all methods but the `request_*` ones belong to one thread.

    Args:
        directory: locked for this drain; the service closes it.
        admission: which ring files are taken in.
        exporter: the caller closes it.
        policy: when to send a batch again.
        limits: sizes and times.
        log: a line for each change of state.
        audit_to: where the audit's table goes.
        stores: where batches go that cannot be delivered; the service closes the spool.
        sampling: which traces are kept, and where their spans wait; None: all are. The service closes the hold.
        observer: who is told how it goes; None: nobody.
        clock: seconds that never go back.

    Attributes:
        accounts: what became of the spans.
        snapshots: where other threads ask what it does.
        stores: as given.
        why_broken: which thread has ended that was to go on, and why; empty as long as none has.

    Raises:
        RingBufferError: the doorbell or the quarantine cannot be made.
    """

    def __init__(
        self,
        directory: RingDirectory,
        admission: Admission,
        exporter: Exporter,
        policy: RetryPolicy,
        limits: Limits,
        *,
        log: FilteringBoundLogger,
        audit_to: TextStream,
        stores: Stores | None = None,
        sampling: SamplingPlan | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._exporter = exporter
        self._log = log
        self._observer = observer
        self._clock = clock
        self.stores = stores or Stores()
        audit = Audit()
        self._doorbell = Doorbell(directory.path, directory.doorbell_mode)
        self._rung = 0  # the doorbell's word when the round began
        self._reader = Reader(
            directory,
            admission,
            exporter.encoding,
            audit,
            batch_spans=limits.batch_spans,
            are_held=sampling is not None,
            rules=None if sampling is None else sampling.rules_file,
            log=log,
            spans=None if observer is None else observer.spans,
            clock=clock,
        )
        self._upkeep = Upkeep(directory, self._doorbell, self._reader, log=log, clock=clock)
        self._batcher = Batcher(exporter.encoding, limits.batch_spans, limits.batch_bytes)
        self._late = None
        if sampling is not None:
            spans = None if observer is None else observer.spans
            self._late = sampling.decider(self._batcher, exporter, limits, metrics=spans, log=log, clock=clock)
        self._next_tend = 0.0
        self._copier = Copier(
            self._reader,
            self._batcher,
            limits.batch_bytes,
            exporter,
            counts_unsampled=limits.counts_unsampled,
            late=self._late,
            log=log,
            clock=clock,
        )
        self._delivery = Delivery(
            exporter,
            policy,
            limits.concurrency,
            done=self._doorbell.ring,
            log=log,
            clock=clock,
            spool=self.stores.spool,
            spool_after=self.stores.spool_after,
            dead_letters=self.stores.dead_letters,
        )
        self.accounts = Accounts(
            audit,
            self._reader,
            self._delivery,
            self.stores,
            exporter,
            late=self._late,
            log=log,
            audit_to=audit_to,
            clock=clock,
        )
        self.snapshots = SnapshotExchange(self._doorbell.ring, clock)
        self._pace = Pace()
        self._shutdown = Shutdown(
            self._reader,
            self._delivery,
            self.stores.spool,
            self.accounts,
            limits.shutdown_timeout,
            late=self._late,
            decides=limits.decides_on_stop,
            log=log,
            clock=clock,
        )
        self._audit_requested = False
        self._renewal: Admission | None = None
        self._rules: Rules | None = None
        self.why_broken = ""

    @property
    def is_superseded(self) -> bool:
        """Whether another drain serves the directory, so that `run` ends and leaves the rings to it."""
        return self._upkeep.is_superseded

    def request_stop(self) -> None:
        """Let `run` deliver what is there and return; for signal handlers."""
        self._shutdown.is_requested = True

    def request_end(self) -> None:
        """Let `run` and `drain_once` return without another attempt: nobody takes spans any more, and nobody will."""
        self._shutdown.is_hopeless = True
        self._shutdown.is_requested = True

    def request_renewal(self, admission: Admission, rules: Rules | None = None) -> None:
        """Let other files be taken in soon, and what waits be sent by what the exporter is now; any thread may ask.

        Args:
            admission: which ring files are taken in.
            rules: on whole traces; None: those in effect stay.
        """
        if rules is not None:
            self._rules = rules
        self._renewal = admission
        self._doorbell.ring()

    def request_audit(self) -> None:
        """Let the audit be told soon; for signal handlers."""
        self._audit_requested = True

    def run(self) -> int:
        """Drain until a stop is requested, and then what is there at that moment; or until another drain is found.

        Where a thread has ended that was to go on, that is as if a stop were requested.

        Returns:
            how many spans of that are left in the rings, and rings that are not examined yet; and what was lost since
            the service began. Spans in the spool are safe there.
        """
        while not (self._shutdown.is_requested or self.is_superseded or self.why_broken):
            self._go_round()
        if self._observer is not None:
            self._observer.stopping(self.status())
        if self.is_superseded:
            return self._shutdown.leave()
        self._log.info("stopping", pending=self._reader.pending)
        return self._finish() + self._lost()

    def drain_once(self) -> int:
        """Drain what is there now, in rings and spool.

        Returns:
            how many spans of that were not delivered, whatever became of them, and files that could not be read.
        """
        left = self._finish(with_spool=True) + self.accounts.spool_waiting() + self.accounts.hold_waiting()
        return left + self._lost() + self._reader.left_alone

    def seconds_until_attempt(self) -> float:
        """Return in how many seconds the backend is tried next, of what waits for that; any thread may ask."""
        return self._delivery.seconds_until_attempt()

    def has_more(self) -> bool:
        """Return whether anything waits for the backend, or is under way; any thread may ask."""
        return self._delivery.has_more

    def status(self) -> str:
        """Return one line about what it does now."""
        line = f"{counted(len(self._reader.rings), 'ring')}, {counted(self._reader.pending, 'span')} pending"
        if self._late is None:
            return line
        hold = self._late.hold
        full = hold.used_bytes / hold.capacity_bytes
        return f"{line}, {counted(self._late.waiting, 'span')} in the hold ({full:.0%} full)"

    def close(self) -> bool:
        """Give the rings, the doorbell and the directory back, though one raises; return whether all threads ended."""
        with contextlib.ExitStack() as closing:  # the last first
            closing.callback(self._upkeep.directory.close)
            closing.callback(self._close_doorbell)
            if self._late is not None:
                closing.callback(self._late.close)
            closing.callback(self._shutdown.close_spool)
            closing.callback(self._reader.close)
        return self._shutdown.threads_ended

    def _close_doorbell(self) -> None:
        if self._shutdown.threads_ended:  # one that still runs may ring
            self._doorbell.close()

    def _finish(self, *, with_spool: bool = False) -> int:
        """Drain what is there now and end the delivery; return how many spans of it are left in the rings."""
        seconds = self._shutdown.drain(self._go_round, with_spool=with_spool)
        self._shutdown.end_delivery(seconds)
        self._settle()
        return self._shutdown.tell_what_is_left()

    def _lost(self) -> int:
        """Return how many spans are lost since the service began, whatever became of them, and rings set aside."""
        lost = self._copier.not_delivered + self.accounts.spool_lost() + self.accounts.dropped()
        lost += self.accounts.hold_lost()
        return lost + self._reader.quarantined

    def _go_round(self) -> None:
        worked, may_gather = self._round(), self._copier.may_gather()
        if not worked:
            self._sleep()
        elif may_gather and not self._shutdown.is_finishing:
            self._gather()

    def _round(self) -> bool:
        """Do what there is to do, a bounded part for each ring; return whether there was anything."""
        self._rung = self._doorbell.value()  # before any look at what it may be rung for, a new ring among it
        worked = self._settle()
        self._renew()
        if self._reader.take_examined():
            worked = True
            if self._shutdown.is_finishing:
                self._reader.stop_at_tails()
        if not self._shutdown.is_finishing:
            worked |= self._reader.look()
            self._upkeep.look()
            if self.is_superseded:
                return True
        timely = max(self._delivery.most_spans, _LEAST_BATCH_SPANS)
        self._batcher.max_spans = min(self._limits.batch_spans, timely)
        self._batcher.max_bytes = self._copier.batch_bytes = min(self._limits.batch_bytes, self._delivery.most_bytes)
        worked |= self._serve_rings()
        worked |= self._decide()
        worked |= self._send_due()
        self._delivery.spool_late()
        if self._audit_requested:
            self._audit_requested = False
            self.accounts.tell_audit()
        if self.snapshots.is_wanted:
            self.snapshots.publish(self.accounts.snapshot())
        self._look_at_threads()
        if self._observer is not None:
            self._observer.went_round(self.status)
        return worked

    def _serve_rings(self) -> bool:
        """Copy a bounded part of each ring that has something; return whether there was anything."""
        worked = self._copier.is_short = self._copier.has_left = False
        for ring in self._reader.watch.with_news():
            if self._is_full:
                break
            worked |= self._copier.serve(ring)
            self._send_full()
        return worked

    @property
    def _is_full(self) -> bool:
        """Whether the backend does not get on: what is not copied waits in the rings, where it has its bound.

        With a hold it waits there.
        """
        return bool(self._batcher.full) and self._late is None

    def _decide(self) -> bool:
        """Decide on the traces whose time has come, and batch what is kept of them; return whether there were any."""
        if self._late is None:
            return False
        if self._clock() >= self._next_tend:
            self._next_tend = self._clock() + _TEND_SECONDS
            self._copier.tend()
            self._late.tend()
        worked = self._late.decide(time.monotonic_ns(), at_once=self._shutdown.is_finishing)
        self._send_full()
        return worked

    def _renew(self) -> None:
        admission, self._renewal = self._renewal, None
        if admission is not None:
            self._reader.admit(admission)
            self._delivery.try_now(self._exporter.endpoint)
        rules, self._rules = self._rules, None
        if rules is not None and self._late is not None:
            self._late.renew(rules)

    def _settle(self) -> bool:
        """Release what has its outcome; return whether there was anything."""
        batches = self._delivery.settled()
        self._copier.settle(batches)
        return bool(batches)

    def _send_full(self) -> bool:
        sent = False
        while self._batcher.full and self._delivery.has_room:
            self._delivery.send(self._batcher.full.popleft())
            sent = True
        return sent

    def _send_due(self) -> bool:
        """Send what is full; and what is not, when it has waited enough and a thread would otherwise be idle."""
        if not self._batcher.full and self._batcher.spans and self._delivery.is_idle and self._is_due():
            self._batcher.close()
        return self._send_full()

    def _is_due(self) -> bool:
        enough = max(_ENOUGH_SPANS, self._limits.batch_spans // 2)
        is_enough = self._batcher.spans >= enough and not self._copier.has_left
        is_asked = self._shutdown.is_finishing or self._batcher.is_urgent
        return is_enough or is_asked or self._seconds_of_delay() <= 0.0

    def _seconds_of_delay(self) -> float:
        """Return for how long the open batch may still wait for more spans."""
        return max(0.0, self._limits.batch_delay - self._batcher.age(self._clock()))

    @property
    def _is_wanted(self) -> bool:
        """Whether the loop is to go round at once."""
        is_asked = self._shutdown.is_requested or self._audit_requested or self.snapshots.is_wanted or self._renewal
        return bool(is_asked or self._delivery.has_settled)

    def _gather(self) -> None:
        """Let records gather for which nobody waits: what a look costs besides is spent for more of them."""
        if not self._is_wanted:
            came_late = self._copier.came_late()
            if self._late is not None:
                seconds = self._pace.gathering(came_late=came_late)
            else:
                seconds = self._pace.nap(came_late=came_late)
                if self._batcher.spans and self._delivery.is_idle:
                    seconds = min(seconds, self._seconds_of_delay())
            self._reader.watch.gather(self._doorbell, self._rung, seconds)

    def _sleep(self) -> None:
        """Wait for a producer, a delivery or a signal: a nap at most, or naps while there is nothing to do."""
        if self._is_wanted:
            return
        nap = seconds = self._pace.nap(came_late=self._copier.came_late())
        if self._batcher.spans and self._delivery.is_idle:
            seconds = min(nap, self._seconds_of_delay())
        if self._copier.is_short:
            seconds = _SHORT_SECONDS
        if self._late is not None and (due := self._late.seconds_until_due(time.monotonic_ns())) is not None:
            nap = seconds = min(seconds, due)
        # Only a delivery brings anything on then; a watch would see what waits in the rings, and return at once.
        if self._is_full or self._copier.is_short or self._shutdown.is_finishing:
            self._doorbell.wait(self._rung, seconds)
            return
        is_waiting = self._late is not None and self._late.waiting
        if not (self._batcher.spans or self._delivery.in_flight or self._reader.in_examination or is_waiting):
            nap, seconds = self._pace.rest()
        self._pace.woke(has_news=self._reader.watch.sleep(self._doorbell, self._rung, nap, seconds))

    def _look_at_threads(self) -> None:
        spool = self.stores.spool
        why = self._delivery.why_broken or ("the spool's thread has ended" if spool and spool.is_broken else "")
        if why and not self.why_broken:
            self.why_broken = why
            self._log.error("the drain ends, to be started again: a thread has ended that was to go on", reason=why)
            if self._observer is not None:
                self._observer.broke(why)
