"""Which threshold each rule has in this second: by its share, its bound of a rate, and the bound on all kept spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from drain.sampling.rates import Rate
from ringbuf.sampling import THRESHOLDS, threshold_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drain.sampling.rates import RateState
    from drain.sampling.rules import Rules

_SECOND: Final = 1_000_000_000
_OF_ALL: Final = ""  # the rate of all kept spans; no rule has this name


class Choice(NamedTuple):
    """What a rule keeps in a second.

    Attributes:
        threshold: T, or 2**56: nothing.
        share: of the spans that it matches, before all thresholds rise.
    """

    threshold: int
    share: float


class Thresholds:
    """The thresholds of rules, which change only from second to second, by what came in the ten before.

    Args:
        rules: whose.
        states: of the rates, by rule, as `states` returned them; of rules that are no more they are left out.
        beside: of other rules in effect at the same time: what each of a name matches counts for both, and all that is
            kept, so that together they keep no more than one of them may.
    """

    def __init__(
        self, rules: Rules, states: Mapping[str, RateState] | None = None, beside: Thresholds | None = None
    ) -> None:
        before = {name: Rate.of_state(state) for name, state in (states or {}).items()}
        if beside is not None:
            before |= beside.by_name()
        self._rules = rules
        self._traces = [before.get(rule.name) or Rate() for rule in rules.rules]
        self._kept_spans = before.get(_OF_ALL) or Rate()

    def states(self) -> dict[str, RateState]:
        """Return the rates, for the next drain of this boot."""
        return {name: rate.state() for name, rate in self.by_name().items()}

    def choices(self, now_nano: int) -> list[Choice]:
        """Return what each rule keeps; what is added in the same second does not change it."""
        shares = [
            rule.ratio * (1.0 if rule.traces_per_second is None else rate.share(rule.traces_per_second, now_nano))
            for rule, rate in zip(self._rules.rules, self._traces, strict=True)
        ]
        bound = self._rules.kept_spans_per_second
        of_all = 1.0 if bound is None else self._kept_spans.share(bound, now_nano)
        return [Choice(_threshold(share * of_all), share) for share in shares]

    def add(self, traces: Sequence[int], wanted_spans: float, now_nano: int) -> None:
        """Count what was decided now.

        Args:
            traces: by rule.
            wanted_spans: the sum of the shares of their spans, and of late ones.
            now_nano: never goes back.
        """
        for rate, count in zip(self._traces, traces, strict=True):
            if count:
                rate.add(count, now_nano)
        if wanted_spans:
            self._kept_spans.add(wanted_spans, now_nano)

    def by_name(self) -> dict[str, Rate]:
        """Return the rates themselves, by rule."""
        rates = zip(self._rules.rules, self._traces, strict=True)
        return {_OF_ALL: self._kept_spans, **{rule.name: rate for rule, rate in rates}}


def _threshold(share: float) -> int:
    return threshold_of(share) if share * THRESHOLDS >= 1 else THRESHOLDS
