"""Late sampling, between rings and batches: spans wait in the hold for the decision on their trace.

What is decided goes on record before the first of its spans is settled, so that no kill tears a trace.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.accounting.sampling_status import RuleStatus, SamplingStatus
from drain.log import RepeatedTrouble
from drain.sampling.decision_words import unpacked
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import HoldFullError
from drain.sampling.hold.picture import write_picture
from drain.sampling.rates_file import read_rates, write_rates
from drain.sampling.sampler import Why
from drain.sampling.traces import Fates, Traces
from drain.service.decision_record import DecisionRecord
from drain.service.held_batches import HeldBatches
from drain.service.looked_part import NO_PLACE, kept_for_themselves, merged
from drain.service.rules_in_effect import RulesInEffect
from drain.service.rules_in_turn import RulesInTurn
from drain.service.sampling_picture import picture_of
from ringbuf.ring.resource import resource_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.span_metrics import SpanMetrics
    from drain.delivery.batch import Batch, Batcher
    from drain.exporters.protocol import Partitioner
    from drain.otlp.request import Encoding
    from drain.rings.ring import Ring
    from drain.sampling.hold.hold import Found, Hold
    from drain.sampling.hold.origins import Origin
    from drain.sampling.rates import RateState
    from drain.sampling.rules import Rules
    from drain.sampling.thresholds import Thresholds
    from drain.sampling.traces import Counts
    from drain.service.rules_in_effect import Member

_SECOND: Final = 1_000_000_000
_RATES: Final = "rates"  # the file of them, in the hold's folder
_LEAST_SLOT: Final = 64  # bytes
_SLOTS_A_TRACE: Final = 4  # of the least: so many traces may wait as the hold has room for with so many slots each
_MOST_SPANS, _MOST_TRACES = 1 << 28, 1 << 24  # of the trace table
_AT_ONCE_NANO: Final = 10_000_000  # within which looks of an earlier drain are one
_MOST_AT_ONCE: Final = 65536  # records of a look
_MOST_SHARES: Final = 8  # a ring may have so much of the hold, one part of these, while there is room


class Taken(NamedTuple):
    """What became of the records of a look at a lane.

    Attributes:
        held: are in the hold now.
        sampled_out: were decided on at once, and are not.
    """

    held: int
    sampled_out: int


class LateSampling:
    """Decides which spans are delivered, after their trace has ended.

    Args:
        hold: where they wait; what it found there is taken up.
        rules: by which, until `renew` is given others.
        batcher: gets what is kept.
        encoding: of its batches.
        batch_bytes: of a batch, before compression.
        partitioner: gives what sorts spans by destination now; None: nothing does.
        counts_unsampled: spans without the sampled flag are not delivered in a dry run either.
        metrics: where the spans are counted, and exemplars of what is delivered are shown; None: nowhere.
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
        partitioner: Callable[[], Partitioner | None] = lambda: None,
        counts_unsampled: bool = False,
        metrics: SpanMetrics | None = None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        clock_nano: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.hold = hold
        self._clock_nano = clock_nano
        self._trouble = RepeatedTrouble(log, clock)
        self._batches = HeldBatches(
            hold, batcher, encoding, batch_bytes, partitioner, metrics=metrics, clock=clock, trouble=self._trouble
        )
        self._slots = min(max(hold.capacity_bytes // _LEAST_SLOT, 1024), _MOST_SPANS)
        self._decisions_room = min(self._slots // _SLOTS_A_TRACE, _MOST_TRACES)
        self._most_at_once = max(_MOST_AT_ONCE, batcher.max_spans)
        self._origins: dict[RingKey, Origin] = {}
        first = self._made(rules, rates=read_rates(hold.folder / _RATES, clock_nano()))
        self._rules = RulesInTurn(first, self._made, log, counts_unsampled=counts_unsampled)
        self._decided_for_room = 0  # spans, the last time that there was none
        self._awaited: int | None = None  # when no more than so many are on their way there may be room
        self._dropped_at_once: Counter[str] = Counter()  # by service: decided before they were held
        self._record = DecisionRecord(hold.decisions, self._decisions_room, self._trouble)
        first.traces.remember(unpacked(hold.decisions.found, rules, clock_nano()))
        # While there was no drain nothing could come: that time is no part of a wait.
        idle_nano = max(0, clock_nano() - max((found.arrived_nano for found in hold.found), default=0))
        self._take_up(hold.found, idle_nano)
        hold.found.clear()
        hold.decisions.found = hold.decisions.found[:0].copy()

    @property
    def waiting(self) -> int:
        """How many held spans are not settled: they wait for the decision on their trace, or for their delivery."""
        return self._rules.waiting_spans + self.on_their_way

    @property
    def on_their_way(self) -> int:
        """How many spans are kept, and not delivered yet."""
        return self._batches.on_their_way

    @property
    def rule_names(self) -> list[str]:
        """Of the rules in effect, in their order; behind them those that only traces which have begun are under."""
        return self._rules.names

    @property
    def not_renewed(self) -> int:
        """How many rules could not be taken up."""
        return self._rules.not_renewed

    @property
    def not_delivered(self) -> int:
        """How many spans that were kept ended without a delivery."""
        return self._batches.not_delivered

    def counts(self) -> Counts:
        """Return what was decided so far, by rule in the order of `rule_names`; in a dry run, and else, since it is."""
        return self._rules.counts()

    def status(self) -> SamplingStatus:
        """Return what was decided so far, and what waits, for those who watch."""
        counts, probabilities = self.counts(), self._rules.probabilities()
        oldest = self._rules.oldest_nano()
        return SamplingStatus(
            {
                name: RuleStatus(
                    {why.value: count for why, count in rule.traces.items()},
                    rule.kept_traces,
                    rule.kept_spans,
                    rule.dropped_spans,
                    probabilities[name],
                )
                for name, rule in zip(self.rule_names, counts.rules, strict=True)
            },
            is_dry_run=self._rules.current.are_dry,
            unsampled=counts.unsampled,
            late=counts.late,
            late_kept=counts.late_kept,
            waiting_spans=counts.waiting_spans,
            waiting_traces=counts.waiting_traces,
            oldest_wait_seconds=0.0 if oldest is None else max(0, self._clock_nano() - oldest) / _SECOND,
            malformed_trace_states=self._rules.malformed,
        )

    def renew(self, rules: Rules) -> None:
        """Let other rules decide on traces that begin from now on; those that have begun stay under theirs.

        While some are still under rules that were replaced, it is done when these are decided.
        Where it cannot be done, the log says so.
        """
        self._rules.renew(rules, self._origins)

    def join(self, ring: Ring) -> None:
        """Take a ring in that is to be read.

        Raises:
            HoldFullError: there is no room for what says how to read it.
        """
        document = (ring.layout.to_json(), resource_to_json(ring.resource), ring.root_threshold)
        try:
            origin = self.hold.origin(*document, owner=ring.owner)
        except HoldFullError as error:
            self._trouble.warn("a ring waits: the hold has no room for its layout", ring=ring.name, reason=str(error))
            raise
        key = _key_of(ring)
        for one in self._rules.in_effect:
            one.join(key, origin)
        self._origins[key] = origin

    def leave(self, ring: Ring) -> None:
        """Let a ring go; what waits of it goes on to wait."""
        key = _key_of(ring)
        for one in self._rules.in_effect:
            one.leave(key)
        self._origins.pop(key, None)

    def most_at_once(self, slot_bytes: int) -> int:
        """Return how many records of a ring are best asked about: of more than its share there is none to be had.

        Half of that, so that one look does not have all that waits of the ring decided early.

        Args:
            slot_bytes: of a record.
        """
        return max(1, self._share_bytes() // 2 // slot_bytes)

    def has_room(self, ring: Ring, count: int) -> bool:
        """Return whether so many records of a ring can be held, now that what can be done for it is done.

        A ring with more than its share of the hold gives way first: its own oldest traces are decided, and where that
        does not help it waits while the hold runs short, or it has more on its way than is left. Where there is no room
        the oldest traces are decided early of the ring with most bytes waiting, then of the next. Room comes in chunks:
        more than is asked for has to go. What is kept makes room when it is delivered: until then nothing more is
        decided for it.
        """
        key = _key_of(ring)
        slot_bytes = self._origins[key].layout.slot_bytes
        now_nano = self._clock_nano()
        if not self._is_within_its_share(key, slot_bytes, count, now_nano):
            return False
        while not self.hold.has_room(slot_bytes, count):
            if self._awaited is not None and self.on_their_way > self._awaited:
                return False
            self._rules.decide_due(now_nano)
            spans, before = max(count, 1, 2 * self._decided_for_room), self.on_their_way
            by_weight = sorted(self._origins, key=self.hold.waiting_bytes, reverse=True)
            if not any(self._decide_early(spans, Why.HOLD, now_nano, of) for of in (*by_weight, None)):
                return self.hold.has_room(slot_bytes, count)
            kept = self.on_their_way - before
            self._decided_for_room = spans
            self._awaited = before + kept // 2 if 2 * kept > spans else None
        self._decided_for_room, self._awaited = 0, None
        return True

    def _is_within_its_share(self, key: RingKey, slot_bytes: int, count: int, now_nano: int) -> bool:
        """Decide a ring's oldest traces while more of it waits than its share; return whether it may have more.

        The share is 1 / rings, and 1/8 while there is room. What is on its way makes no room before it is delivered: of
        that a ring may have as much as is left then, so that some is left for another, however many have too much.
        What is on its way is that of all rings, as nobody counts it by ring. It only matters where a ring has more than
        its share, and all that it may have decided is decided: so no ring takes of another's share by it.
        """
        room, mine = self.hold.capacity_bytes, self.hold.waiting_bytes(key) + count * slot_bytes
        share = self._share_bytes()
        if mine <= share:
            return True
        is_short = self._is_short
        self._rules.decide_due(now_nano)
        self._decide_early((mine - share) // slot_bytes + 1, Why.SHARE, now_nano, key)
        mine = self.hold.waiting_bytes(key) + count * slot_bytes
        if mine <= share:
            return True
        is_too_much = self.on_their_way * slot_bytes > mine - share and mine > room - self.hold.used_bytes
        return not (is_short or is_too_much)

    def _share_bytes(self) -> int:
        share, most = self.hold.capacity_bytes // max(1, len(self._origins)), self.hold.capacity_bytes // _MOST_SHARES
        return share if share >= most or self._is_short else most

    @property
    def _is_short(self) -> bool:
        room = self.hold.capacity_bytes
        return self.hold.used_bytes > room - room // _MOST_SHARES

    def _decide_early(self, spans: int, why: Why, now_nano: int, key: RingKey | None) -> int:
        """Decide the oldest traces of a ring, None: of that with most spans; return how many spans are settled."""
        waited_for = [one for one in self._rules.in_effect if not one.are_dry]
        settled = next(filter(None, (one.decide_early(spans, why, now_nano, key) for one in waited_for)), 0)
        self._settle()
        return settled

    def read(
        self,
        ring: Ring,
        lane: int,
        records: np.ndarray,
        start: int,
        upto: int,
        invalid: int,
        *,
        is_again: bool = False,
    ) -> Taken:
        """Take in what one look at a lane gave, after `has_room`.

        Args:
            ring: that has joined.
            lane: of it.
            records: array of its layout: the spans among the look's records, maybe none.
            start: position at which the look began.
            upto: position at which it ended.
            invalid: records of the look that are no spans.
            is_again: an earlier drain may have looked at them, and decided.

        Raises:
            HoldFullError: there is no room all the same; the records are to stay in the ring, and come again.
        """
        key = _key_of(ring)
        now_nano = self._clock_nano()
        self._rules.decide_due(now_nano)
        self._settle()
        parts = self._rules.look(key, records, now_nano, self._record.again(records) if is_again else None)
        which = parts[0].held_of_all if len(parts) == 1 else merged([part.held_of_all for part in parts])
        held, dropped = len(which), len(records) - len(which)
        if self._rules.have_news or any(part.looked.for_themselves for part in parts):
            self._record.put(self._rules.in_effect, kept_for_themselves(parts, records))
        first = 0
        if held:
            try:
                first = self.hold.append(
                    *(self._origins[key], key, lane, start, upto, records),
                    which=which if dropped else None,
                    invalid=invalid,
                    sampled_out=dropped,
                )
            except HoldFullError:  # a file was removed under it
                for part in parts:
                    part.place_nowhere()
                raise
        self._dropped_at_once[self._origins[key].service] += dropped
        places = np.arange(first, first + held, dtype=np.uint64)
        for part in parts:
            mine = places if len(parts) == 1 else places[np.searchsorted(which, part.held_of_all)]
            part.place(mine, self._batches)
        self._settle()
        return Taken(held, dropped)

    def decide(self, now_nano: int, *, at_once: bool = False) -> bool:
        """Decide on what is due, and give what is kept to the batcher; return whether there was anything.

        Args:
            now_nano: CLOCK_MONOTONIC.
            at_once: what is kept waits for no more.
        """
        self._rules.decide_due(now_nano)
        self._settle()
        ended = self._rules.end_earlier(self._decisions_room, self._origins)
        if ended is not None and ended.are_dry:  # what was only counted is not on it
            self._record.lacks_some()
        return self._batches.send(at_once=at_once)

    def decide_all(self, now_nano: int) -> bool:
        """Decide on all that waits, by what is known of it."""
        self._rules.decide_due(now_nano)
        for one in self._rules.in_effect:
            one.traces.decide_early(2**63, Why.STOP, now_nano)
        self._settle()
        return self._batches.send(at_once=True)

    def settle(self, batches: Iterable[Batch]) -> None:
        """Say in the hold what became of batches."""
        self._batches.settle(batches)

    def tend(self) -> None:
        """Do what is to be done once a second."""
        if not self.hold.tend():
            self._record.lacks_some()
        self._record.tend(self._rules.in_effect)
        self._keep_rates()
        self._show()

    def close(self) -> None:
        """Let go of the hold, whatever raises before; what waits, and the rates, are for the next drain."""
        try:
            self._keep_rates()
            self._show()
        finally:
            self.hold.close()

    def seconds_until_due(self, now_nano: int) -> float | None:
        """Return when to call `decide` next at the latest; None: nothing waits."""
        sent = self._batches.seconds_until_sent()
        due = self._rules.next_due()
        ends = [] if due is None else [max(0, due - now_nano) / _SECOND]
        return min(ends + ([] if sent is None else [sent]), default=None)

    def _made(
        self, rules: Rules, *, rates: Mapping[str, RateState] | None = None, beside: Thresholds | None = None
    ) -> RulesInEffect:
        traces = Traces(
            rules,
            self.hold.decisions.key,
            traces=self._decisions_room,
            spans=self._slots,
            decided=self._decisions_room,
            look=self._most_at_once,
            rates=rates,
            beside=beside,
        )
        return RulesInEffect(rules, traces, self._trouble)

    def _settle(self) -> None:
        """Settle what was decided: first on record, then in the hold."""
        if not self._rules.have_news:
            return
        self._record.put(self._rules.in_effect)
        for one in self._rules.in_effect:
            while (settled := one.traces.take()) is not None:
                dropped = settled.places[settled.kept :]
                if len(dropped):
                    self.hold.settle(dropped, Fate.SAMPLED_OUT)
                kept = np.flatnonzero(settled.places[: settled.kept] != NO_PLACE)
                self._batches.add(settled.places[kept], Fates(*(array[kept] for array in settled.fates)), one.names)

    def _keep_rates(self) -> None:
        if not self._rules.current.rules.have_rates:
            return
        try:
            write_rates(self.hold.folder / _RATES, self._rules.current.traces.rates())
        except OSError as error:
            self._trouble.warn("the rates of the last seconds cannot be kept", reason=str(error))

    def _show(self) -> None:
        """Let those see it who look at the directory."""
        waiting = {
            key: spans
            for key, origin in self._origins.items()
            if (spans := self.hold.waiting_bytes(key) // origin.layout.slot_bytes)
        }
        try:
            write_picture(self.hold.folder, picture_of(self.status(), self.hold, waiting, self._dropped_at_once))
        except OSError as error:
            self._trouble.warn("what late sampling does cannot be shown", reason=str(error))

    def _take_up(self, every: Iterable[Found], idle_nano: int) -> None:
        """Look once more at what waited when an earlier drain ended, as if it came then.

        Looks of one ring that came at nearly the same time are taken as one: there may be a hundred thousand, and
        while they are looked at no ring is read.

        Args:
            every: what waited.
            idle_nano: since the last of it came.
        """
        looks: dict[tuple[int, RingKey, bytes], list[Found]] = {}
        for found in every:
            looks.setdefault((found.arrived_nano // _AT_ONCE_NANO, found.ring, found.origin.id), []).append(found)
        members: dict[tuple[RingKey, bytes], Member] = {}
        for (_, ring, identity), same in sorted(looks.items(), key=lambda item: _last_arrival(item[1])):
            if (ring, identity) not in members:
                members[ring, identity] = self._rules.current.member(same[0].origin)
            places = np.concatenate([found.places for found in same])
            self._look_again(members[ring, identity], places, _last_arrival(same) + idle_nano)
        for member in members.values():
            self._rules.current.traces.leave(member.number)

    def _look_again(self, member: Member, places: np.ndarray, arrived_nano: int) -> None:
        for start in range(0, len(places), _MOST_AT_ONCE):
            for group in self.hold.records(places[start : start + _MOST_AT_ONCE]):
                self._rules.decide_due(arrived_nano)
                self._settle()
                again = self._record.again(group.records)
                part = self._rules.look_as(member, group.records, arrived_nano, again)
                part.place(group.places[part.held], self._batches)
                dropped = np.delete(group.places, part.held)
                self._record.put(self._rules.in_effect, kept_for_themselves([part], group.records))
                if len(dropped):
                    self.hold.settle(dropped, Fate.SAMPLED_OUT)
                self._settle()


def _last_arrival(every: Iterable[Found]) -> int:
    return max(found.arrived_nano for found in every)


def _key_of(ring: Ring) -> RingKey:
    return RingKey(ring.file.inode, ring.created_unix_nano)
