"""What rules would have kept of spans that were recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drain.accounting.sampling_status import UNSAMPLED
from drain.sampling.sampler import Decision, Fate, Sampler
from ringbuf.sampling import THRESHOLDS, threshold_text
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.sampling.rules import Rules
    from drain.sampling.seen_span import SeenSpan


@dataclass(slots=True)
class RuleResult:
    """What a rule decided.

    Attributes:
        name: of the rule.
        traces: that it matched.
        kept_traces: of these.
        spans: of these traces, late ones included.
        kept_spans: of these.
        late: spans that came after their trace was decided.
        late_kept: of these, those that were kept for themselves, their trace being dropped.
        thresholds: how many traces each threshold decided.
        why: how many traces were decided for each reason.
    """

    name: str
    traces: int = 0
    kept_traces: int = 0
    spans: int = 0
    kept_spans: int = 0
    late: int = 0
    late_kept: int = 0
    thresholds: Counter[int] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)


def fates_of(spans: Iterable[SeenSpan], rules: Rules) -> Iterable[Fate]:
    """Return the fate of each span, were they to come as they ended: in order of their ends, then as they are given."""
    sampler = Sampler(rules)
    for span in sorted(spans, key=lambda span: span.end_unix_nano):
        yield from sampler.take(span, span.end_unix_nano)
    yield from sampler.decide_due()


def tried(spans: Iterable[SeenSpan], rules: Rules) -> list[RuleResult]:
    """Return what each rule would have decided, in their order; last the spans that the head did not want."""
    results = [RuleResult(rule.name) for rule in rules.rules]
    unsampled = RuleResult(UNSAMPLED)
    seen: dict[bytes, Decision] = {}
    kept: set[bytes] = set()
    for fate in fates_of(spans, rules):
        result = unsampled if fate.decision is None else results[fate.decision.rule]
        result.spans += 1
        result.kept_spans += fate.is_kept
        result.late += fate.is_late
        result.late_kept += fate.is_kept_for_itself
        trace_id = fate.span.trace_id
        if fate.decision is not None and trace_id not in seen:
            seen[trace_id] = fate.decision
            result.traces += 1
            result.thresholds[fate.decision.threshold] += 1
            result.why[fate.decision.why.value] += 1
        if fate.is_kept and not fate.is_kept_for_itself and trace_id not in kept:
            kept.add(trace_id)
            result.kept_traces += 1
    return [*results, unsampled]


def shown(results: list[RuleResult]) -> str:
    """Return a table of results for people, and the sum that must add up."""
    head = ("rule", "traces", "kept", "spans", "kept", "late", "late kept", "kept one in", "th")
    rows = [head, *(_row(result) for result in results)]
    spans, kept = sum(result.spans for result in results), sum(result.kept_spans for result in results)
    traces, kept_traces = sum(result.traces for result in results), sum(result.kept_traces for result in results)
    rows.append(("total", *map(_number, (traces, kept_traces, spans, kept)), "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.append(f"{counted(spans, 'span')} = {_number(kept)} kept + {_number(spans - kept)} sampled out")
    return "\n".join(lines) + "\n"


def _row(result: RuleResult) -> tuple[str, ...]:
    counts = (result.traces, result.kept_traces, result.spans, result.kept_spans, result.late, result.late_kept)
    thresholds = sorted(result.thresholds)
    if not thresholds:
        return (result.name, *map(_number, counts), "", "")
    low, high = thresholds[0], thresholds[-1]
    one_in = _one_in(low) if low == high else f"{_one_in(low)} to {_one_in(high)}"
    text = _text(low) if low == high else f"{_text(low)} to {_text(high)}"
    return (result.name, *map(_number, counts), one_in, text)


def _one_in(threshold: int) -> str:
    return "none" if threshold == THRESHOLDS else f"{THRESHOLDS / (THRESHOLDS - threshold):.4g}"


def _text(threshold: int) -> str:
    return "-" if threshold == THRESHOLDS else threshold_text(threshold)


def _number(count: int) -> str:
    return f"{count:,}"
