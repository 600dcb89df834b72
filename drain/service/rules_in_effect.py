"""Rules that decide, and what they need: their trace table, and how they look at the records of each ring.

A reload puts others in their place for traces that begin. Those that have begun stay under their rules, so for a while
there are two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drain.sampling.hold.chunk import RingKey
from drain.sampling.seen_records import RecordLooker, SeenRecords
from drain.sampling.traces import DECIDED, WHYS, Counts, Looked, RuleCounts, Traces
from ringbuf.layout.present_bits import present_bits
from ringbuf.sampling import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drain.log import RepeatedTrouble
    from drain.sampling.hold.origins import Origin
    from drain.sampling.rules import Rules
    from drain.sampling.sampler import Why


class Member(NamedTuple):
    """A ring that is served.

    Attributes:
        number: of the trace table.
        origin: of its records.
        looker: at them; None: the rules can say nothing of them.
    """

    number: int
    origin: Origin
    looker: RecordLooker | None


class RulesInEffect:
    """Decides on the traces that began under some rules.

    Args:
        rules: which.
        traces: made for them.
        trouble: a line for each kind.

    Attributes:
        rules: as given.
        traces: as given.
        names: of the rules, in their order.
        malformed: tracestates that could not be read.
    """

    def __init__(self, rules: Rules, traces: Traces, trouble: RepeatedTrouble) -> None:
        self._trouble = trouble
        self.rules = rules
        self.traces = traces
        self.malformed = 0
        self.names = [rule.name for rule in rules.rules]
        self._members: dict[RingKey, Member] = {}

    def probabilities(self) -> list[float]:
        """Return which share of its traces each rule keeps now, 0 to 1."""
        if choices := self.traces.thresholds():
            return [1.0 - choice.threshold / THRESHOLDS for choice in choices]
        return [rule.ratio for rule in self.rules.rules]

    @property
    def are_dry(self) -> bool:
        """Whether all is delivered as it is, and they only count: nothing waits for them."""
        return self.rules.is_dry_run

    def join(self, key: RingKey, origin: Origin) -> None:
        """Take a ring in; of one that is attached once more nothing is left but what waits."""
        self.leave(key)
        self._members[key] = self.member(origin)

    def member(self, origin: Origin) -> Member:
        """Return what is needed to look at records of an origin, which is to leave the table at the end."""
        return Member(self.traces.join(), origin, self._looker(origin))

    def leave(self, key: RingKey) -> None:
        """Let a ring go; what waits of it goes on to wait."""
        member = self._members.pop(key, None)
        if member is not None:
            self.traces.leave(member.number)

    def decide_early(self, spans: int, why: Why, now_nano: int, key: RingKey | None) -> int:
        """Decide on the oldest traces of a ring, None: of that with most spans; return how many spans are settled."""
        if key is None:
            return self.traces.decide_early(spans, why, now_nano)
        member = self._members.get(key)
        return 0 if member is None else self.traces.decide_early(spans, why, now_nano, member.number)

    def look(
        self, member: Member | RingKey, records: np.ndarray, now_nano: int, again: np.ndarray | None = None
    ) -> Looked:
        """Take in records that come now; what is due was decided, and what is settled taken.

        Args:
            member: whose they are.
            records: sound ones.
            now_nano: never goes back.
            again: u1, enum rb_again of each; None: none was looked at before.
        """
        if isinstance(member, RingKey):
            member = self._members[member]
        seen = self._seen(member, records)
        self.malformed += seen.malformed
        return self.traces.look(
            member.number,
            records,
            seen.masks,
            now_nano,
            root_threshold=member.origin.root_threshold,
            thresholds=seen.thresholds,
            randoms=seen.randoms,
            again=again,
            present_bits=present_bits(len(member.origin.layout.attributes)),
        )

    def _looker(self, origin: Origin) -> RecordLooker | None:
        try:
            return RecordLooker(self.rules, origin.layout, origin.service, origin.root_threshold)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - one layout must not keep the drain from all others
            self._trouble.warn("rules cannot look at a layout", service=origin.service, reason=repr(error))
            return None

    def _seen(self, member: Member, records: np.ndarray) -> SeenRecords:
        """Look at records, in halves where one of them cannot be looked at: it meets no condition of any rule."""
        if member.looker is None:
            return SeenRecords(np.zeros(len(records), np.uint64))
        try:
            return member.looker.look(records)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the next drain would meet it again
            if len(records) > 1:
                middle = len(records) // 2
                halves = (self._seen(member, half) for half in (records[:middle], records[middle:]))
                return _one_behind_the_other(*halves)
            reason = repr(error)
            self._trouble.warn("rules cannot look at a record", service=member.origin.service, reason=reason)
            return SeenRecords(np.zeros(1, np.uint64))

    def take_over(self, earlier: RulesInEffect, most: int) -> None:
        """Remember what earlier rules decided, for late spans; of a rule that is no more it was the default.

        What they only counted was kept, whatever they would have done.

        Args:
            earlier: of which nothing waits.
            most: decisions that are remembered; what these rules decided since does not give way to older ones.
        """
        room = max(0, most - self.traces.decisions)
        remembered = earlier.traces.remembered()
        decided = np.array(remembered[len(remembered) - min(room, len(remembered)) :], DECIDED)
        at = {name: number for number, name in reversed(list(enumerate(self.names)))}
        of = np.array([at.get(name, len(self.names) - 1) for name in earlier.names], np.uint8)
        decided["rule"] = of[decided["rule"]]
        if earlier.are_dry:
            decided["threshold"] = 0
        self.traces.remember(decided)


def _one_behind_the_other(first: SeenRecords, second: SeenRecords) -> SeenRecords:
    """Return what was seen of records, and of those behind them; of one that was not looked at nothing is known."""
    return SeenRecords(
        np.concatenate((first.masks, second.masks)),
        _stated(first, first.thresholds, second, second.thresholds),
        _stated(first, first.randoms, second, second.randoms),
        first.malformed + second.malformed,
    )


def _stated(
    first: SeenRecords, by_first: np.ndarray | None, second: SeenRecords, by_second: np.ndarray | None
) -> np.ndarray | None:
    if by_first is None and by_second is None:
        return None
    pairs = ((first, by_first), (second, by_second))
    return np.concatenate([np.zeros(len(of.masks), np.uint64) if by is None else by for of, by in pairs])


class Tally(NamedTuple):
    """What was decided by some rules.

    Attributes:
        names: of the rules.
        counts: by these.
        are_dry: they only counted.
    """

    names: Sequence[str]
    counts: Counts
    are_dry: bool


def summed(names: Sequence[str], tallies: Iterable[Tally], *, are_dry: bool) -> Counts:
    """Return the sum: by rule only those of `names`, all the rest of all.

    Args:
        names: of the rules in effect.
        tallies: of these, and of earlier ones.
        are_dry: whether those in effect only count; what rules of the other kind decided is another thing, and no part
            of the sum. What waits for them is.
    """
    of_all = list(tallies)
    tallies = [tally for tally in of_all if tally.are_dry == are_dry]
    rules = dict.fromkeys(names, RuleCounts(dict.fromkeys(WHYS, 0), 0, 0, 0))
    for tally in tallies:
        for name, counts in zip(tally.names, tally.counts.rules, strict=True):
            if name in rules:
                rules[name] = _both(rules[name], counts)
    every = [tally.counts for tally in tallies]
    return Counts(
        list(rules.values()),
        sum(counts.unsampled for counts in every),
        sum(counts.late for counts in every),
        sum(counts.late_kept for counts in every),
        sum(counts.forgotten for counts in every),
        sum(tally.counts.waiting_spans for tally in of_all),
        sum(tally.counts.waiting_traces for tally in of_all),
    )


def _both(one: RuleCounts, other: RuleCounts) -> RuleCounts:
    return RuleCounts(
        {why: count + other.traces[why] for why, count in one.traces.items()},
        one.kept_traces + other.kept_traces,
        one.kept_spans + other.kept_spans,
        one.dropped_spans + other.dropped_spans,
    )
