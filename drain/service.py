"""The drain's loop: rings to batches, batches to the backend, and what is delivered out of the rings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from drain.accounting.audit import Audit, log_audit, write_audit
from drain.accounting.outcome import Outcome
from drain.accounting.snapshot import Snapshot, SnapshotExchange
from drain.delivery.batch import Batcher
from drain.delivery.delivery import Delivery
from drain.delivery.stores import Stores
from drain.log import RepeatedTrouble
from drain.otlp.encoder import Encoded
from drain.rings.doorbell import Doorbell
from drain.rings.reader import Reader
from drain.rings.ring import Life
from drain.rings.segment import Segment
from drain.rings.upkeep import Upkeep
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from structlog.typing import FilteringBoundLogger

    from drain.accounting.span_metrics import SpanMetrics, SpanSummary
    from drain.accounting.spool_sums import SpoolSums
    from drain.accounting.sums import Sums
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.rings.directory import RingDirectory
    from drain.rings.intake import Admission
    from drain.rings.ring import Ring
    from drain.rings.segment import Lane
    from drain.standard_streams import TextStream

_LONGEST_NAP_SECONDS: Final = 0.02
_SHORTEST_NAP_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.25  # with nothing to do the loop goes round so often; rings are looked at after each nap
# After a rest without news. What comes next waits longer by a nap, once, which the batch delay leaves room for: 100 ms.
_QUIET_NAP_SECONDS: Final = 0.04
_QUIET_REST_SECONDS: Final = 1.0
_LAST_MOMENT_SECONDS: Final = 0.5  # for threads whose wait was cut short to end
_STORE_SECONDS: Final = 5.0  # for the spool to write what it was given
# Half a lane: a producer with a doorbell would have rung at a quarter.
_LATE_SHARE: Final = 2
# A lane that is this full is not kept waiting for a batch to fill: the producer has only the rest.
_URGENT_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How batches are made, and how long a stop may take.

    Attributes:
        batch_spans: spans in a batch.
        batch_bytes: of a batch, before compression.
        batch_delay: seconds that a batch waits for more spans.
        concurrency: batches that are sent at the same time.
        shutdown_timeout: seconds that a stop may take; of `drain_once`, the seconds without a delivery that end it.
    """

    batch_spans: int
    batch_bytes: int
    batch_delay: float
    concurrency: int
    shutdown_timeout: float


