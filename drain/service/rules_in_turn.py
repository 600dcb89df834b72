"""The rules that decide, and for a while after a reload those of before: a trace stays under those it began under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from drain.service.looked_part import Part, some_of
from drain.service.rules_in_effect import RulesInEffect, Tally, summed
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from drain.sampling.hold.chunk import RingKey
    from drain.sampling.hold.origins import Origin
    from drain.sampling.rules import Rules
    from drain.sampling.thresholds import Thresholds
    from drain.sampling.traces import Counts
    from drain.service.rules_in_effect import Member


class Maker(Protocol):
    """Puts rules into effect, with a trace table of their own."""

    def __call__(self, rules: Rules, *, beside: Thresholds) -> RulesInEffect:
        """Return them; `beside`: of the rules that go on beside them.

        Raises:
            RingBufferError: there is no memory for the table.
        """


class RulesInTurn:
    """Two tables of traces at most: further rules wait until those of before have decided on all that they have.

    Args:
        first: the rules in effect.
        make: puts others into effect.
        log: a line for each change.
        counts_unsampled: spans without the sampled flag are not delivered in a dry run either.

    Attributes:
        current: under these traces begin.
        earlier: as long as anything waits under them; None: nothing does.
        not_renewed: rules that could not be taken up.
    """

    def __init__(self, first: RulesInEffect, make: Maker, log: FilteringBoundLogger, *, counts_unsampled: bool) -> None:
        self.current = first
        self.earlier: RulesInEffect | None = None
        self.not_renewed = 0
        self._make = make
        self._log = log
        self._counts_unsampled = counts_unsampled
        self._next: Rules | None = None
        self._ended: list[Tally] = []  # one at most: the sum of all
        self._malformed = 0  # tracestates, under rules that are no more

    @property
    def have_news(self) -> bool:
        """Whether anything was decided that is not on record, or settled that is not taken."""
        return self.current.traces.has_news or (self.earlier is not None and self.earlier.traces.has_news)

    @property
    def in_effect(self) -> list[RulesInEffect]:
        """The oldest first."""
        return [self.current] if self.earlier is None else [self.earlier, self.current]

    @property
    def names(self) -> list[str]:
        """Of the rules in effect, in their order; behind them those that only traces which have begun are under."""
        return list(dict.fromkeys(name for one in reversed(self.in_effect) for name in one.names))

    @property
    def malformed(self) -> int:
        """How many tracestates could not be read."""
        return self._malformed + sum(one.malformed for one in self.in_effect)

    @property
    def waiting_spans(self) -> int:
        """How many held spans wait for a decision."""
        return sum(one.traces.waiting_spans for one in self.in_effect if not one.are_dry)

    def probabilities(self) -> dict[str, float]:
        """Return which share of its traces each rule keeps now, 0 to 1."""
        return {
            name: probability
            for one in self.in_effect
            for name, probability in zip(one.names, one.probabilities(), strict=True)
        }

    def counts(self) -> Counts:
        """Return what was decided so far, by rule in the order of `names`; in a dry run, and else, since it is."""
        in_effect = [Tally(one.names, one.traces.counts(), one.are_dry) for one in self.in_effect]
        return summed(self.names, in_effect + self._ended, are_dry=self.current.are_dry)

    def oldest_nano(self) -> int | None:
        """Return when the first span of the oldest trace came that waits; None: none does."""
        return min((at for one in self.in_effect if (at := one.traces.oldest()) is not None), default=None)

    def next_due(self) -> int | None:
        """Return when the next wait is over, at the earliest; None: nothing waits."""
        return min((due for one in self.in_effect if (due := one.traces.next_due()) is not None), default=None)

    def decide_due(self, now_nano: int) -> None:
        """Decide on the traces whose wait is over."""
        if self.earlier is not None:  # they share rates: no second of one begins without what the other has counted
            for one in self.in_effect:
                one.traces.count()
        for one in self.in_effect:
            one.traces.decide_due(now_nano)

    def look(self, key: RingKey, records: np.ndarray, now_nano: int, again: np.ndarray | None) -> list[Part]:
        """Let each record of a ring be looked at by the rules under which its trace began.

        Args:
            key: of the ring, which has joined.
            records: sound ones, that come now; what is due was decided, and what is settled taken.
            now_nano: never goes back.
            again: u1, enum rb_again of each; None: none was looked at before.
        """
        if self.earlier is None:
            return [self._part(self.current, key, records, now_nano, again)]
        is_earlier = self.earlier.traces.knows(records)
        parts = []
        for one, which in ((self.earlier, is_earlier), (self.current, ~is_earlier)):
            at = np.flatnonzero(which)
            parts.append(
                self._part(one, key, some_of(records, which), now_nano, None if again is None else again[which], at)
            )
        return parts

    def look_as(self, member: Member, records: np.ndarray, now_nano: int, again: np.ndarray) -> Part:
        """Let records of no ring that has joined be looked at by the current rules, as `look` does."""
        return self._part(self.current, member, records, now_nano, again)

    def renew(self, rules: Rules, origins: Mapping[RingKey, Origin]) -> None:
        """Let other rules decide on traces that begin from now on; those that have begun stay under theirs.

        While some are still under rules that were replaced, it is done when these are decided.
        Where it cannot be done, the log says so.

        Args:
            rules: the others.
            origins: of the rings that are served.
        """
        self._next = None
        if rules == self.current.rules:
            return
        if self.earlier is not None:
            self._next = rules
            return
        try:
            made = self._make(rules, beside=self.current.traces.bounds)
            for key, origin in origins.items():
                made.join(key, origin)
        except (RingBufferError, MemoryError) as error:
            self.not_renewed += 1
            self._log.error("the rules are not taken up", reason=str(error))
            return
        self.earlier, self.current = self.current, made
        self._log.info(
            "other rules decide on traces that begin from now on", rules=made.names, dry_run=rules.is_dry_run
        )

    def end_earlier(self, most: int, origins: Mapping[RingKey, Origin]) -> RulesInEffect | None:
        """Let go of earlier rules if nothing waits under them, and take up those that were waiting for that.

        Args:
            most: decisions of theirs that are remembered, for late spans.
            origins: as `renew`.

        Returns:
            those that are no more; None: all are as they were.
        """
        ended = self.earlier
        if ended is None or ended.traces.waiting_spans:
            return None
        self.current.take_over(ended, most)
        self.earlier = None
        self._malformed += ended.malformed
        names, are_dry = self.current.names, self.current.are_dry
        tallies = [Tally(ended.names, ended.traces.counts(), ended.are_dry), *self._ended]
        self._ended = [Tally(names, summed(names, tallies, are_dry=are_dry), are_dry)]
        if self._next is not None:
            self.renew(self._next, origins)
        return ended

    def _part(
        self,
        by: RulesInEffect,
        member: Member | RingKey,
        records: np.ndarray,
        now_nano: int,
        again: np.ndarray | None,
        at: np.ndarray | None = None,
    ) -> Part:
        looked = by.look(member, records, now_nano, again)
        if not by.are_dry:
            return Part(by, looked, looked.held, at)
        is_held = np.full(len(records), fill_value=True)
        if self._counts_unsampled:
            is_held = (records["flags"] & lib.RB_SPAN_SAMPLED) != 0
        return Part(by, looked, np.flatnonzero(is_held).astype(np.uint32), at)
