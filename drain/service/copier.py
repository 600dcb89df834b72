"""Records on their way: copied out of the lanes into batches, and released when the batch is settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.accounting.outcome import Outcome
from drain.exporters.protocol import partitioner_of, sends_gzip
from drain.log import RepeatedTrouble
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.destinations import grouped
from drain.otlp.encode_plan import find_spans
from drain.otlp.gzip_writers import WRITERS
from drain.rings.ring import Life
from drain.rings.segment import Segment
from drain.service.lane_holder import LaneHolder
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.span_metrics import SpanSummary
    from drain.delivery.batch import Batch, Batcher, Share
    from drain.exporters.protocol import Exporter
    from drain.rings.reader import Reader
    from drain.rings.ring import Ring
    from drain.rings.segment import Lane
    from drain.service.late_sampling import LateSampling

Become = Callable[["np.ndarray"], "Share"]
"""Makes of records of one ring what a batch has of them."""
Shares = Sequence[tuple[str, "Share"]]
"""What the records of a quantum became, by destination."""

_SAMPLED: Final[int] = lib.RB_SPAN_SAMPLED
# Half a lane: a producer with a doorbell would have rung at a quarter.
_LATE_SHARE: Final = 2
# A lane that is this full is not kept waiting for a batch to fill: the producer has only the rest.
_URGENT_SHARE: Final = 4
# After so many held records of a look at all lanes more may gather before the next: fewer cost little, and a program
# that writes a few may wait until they are read.
_MANY: Final = 256
# Records of a look that are held: they fill no batch, and the reader's scratch has room for fewer.
_MOST_HELD: Final = 1 << 16
# By so much more than those before records may take: what does not fit into a batch is encoded again, in halves.
_SPREAD: Final = 16


class Copier:
    """Copies a quantum of each lane into batches, and releases it in the end.

    Args:
        reader: whose rings.
        batcher: gets what is encoded.
        batch_bytes: of a batch, before compression: a quantum that makes more is halved.
        exporter: says whether spans are sorted by destination, and how.
        counts_unsampled: spans without the sampled flag are counted in the span metrics, and not delivered.
        late: decides on traces later, and holds their records until then; None: all are delivered.
        log: a line for each trouble.
        clock: seconds that never go back.

    Attributes:
        batch_bytes: as given, until somebody changes it.
        has_left: since somebody last said that it is not so, a look left records in a lane.
        is_short: likewise, there was no room in the hold for what a lane has.
        not_delivered: spans and records that were released without a delivery: rejected, dead letters, invalid.
    """

    def __init__(
        self,
        reader: Reader,
        batcher: Batcher,
        batch_bytes: int,
        exporter: Exporter,
        *,
        counts_unsampled: bool = False,
        late: LateSampling | None = None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._exporter = exporter
        self._counts_unsampled = counts_unsampled
        self._batcher = batcher
        self.batch_bytes = batch_bytes
        self._trouble = RepeatedTrouble(log, clock)
        self._clock = clock
        self._came_late = False
        self._taken = 0  # records into the hold
        self._unreleased: dict[Lane, Ring] = {}  # lanes out of which something is on its way
        self._holder = None if late is None else LaneHolder(late, self._count)
        self._late = late
        self.not_delivered = 0
        self.is_short = False
        self.has_left = False

    def came_late(self) -> bool:
        """Return whether a lane was found half full since this was last asked."""
        came_late, self._came_late = self._came_late, False
        return came_late

    def may_gather(self) -> bool:
        """Return whether more may gather: since the last call some came, or many were held, and no look left any."""
        may = self._taken >= (1 if self._late is None else _MANY) and not self.has_left
        self._taken = 0
        return may

    def serve(self, ring: Ring) -> bool:
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
            if self._holder is not None:
                return self._hold(self._holder, ring)
            lanes = [lane for lane in ring.lanes if ring.ready(lane)]
            for lane in lanes:
                self._read(ring, lane)
            return bool(lanes)
        except RingFormatError as error:
            self._reader.set_aside(ring, error)
            return True

    def settle(self, batches: Sequence[Batch]) -> None:
        """Release what has its outcome, in order, lane by lane; or settle it in the hold, where it came from there."""
        if self._late is not None:
            self._late.settle(batches)
        for batch in batches:
            for segment in batch.segments:
                if isinstance(segment, Segment) and segment.outcome is not None:
                    self.not_delivered += segment.outcome.rejected + segment.outcome.dead_lettered
        for lane, ring in list(self._unreleased.items()):
            if lane.segments and lane.segments[0].outcome is not None:
                self._release(ring, lane)
            if not lane.segments:
                del self._unreleased[lane]

    def tend(self) -> None:
        """Let rings go that are gone; once a second."""
        if self._holder is not None:
            self._holder.forget_gone(self._reader.rings)
            self._holder.forget_absent(self._reader.inodes)

    def _hold(self, holder: LaneHolder, ring: Ring) -> bool:
        """Take a quantum of each lane into the hold; return whether there was one, and room for it."""
        worked = False
        for lane in ring.lanes:
            ready = ring.ready(lane)
            if not (ready or holder.has_copied(lane)):
                continue
            self._came_late |= ready * _LATE_SHARE >= ring.capacity_slots
            invalid = holder.read(ring, lane, _MOST_HELD)
            left = ring.ready(lane)
            self._taken += ready - left
            self.has_left |= left > 0
            if invalid is None:
                self.is_short = True
                continue
            worked = True
            if invalid:
                self.not_delivered += invalid
                self._trouble.warn("records are no spans", ring=ring.name, invalid=invalid)
        return worked

    def _release(self, ring: Ring, lane: Lane) -> None:
        try:
            ring.release(lane)
        except RingFormatError as error:
            self._reader.set_aside(ring, error)
            return
        if ring.life is Life.SET_ASIDE and not ring.unreleased:
            self._reader.retire(ring)

    def _read(self, ring: Ring, lane: Lane) -> None:
        self._came_late |= ring.ready(lane) * _LATE_SHARE >= ring.capacity_slots
        are_kept = sends_gzip(self._exporter) and WRITERS.takes(ring.encoder)  # to become gzip as they are sent
        records = ring.copy(lane, self._batcher.room(ring.record_bytes), to_keep=are_kept)
        become: Become = partial(CopiedRecords, ring.encoder) if are_kept else ring.encode
        done = 0
        for part, shares, invalid, sampled_out in self._encoded(ring, records, become):
            segment = Segment(ring, lane, sum(share.spans for _, share in shares), invalid, sampled_out)
            if segment.spans or sampled_out:
                segment.summary = self._summarise(ring, records[done : done + part], invalid)
            done += part
            lane.segments.append(segment)
            if invalid:
                self.not_delivered += invalid
                self._trouble.warn("records are no spans", ring=ring.name, invalid=invalid, of=part)
            if segment.spans:
                self._batcher.add(segment, shares, self._clock())
            else:
                segment.outcome = Outcome(invalid=invalid, sampled_out=sampled_out)
        self._taken += len(records)
        self.has_left |= ring.ready(lane) > 0
        self._unreleased[lane] = ring  # before what may find the file unsound: what is on its way is still settled
        ring.release(lane)  # where nothing waits that is to be delivered
        if lane.unreleased * _URGENT_SHARE >= ring.capacity_slots:
            self._batcher.is_urgent = True

    def _encoded(self, ring: Ring, records: np.ndarray, become: Become) -> Iterator[tuple[int, Shares, int, int]]:
        """Encode or keep records, in halves where that takes more bytes than a batch may have, or one is not possible.

        Yields:
            How many records, those that are to be delivered by destination, how many are no spans, and how many spans
            are only counted.
        """
        wanted, counted, invalid = self._sorted_out(ring, records)
        shares = self._encode(ring, wanted, become)
        size = sum(share.size for _, share in shares or ())
        if len(records) > 1 and (shares is None or size > self.batch_bytes):
            middle = len(records) // 2
            yield from self._encoded(ring, records[:middle], become)
            yield from self._encoded(ring, records[middle:], become)
            return
        if shares is None:
            yield len(records), (), invalid + len(wanted), counted
        else:
            ring.record_bytes = size * _SPREAD // max(1, len(records)) // (_SPREAD - 1) + 1
            yield len(records), shares, invalid + sum(share.invalid for _, share in shares), counted

    def _sorted_out(self, ring: Ring, records: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Return the records that are to be delivered, and of the others how many are spans and how many are not."""
        if not self._counts_unsampled:
            return records, 0, 0
        is_sampled = (records["flags"] & _SAMPLED) != 0
        if is_sampled.all():
            return records, 0, 0
        others = records[~is_sampled]
        spans = int(find_spans(others, ring.layout).sum())
        return records[is_sampled], spans, len(others) - spans

    def _encode(self, ring: Ring, records: np.ndarray, become: Become) -> Shares | None:
        """Let records become shares.

        Returns:
            None where one of them makes the encoder raise, which must not end the drain.
        """
        try:
            return [(destination, become(part)) for destination, part in self._by_destination(ring, records)]
        except MemoryError:
            raise  # not the record's fault; what is not released is in the rings
        except Exception as error:  # noqa: BLE001 - whatever it is, the next drain would meet it again
            self._trouble.warn("records cannot be encoded", ring=ring.name, reason=repr(error))
            return None

    def _by_destination(self, ring: Ring, records: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        partitioner = partitioner_of(self._exporter)
        if partitioner is None or not len(records):
            yield "", records
            return
        names = partitioner.names
        contiguous = np.ascontiguousarray(records)
        destinations = partitioner.assign(contiguous, ring.service)
        for destination, part in grouped(contiguous, destinations, len(names)):
            yield names[destination], part

    def _count(self, ring: Ring, spans: np.ndarray) -> None:
        if ring.span_counter is None:
            return
        try:
            ring.span_counter.count(spans)
        except Exception as error:  # noqa: BLE001 - a count of durations is no reason to deliver nothing
            self._trouble.warn("records cannot be counted", ring=ring.name, reason=repr(error))

    def _summarise(self, ring: Ring, records: np.ndarray, invalid: int) -> SpanSummary | None:
        if ring.span_counter is None:
            return None
        try:
            return ring.span_counter.summarise(records, invalid)
        except Exception as error:  # noqa: BLE001 - a count of durations is no reason to deliver nothing
            self._trouble.warn("records cannot be summarised", ring=ring.name, reason=repr(error))
            return None