class Observer(Protocol):
    """Who is told how a service does, by its thread.

    Attributes:
        spans: counts the spans that are released; None: nobody does.
    """

    spans: SpanMetrics | None

    def went_round(self, status: Callable[[], str]) -> None:
        """The loop goes round; `status` says in a line what it does now."""

    def stopping(self, status: str) -> None:
        """It delivers what is there, and ends."""

    def broke(self, reason: str) -> None:
        """A thread has ended that was to go on: the service is about to end, too."""


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
        observer: who is told how it goes; None: nobody.
        clock: seconds that never go back.

    Attributes:
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
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self.why_broken = ""
        self.stores = stores or Stores()
        self.snapshots = SnapshotExchange(self._ring_doorbell, clock)
        self._limits = limits
        self._log = log
        self._audit_to = audit_to
        self._trouble = RepeatedTrouble(log, clock)
        self._clock = clock
        self._audit = Audit()
        self._doorbell = Doorbell(directory.path, directory.doorbell_mode)
        self._rung = 0  # the doorbell's word when the round began
        self._reader = Reader(
            directory,
            admission,
            exporter.encoding,
            self._audit,
            batch_spans=limits.batch_spans,
            log=log,
            spans=None if observer is None else observer.spans,
            clock=clock,
        )
        self._upkeep = Upkeep(directory, self._doorbell, self._reader, log=log, clock=clock)
        self._batcher = Batcher(exporter.encoding, limits.batch_spans, limits.batch_bytes)
        self._delivery = Delivery(
            exporter,
            policy,
            limits.concurrency,
            done=self._ring_doorbell,
            log=log,
            clock=clock,
            spool=self.stores.spool,
            spool_after=self.stores.spool_after,
            dead_letters=self.stores.dead_letters,
        )
        self._spool_lost_before = self._spool_lost()
        self._not_delivered = 0  # of what this drain took up: rejected, dead letters, invalid
        self._stop_requested = False
        self._is_hopeless = False
        self._audit_requested = False
        self._is_finishing = False
        self._came_late = False
        self._nap = _LONGEST_NAP_SECONDS
        self._is_quiet = False  # the last rest brought no news
        self._threads_ended = False

    @property
    def is_superseded(self) -> bool:
        """Whether another drain serves the directory, so that `run` ends and leaves the rings to it."""
        return self._upkeep.is_superseded

    def request_stop(self) -> None:
        """Let `run` deliver what is there and return; for signal handlers."""
        self._stop_requested = True

    def request_end(self) -> None:
        """Let `run` and `drain_once` return without another attempt: nobody takes spans any more, and nobody will."""
        self._is_hopeless = True
        self._stop_requested = True

    def request_audit(self) -> None:
        """Let the audit be told soon; for signal handlers."""
        self._audit_requested = True

    def run(self) -> int:
        """Drain until a stop is requested, and then what is there at that moment; or until another drain is found.

        Where a thread has ended that was to go on, that is as if a stop were requested.

        Returns:
            how many spans of that are left in the rings, and rings that are not examined yet; those in the spool are
            safe there.
        """
        while not (self._stop_requested or self.is_superseded or self.why_broken):
            if not self._round():
                self._sleep()
        if self._observer is not None:
            self._observer.stopping(self.status())
        if self.is_superseded:
            return self._leave()
        self._log.info("stopping", pending=sum(ring.pending for ring in self._reader.rings))
        return self._finish()

    def drain_once(self) -> int:
        """Drain what is there now, in rings and spool.

        Returns:
            how many spans of that were not delivered, whatever became of them, and files that could not be read.
        """
        left = self._finish(with_spool=True)
        left += sum(sums.waiting for sums in self.spool_sums().values()) + self._spool_lost() - self._spool_lost_before
        return left + self._not_delivered + self._reader.quarantined + self._reader.left_alone

    def sums(self) -> dict[str, Sums]:
        """Return what became of the spans of each service."""
        self._poll_all()
        return self._audit.by_service((ring.service, ring.sums()) for ring in self._reader.rings)

    def spool_sums(self) -> Mapping[str, SpoolSums]:
        """Return what became of the spooled spans of each service; empty without a spool."""
        return self.stores.spool.status().services if self.stores.spool else {}

    def snapshot(self) -> Snapshot:
        """Return what it does now, for those who watch."""
        self._poll_all()
        rings = self._reader.rings
        now = time.time_ns()
        lag: dict[str, float] = {}
        for ring in rings:
            oldest = ring.oldest_unix_nano()
            if oldest is not None:
                lag[ring.service] = max(lag.get(ring.service, 0.0), (now - oldest) / 1e9)
        states = {life.value.replace(" ", "_"): sum(ring.life is life for ring in rings) for life in Life}
        return Snapshot(
            services=self._audit.since_start((ring.service, ring.sums()) for ring in rings),
            lag_seconds=lag,
            rings={**states, "left_alone": self._reader.left_alone},
            quarantined_rings=self._reader.quarantined,
            batches_in_flight=self._delivery.in_flight,
        )

    def seconds_until_attempt(self) -> float:
        """Return in how many seconds the backend is tried next, of what waits for that; any thread may ask."""
        return self._delivery.seconds_until_attempt()

    def status(self) -> str:
        """Return one line about what it does now."""
        rings = self._reader.rings
        return f"{len(rings)} rings, {sum(ring.pending for ring in rings)} spans pending"

    def tell_audit(self) -> None:
        """Write the audit as a table, and to the log as one line."""
        services, spooled = self.sums(), self.spool_sums()
        try:
            write_audit(services, self._audit_to, spooled)
        except OSError as error:  # a closed pipe is no reason to stop
            self._trouble.warn("audit cannot be written", reason=str(error))
        log_audit(self._log, services, spooled)

    def close(self) -> bool:
        """Give the rings, the doorbell and the directory back; return whether all threads have ended."""
        self._reader.close()
        if self.stores.spool is not None:
            self._threads_ended &= self.stores.spool.close(_LAST_MOMENT_SECONDS)
        if self._threads_ended:  # one that still runs may ring
            self._doorbell.close()
        self._upkeep.directory.close()
        return self._threads_ended

    def _round(self) -> bool:
        """Do what there is to do, a bounded part for each ring; return whether there was anything."""
        self._rung = self._doorbell.value()  # before any look at what it may be rung for, a new ring among it
        worked = self._settle()
        if self._reader.take_examined():
            worked = True
            if self._is_finishing:
                self._stop_at_tails()
        if not self._is_finishing:
            worked |= self._reader.look()
            self._upkeep.look()
            if self.is_superseded:
                return True
        self._batcher.max_spans = min(self._limits.batch_spans, self._delivery.size.spans)
        for ring in self._reader.watch.with_news():
            if self._batcher.full:
                break  # the backend does not get on: what is not copied waits in the rings, where it has its bound
            worked |= self._serve(ring)
            self._send_full()
        worked |= self._send_due()
        self._delivery.spool_late()
        if self._audit_requested:
            self._audit_requested = False
            self.tell_audit()
        if self.snapshots.is_wanted:
            self.snapshots.publish(self.snapshot())
        self._look_at_threads()
        if self._observer is not None:
            self._observer.went_round(self.status)
        return worked

    def _look_at_threads(self) -> None:
        spool = self.stores.spool
        why = self._delivery.why_broken or ("the spool's thread has ended" if spool and spool.is_broken else "")
        if why and not self.why_broken:
            self.why_broken = why
            self._log.error("the drain ends, to be started again: a thread has ended that was to go on", reason=why)
            if self._observer is not None:
                self._observer.broke(why)

    def _settle(self) -> bool:
        """Release what has its outcome, in order, lane by lane."""
        batches = self._delivery.settled()
        for batch in batches:
            for segment in batch.segments:
                if segment.outcome is not None:
                    self._not_delivered += segment.outcome.rejected + segment.outcome.dead_lettered
                self._release(segment.ring, segment.lane)
        return bool(batches)

    def _release(self, ring: Ring, lane: Lane) -> None:
        try:
            ring.release(lane)
        except RingFormatError as error:
            self._reader.set_aside(ring, error)
            return
        if ring.life is Life.SET_ASIDE and not ring.unreleased:
            self._reader.retire(ring)

    def _serve(self, ring: Ring) -> bool:
        """Copy a quantum of each lane to the batches, or let the ring go when it has ended."""
        if ring.life is Life.SET_ASIDE:
            return False
        was_ending = ring.life is Life.ENDING  # known before this poll: its tails are final
        try:
            ring.poll()
            if was_ending and not ring.pending:
                self._reader.retire(ring)
                return True
            if ring.is_closed and not was_ending:
                self._reader.producer_has_left(ring)
                return True
            lanes = [lane for lane in ring.lanes if ring.ready(lane)]
            for lane in lanes:
                self._read(ring, lane)
            return bool(lanes)
        except RingFormatError as error:
            self._reader.set_aside(ring, error)
            return True

    def _read(self, ring: Ring, lane: Lane) -> None:
        self._came_late |= ring.ready(lane) * _LATE_SHARE >= ring.capacity_slots
        records = ring.copy(lane, self._batcher.max_spans)
        done = 0
        for part, encoded in self._encoded(ring, records):
            segment = Segment(ring, lane, encoded.spans, encoded.invalid)
            segment.summary = self._summarise(ring, records[done : done + part], encoded)
            done += part
            lane.segments.append(segment)
            if encoded.invalid:
                self._not_delivered += encoded.invalid
                self._trouble.warn("records are no spans", ring=ring.name, invalid=encoded.invalid, of=part)
            if encoded.spans:
                self._batcher.add(segment, encoded, self._clock())
            else:
                segment.outcome = Outcome(invalid=encoded.invalid)
        ring.release(lane)  # where nothing but invalid records waits
        if lane.unreleased * _URGENT_SHARE >= ring.capacity_slots:
            self._batcher.is_urgent = True

    def _encoded(self, ring: Ring, records: np.ndarray) -> Iterator[tuple[int, Encoded]]:
        """Encode records, in halves where they make more bytes than a batch may have, or one cannot be encoded."""
        encoded = self._encode(ring, records)
        if len(records) > 1 and (encoded is None or len(encoded.body) > self._limits.batch_bytes):
            middle = len(records) // 2
            yield from self._encoded(ring, records[:middle])
            yield from self._encoded(ring, records[middle:])
        else:
            yield len(records), encoded or Encoded(b"", 0, len(records))

    def _encode(self, ring: Ring, records: np.ndarray) -> Encoded | None:
        """Encode records; None where one of them makes the encoder raise, which must not end the drain."""
        try:
            return ring.encode(records)
        except MemoryError:
            raise  # not the record's fault; what is not released is in the rings
        except Exception as error:  # noqa: BLE001 - whatever it is, the next drain would meet it again
            self._trouble.warn("records cannot be encoded", ring=ring.name, reason=repr(error))
            return None

    def _summarise(self, ring: Ring, records: np.ndarray, encoded: Encoded) -> SpanSummary | None:
        if ring.span_counter is None or not encoded.spans:
            return None
        try:
            return ring.span_counter.summarise(records, encoded.invalid)
        except Exception as error:  # noqa: BLE001 - a count of durations is no reason to deliver nothing
            self._trouble.warn("records cannot be summarised", ring=ring.name, reason=repr(error))
            return None

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
        age = self._batcher.age(self._clock())
        return self._is_finishing or self._batcher.is_urgent or age >= self._limits.batch_delay

    def _sleep(self) -> None:
        """Wait for a producer, a delivery or a signal: a nap at most, or naps while there is nothing to do."""
        if self._delivery.has_settled or self._stop_requested or self._audit_requested or self.snapshots.is_wanted:
            return
        nap = seconds = self._nap_seconds()
        if self._batcher.spans and self._delivery.is_idle:
            seconds = min(seconds, max(0.0, self._limits.batch_delay - self._batcher.age(self._clock())))
        if self._batcher.full or self._is_finishing:  # then only a delivery brings anything on
            self._doorbell.wait(self._rung, seconds)
            return
        is_idle = not (self._batcher.spans or self._delivery.in_flight or self._reader.in_examination)
        rests = nap == _LONGEST_NAP_SECONDS and is_idle
        if rests:
            nap, seconds = (_QUIET_NAP_SECONDS, _QUIET_REST_SECONDS) if self._is_quiet else (nap, _REST_SECONDS)
        self._is_quiet = not self._reader.watch.sleep(self._doorbell, self._rung, nap, seconds) and rests

    def _nap_seconds(self) -> float:
        """Return how long to wait: less after each time that a lane was found half full, which is too late."""
        if self._came_late:
            self._nap = max(_SHORTEST_NAP_SECONDS, self._nap / 2)
        else:
            self._nap = min(_LONGEST_NAP_SECONDS, self._nap * 2)
        self._came_late = False
        return self._nap

    def _finish(self, *, with_spool: bool = False) -> int:
        """Drain what is there now and end the delivery; return how many spans of it are left in the rings.

        Args:
            with_spool: empty the spool, too.
        """
        self._stop_at_tails()
        self._is_finishing = True
        # So that there is time left to spool what is not delivered by then.
        self._delivery.spool_after = min(self._delivery.spool_after, self._limits.shutdown_timeout / 2)
        deadline = self._clock() + self._limits.shutdown_timeout
        while not self._is_drained() or (with_spool and self._spooled_batches()):
            in_flight, spooled = self._delivery.in_flight, self._spooled_batches()
            if not self._round():
                self._sleep()
            is_progress = self._delivery.in_flight < in_flight or (with_spool and self._spooled_batches() < spooled)
            if is_progress and not self._stop_requested:
                deadline = self._clock() + self._limits.shutdown_timeout
            if self._is_hopeless or self._clock() >= deadline:
                break
        return self._end_delivery(deadline - self._clock())

    def _leave(self) -> int:
        """End beside the drain that serves the directory now; return how many spans are left to it."""
        left = sum(ring.pending for ring in self._reader.rings)
        self._reader.let_go()
        self._threads_ended = self._delivery.stop(_LAST_MOMENT_SECONDS)
        if self.stores.spool is not None:
            self._threads_ended &= self.stores.spool.close(_STORE_SECONDS)
        return left

    def _stop_at_tails(self) -> None:
        self._reader.scan()
        self._reader.check_producers()
        for ring in self._reader.rings:
            try:
                if ring.life is Life.ALIVE:
                    ring.stop_at_tails()
                    if ring.is_closed:
                        self._reader.producer_has_left(ring)
            except RingFormatError as error:
                self._reader.set_aside(ring, error)

    def _end_delivery(self, seconds: float) -> int:
        self._threads_ended = self._delivery.stop(max(_LAST_MOMENT_SECONDS, seconds))
        if self.stores.spool is not None:
            self._threads_ended &= self.stores.spool.close(_STORE_SECONDS)
        self._settle()
        self._poll_all()
        left = sum(ring.pending for ring in self._reader.rings if ring.life is not Life.SET_ASIDE)
        if unread := self._reader.in_examination:
            self._log.error("rings are not examined yet, and left for the next drain", rings=unread)
        if left:
            self._log.error("spans are left in the rings, for the next drain", pending=left)
        if waiting := sum(sums.waiting for sums in self.spool_sums().values()):
            self._log.warning("spans wait in the spool, for the next drain", waiting=waiting)
        return left + unread

    def _spooled_batches(self) -> int:
        return self.stores.spool.status().batches if self.stores.spool else 0

    def _spool_lost(self) -> int:
        """Return how many spans the spool ever took that were not delivered and do not wait."""
        return sum(sums.spooled - sums.delivered - sums.waiting for sums in self.spool_sums().values())

    def _is_drained(self) -> bool:
        return not self._reader.in_examination and all(
            ring.life is Life.ALIVE and not ring.pending for ring in self._reader.rings
        )

    def _poll_all(self) -> None:
        for ring in self._reader.rings:
            if ring.life is not Life.SET_ASIDE:
                try:
                    ring.poll()
                except RingFormatError as error:
                    self._reader.set_aside(ring, error)

    def _ring_doorbell(self) -> None:
        self._doorbell.ring()
