"""Traces as their spans come, each decided once: which rule, which threshold, and when never depend on R."""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from drain.sampling.rates import Rate
from drain.sampling.trace_state import Stated, randomness_of
from ringbuf.sampling import THRESHOLDS, threshold_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from drain.sampling.rules import Rules
    from drain.sampling.seen_span import SeenSpan


class Why(enum.Enum):
    """What ended the wait for more of a trace."""

    RULE = "rule"
    """The first rule matched: nothing that may still come can change that."""
    ALONE = "alone"
    """It has but one span, whose ids were given to nobody."""
    ROOT = "root"
    ENTRY = "entry"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    """Early: so many traces or spans wait as may."""
    HOLD = "hold"
    """Early: there is no room for what waits."""
    SHARE = "share"
    """Early: its ring has more than its share waiting."""
    STOP = "stop"
    """Early: somebody asked for it."""


class Decision(NamedTuple):
    """What became of a trace.

    Attributes:
        rule: index into `Rules.rules`.
        threshold: T of the rule, below 2**56, or 2**56: none is kept.
        why: what ended the wait.
        at_nano: when, by the clock of the arrivals.
    """

    rule: int
    threshold: int
    why: Why
    at_nano: int


class Fate(NamedTuple):
    """What became of a span.

    Attributes:
        span: which.
        decision: of its trace; None: the head did not want it.
        is_kept: else it is sampled out.
        threshold: what it states when it is kept: max(T_in, T_rule); None: T_in is not known.
        is_late: it came after its trace was decided.
        is_kept_for_itself: it is late, its trace was dropped, and a rule that keeps all matches it alone.
    """

    span: SeenSpan
    decision: Decision | None
    is_kept: bool
    threshold: int | None = None
    is_late: bool = False
    is_kept_for_itself: bool = False


class _Decided(NamedTuple):
    """What the spans of a decided trace have in common.

    Attributes:
        decision: of the trace.
        share: of such spans that the rule would keep, before all thresholds rise.
        known: T_in, None where it is not known.
        random: R.
    """

    decision: Decision
    share: float
    known: int | None
    random: int


@dataclass(slots=True)
class _Trace:
    """What has come of a trace that is not decided."""

    first_nano: int
    spans: list[SeenSpan] = field(default_factory=list)
    root_nano: int | None = None
    entry_nano: int | None = None

    def due(self, rules: Rules) -> tuple[int, Why]:
        """Return until when to wait for more of it."""
        ends = [(self.first_nano + rules.wait_nano, Why.TIMEOUT)]
        if self.root_nano is not None:
            ends.append((self.root_nano + rules.wait_after_root_nano, Why.ROOT))
        elif self.entry_nano is not None:
            ends.append((self.entry_nano + rules.wait_after_entry_nano, Why.ENTRY))
        return min(ends, key=lambda end: end[0])


class Sampler:
    """Decides on traces by rules.

    Args:
        rules: see there.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._waiting: dict[bytes, _Trace] = {}
        self._due: list[tuple[int, bytes]] = []
        self._decided: dict[bytes, _Decided] = {}
        self._traces = [Rate() for _ in rules.rules]
        self._kept_spans = Rate()

    def take(self, span: SeenSpan, now_nano: int) -> Iterator[Fate]:
        """Take a span in that comes now, and return the fates that are known with it; `now_nano` never goes back."""
        yield from self.decide_due(now_nano)
        if not span.is_sampled:
            yield Fate(span, None, is_kept=False)
            return
        if span.trace_id in self._decided:
            yield self._fate_of_late(span, now_nano)
            return
        trace = self._waiting.setdefault(span.trace_id, _Trace(now_nano))
        trace.spans.append(span)
        if not span.parent_span_id:
            trace.root_nano = now_nano if trace.root_nano is None else trace.root_nano
        elif span.is_remote:
            trace.entry_nano = now_nano
        if self._rules.settles(trace.spans):
            yield from self._decide(span.trace_id, Why.RULE, now_nano)
        elif span.is_alone:
            yield from self._decide(span.trace_id, Why.ALONE, now_nano)
        else:
            heapq.heappush(self._due, (trace.due(self._rules)[0], span.trace_id))

    def decide_due(self, now_nano: int | None = None) -> Iterator[Fate]:
        """Decide on the traces whose wait is over, in the order in which it is; None: on all, each at its time."""
        while self._due and (now_nano is None or self._due[0][0] <= now_nano):
            at, trace_id = heapq.heappop(self._due)
            trace = self._waiting.get(trace_id)
            if trace is not None and trace.due(self._rules)[0] == at:  # else more has come since
                yield from self._decide(trace_id, trace.due(self._rules)[1], at)

    def _decide(self, trace_id: bytes, why: Why, at_nano: int) -> Iterator[Fate]:
        spans = self._waiting.pop(trace_id).spans
        index = self._rules.match(spans)
        share = self._rules.rules[index].ratio
        self._traces[index].add(1, at_nano)
        limit = self._rules.rules[index].traces_per_second
        if limit is not None:
            share *= self._traces[index].share(limit, at_nano)
        self._kept_spans.add(len(spans) * share, at_nano)
        decision = Decision(index, self._threshold(share, at_nano), why, at_nano)
        decided = _Decided(decision, share, *incoming(trace_id, spans, is_head_open=self._rules.is_head_open))
        self._decided[trace_id] = decided
        for span in spans:
            yield _fate(span, decided)

    def _threshold(self, share: float, at_nano: int) -> int:
        """Return that of a share, raised where more spans would be kept than the bound of all."""
        if self._rules.kept_spans_per_second is not None:
            share *= self._kept_spans.share(self._rules.kept_spans_per_second, at_nano)
        return threshold_of(share) if share * THRESHOLDS >= 1 else THRESHOLDS

    def _fate_of_late(self, span: SeenSpan, now_nano: int) -> Fate:
        decided = self._decided[span.trace_id]
        fate = _fate(span, decided)._replace(is_late=True)
        self._kept_spans.add(decided.share, now_nano)
        if fate.is_kept:
            return fate
        index = self._rules.match([span])
        if not self._rules.rules[index].keeps_all:
            return fate
        # For itself: the trace is not kept after all, as then one of its spans would have decided by its being late.
        return fate._replace(is_kept=True, threshold=_threshold_before(span, decided), is_kept_for_itself=True)


def incoming(trace_id: bytes, spans: Iterable[SeenSpan], *, is_head_open: bool) -> tuple[int | None, int]:
    """Return T_in and R of a trace, as its spans state them.

    A threshold that would not have kept the trace is none. Where several are stated the highest is that of the trace.

    Args:
        trace_id: its id.
        spans: those that have come.
        is_head_open: where none is stated, nobody has sampled.
    """
    says = [span.says for span in spans]
    random = randomness_of(trace_id, next((one for one in says if one.randomness is not None), Stated()))
    found = [one.threshold for one in says if one.threshold is not None and random >= one.threshold]
    if found:
        return max(found), random
    return (0 if is_head_open else None), random


def _fate(span: SeenSpan, decided: _Decided) -> Fate:
    before = _threshold_before(span, decided)
    threshold = max(decided.decision.threshold, before or 0)
    is_kept = decided.random >= threshold
    return Fate(span, decided.decision, is_kept, threshold if is_kept and before is not None else None)


def _threshold_before(span: SeenSpan, decided: _Decided) -> int | None:
    """Return T_in of a span: what it states itself, else its trace."""
    own = span.says.threshold
    return own if own is not None and decided.random >= own else decided.known
