"""Late sampling, between rings and batches: spans wait in the hold for the decision on their trace.

What is decided goes on record before the first of its spans is settled, so that no kill tears a trace.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.log import RepeatedTrouble
from drain.sampling.decision_words import packed, unpacked
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import HoldFullError
from drain.sampling.rates_file import read_rates, write_rates
from drain.sampling.sampler import Why
from drain.sampling.seen_records import RecordLooker
from drain.sampling.traces import Fates, Traces
from drain.service.held_batches import HeldBatches
from ringbuf._ringbuf import lib
from ringbuf.ring.resource import resource_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.batch import Batch, Batcher
    from drain.otlp.request import Encoding
    from drain.rings.ring import Ring
    from drain.sampling.hold.hold import Found, Hold
    from drain.sampling.hold.origins import Origin
    from drain.sampling.rules import Rules
    from drain.sampling.traces import Counts

_SECOND: Final = 1_000_000_000
_RATES: Final = "rates"  # the file of them, in the hold's folder
_LEAST_SLOT: Final = 64  # bytes
_SLOTS_A_TRACE: Final = 4  # of the least: so many traces may wait as the hold has room for with so many slots each
_MOST_SPANS, _MOST_TRACES = 1 << 28, 1 << 24  # of the trace table
_NOWHERE: Final = 2**64 - 1
_MOST_AT_ONCE: Final = 65536  # records of a look


class Taken(NamedTuple):
    """What became of the records of a look at a lane.

    Attributes:
        held: are in the hold now.
        sampled_out: were decided on at once, and are not.
    """

    held: int
    sampled_out: int


class _Member(NamedTuple):
    """A ring that is served.

    Attributes:
        number: of the trace table.
        origin: of its records.
        looker: at them.
    """

    number: int
    origin: Origin
    looker: RecordLooker


class LateSampling:
    """Decides which spans are delivered, after their trace has ended.

    Args:
        hold: where they wait; what it found there is taken up.
        rules: which.
        batcher: gets what is kept.
        encoding: of its batches.
        batch_bytes: of a batch, before compression.
        log: a line for each trouble.
        clock: seconds, that of the batcher.
        clock_nano: CLOCK_MONOTONIC, that of the hold.

    Attributes:
        hold: as given.

    Raises:
        RingBufferError: there is no memory for the trace table.
    """

    def __init__(
        self,
        hold: Hold,
        rules: Rules,
        batcher: Batcher,
        encoding: Encoding,
        *,
        batch_bytes: int,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        clock_nano: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.hold = hold
        self._rules = rules
        self._clock_nano = clock_nano
        self._trouble = RepeatedTrouble(log, clock)
        self._batches = HeldBatches(hold, rules, batcher, encoding, batch_bytes, clock=clock, trouble=self._trouble)
        slots = min(max(hold.capacity_bytes // _LEAST_SLOT, 1024), _MOST_SPANS)
        self._decisions_room = min(slots // _SLOTS_A_TRACE, _MOST_TRACES)
        self._traces = Traces(
            rules,
            hold.decisions.key,
            traces=self._decisions_room,
            spans=slots,
            decided=self._decisions_room,
            look=max(_MOST_AT_ONCE, batcher.max_spans),
            rates=read_rates(hold.folder / _RATES, clock_nano()),
        )
        self._members: dict[RingKey, _Member] = {}
        self._traces.remember(unpacked(hold.decisions.found, rules, clock_nano()))
        # While there was no drain nothing could come: that time is no part of a wait.
        idle_nano = max(0, clock_nano() - max((found.arrived_nano for found in hold.found), default=0))
        for found in sorted(hold.found, key=lambda found: found.arrived_nano):
            self._take_up(found, found.arrived_nano + idle_nano)
        hold.found.clear()

    @property
    def waiting(self) -> int:
        """How many held spans are not settled: they wait for the decision on their trace, or for their delivery."""
        return self._traces.counts().waiting_spans + self.on_their_way

    @property
    def on_their_way(self) -> int:
        """How many spans are kept, and not delivered yet."""
        return self._batches.on_their_way

    @property
    def rule_names(self) -> list[str]:
        """Of the rules, in their order."""
        return [rule.name for rule in self._rules.rules]

    @property
    def not_delivered(self) -> int:
        """How many spans that were kept ended without a delivery."""
        return self._batches.not_delivered

    def counts(self) -> Counts:
        """Return what was decided so far."""
        return self._traces.counts()

    def join(self, ring: Ring) -> None:
        """Take a ring in that is to be read.

        Raises:
            HoldFullError: there is no room for what says how to read it.
        """
        origin = self.hold.origin(ring.layout.to_json(), resource_to_json(ring.resource), ring.root_threshold)
        looker = RecordLooker(self._rules, origin.layout, origin.service, origin.root_threshold)
        self._members[_key_of(ring)] = _Member(self._traces.join(), origin, looker)

    def leave(self, ring: Ring) -> None:
        """Let a ring go; what waits of it goes on to wait."""
        member = self._members.pop(_key_of(ring), None)
        if member is not None:
            self._traces.leave(member.number)

    def has_room(self, ring: Ring, count: int) -> bool:
        """Return whether so many records of a ring can be held, now that what can be done for it is done.

        Where there is no room the oldest traces are decided early, of the ring with most spans waiting, then of the
        next. Room comes in chunks: more than is asked for has to go.
        """
        slot_bytes = self._members[_key_of(ring)].origin.layout.slot_bytes
        now_nano = self._clock_nano()
        spans = max(count, 1)
        while not self.hold.has_room(slot_bytes, count):
            self._traces.decide_due(now_nano)
            settled = self._traces.decide_early(spans, Why.HOLD, now_nano)
            self._settle()
            if not settled:
                return self.hold.has_room(slot_bytes, count)
            spans *= 2
        return True

    def read(self, ring: Ring, lane: int, records: np.ndarray, start: int, upto: int, invalid: int) -> Taken:
        """Take in what one look at a lane gave, after `has_room`.

        Args:
            ring: that has joined.
            lane: of it.
            records: array of its layout: the spans among the look's records, maybe none.
            start: position at which the look began.
            upto: position at which it ended.
            invalid: records of the look that are no spans.

        Raises:
            HoldFullError: there is no room all the same; the records are to stay in the ring, and come again.
        """
        key = _key_of(ring)
        member = self._members[key]
        now_nano = self._clock_nano()
        places = np.full(len(records), _NOWHERE, np.uint64)
        is_held, fates, place = self._look(member, records, now_nano)
        held = int(is_held.sum())
        dropped = len(records) - held
        self._put_on_record()
        if held:
            try:
                first = self.hold.append(
                    *(member.origin, key, lane, start, upto, _some(records, is_held)),
                    invalid=invalid,
                    sampled_out=dropped,
                )
            except HoldFullError:  # a file was removed under it
                place(places)
                raise
            places[is_held] = np.arange(first, first + held, dtype=np.uint64)
        place(places)
        is_kept = fates.is_kept
        self._batches.add(places[is_kept], Fates(*(array[is_kept] for array in fates)))
        self._settle()
        return Taken(held, dropped)

    def decide(self, now_nano: int) -> bool:
        """Decide on what is due, and give what is kept to the batcher; return whether there was anything."""
        self._traces.decide_due(now_nano)
        self._settle()
        return self._batches.send()

    def decide_all(self, now_nano: int) -> bool:
        """Decide on all that waits, by what is known of it."""
        self._traces.decide_due(now_nano)
        self._traces.decide_early(2**63, Why.STOP, now_nano)
        self._settle()
        return self._batches.send(at_once=True)

    def settle(self, batches: Iterable[Batch]) -> None:
        """Say in the hold what became of batches."""
        self._batches.settle(batches)

    def tend(self) -> None:
        """Do what is to be done once a second."""
        is_whole = self.hold.tend()
        if not is_whole or len(self.hold.decisions) > 2 * self._decisions_room:
            try:
                self.hold.decisions.rewrite(packed(self._traces.remembered(), self._rules))
            except OSError as error:
                self._trouble.warn("decisions cannot be put on record anew", reason=str(error))
        self._keep_rates()

    def close(self) -> None:
        """Let go of the hold; what waits, and the rates, are for the next drain."""
        self._keep_rates()
        self.hold.close()

    def seconds_until_due(self, now_nano: int) -> float | None:
        """Return when to call `decide` next at the latest; None: nothing waits."""
        due, sent = self._traces.next_due(), self._batches.seconds_until_sent()
        ends = [] if due is None else [max(0, due - now_nano) / _SECOND]
        return min(ends + ([] if sent is None else [sent]), default=None)

    def _look(
        self, member: _Member, records: np.ndarray, now_nano: int
    ) -> tuple[np.ndarray, Fates, Callable[[np.ndarray], None]]:
        """Return which records are to be held, what became of each, and the function that takes their places."""
        seen = member.looker.look(records)
        self._traces.decide_due(now_nano)
        self._settle()
        looked = self._traces.look(
            member.number,
            records,
            seen.masks,
            now_nano,
            root_threshold=member.origin.root_threshold,
            thresholds=seen.thresholds,
            randoms=seen.randoms,
            has_alone=len(member.origin.layout.attributes) < lib.RB_MAX_ATTRIBUTES,
        )
        return looked.is_held, looked.fates, lambda places: self._traces.place(looked, places)

    def _settle(self) -> None:
        """Settle what was decided: first on record, then in the hold."""
        self._put_on_record()
        settled = self._traces.take()
        is_kept = settled.fates.is_kept
        is_somewhere = settled.places != _NOWHERE
        dropped = settled.places[~is_kept & is_somewhere]
        if len(dropped):
            self.hold.settle(dropped, Fate.SAMPLED_OUT)
        is_kept &= is_somewhere
        self._batches.add(settled.places[is_kept], Fates(*(array[is_kept] for array in settled.fates)))

    def _put_on_record(self) -> None:
        decided = self._traces.decided()
        if not len(decided):
            return
        try:
            self.hold.decisions.append(packed(decided, self._rules))
        except OSError as error:  # better than to hold up all: only a kill would tear these traces
            self._trouble.warn("decisions cannot be put on record", reason=str(error), traces=len(decided))

    def _keep_rates(self) -> None:
        if not self._rules.have_rates:
            return
        try:
            write_rates(self.hold.folder / _RATES, self._traces.rates())
        except OSError as error:
            self._trouble.warn("the rates of the last seconds cannot be kept", reason=str(error))

    def _take_up(self, found: Found, arrived_nano: int) -> None:
        """Look once more at what waited when an earlier drain ended, as if it came then."""
        number = self._traces.join()
        member = _Member(
            number,
            found.origin,
            RecordLooker(self._rules, found.origin.layout, found.origin.service, found.origin.root_threshold),
        )
        for start in range(0, len(found.places), _MOST_AT_ONCE):
            for group in self.hold.records(found.places[start : start + _MOST_AT_ONCE]):
                _, fates, place = self._look(member, group.records, arrived_nano)
                place(group.places)
                is_kept = fates.is_kept
                self._batches.add(group.places[is_kept], Fates(*(array[is_kept] for array in fates)))
                dropped = group.places[fates.is_settled & ~is_kept]
                self._put_on_record()
                if len(dropped):
                    self.hold.settle(dropped, Fate.SAMPLED_OUT)
                self._settle()
        self._traces.leave(number)


def _key_of(ring: Ring) -> RingKey:
    return RingKey(ring.file.inode, ring.created_unix_nano)


def _some(records: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return some records, copied as bytes: numpy copies a record field by field."""
    if which.all():
        return records
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), -1)
    some: np.ndarray = raw[which].view(records.dtype).reshape(-1)
    return some
