"""Rows of the table about late sampling: what waits in the hold, and what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.accounting.label_names import SERVICE_LABEL
from drain.telemetry import metric_values as values
from drain.telemetry.table.rows import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.hold_sums import HoldStatus
    from drain.accounting.sampling_status import SamplingStatus
    from drain.telemetry.metric import Metric


def _hold_gauge(name: str, value: Callable[[HoldStatus], float], help_text: str, *, unit: str) -> Metric:
    return gauge(name, lambda reading: values.of_hold(reading, value), help_text, unit=unit)


def _sampling_gauge(name: str, value: Callable[[SamplingStatus], float], help_text: str, *, unit: str) -> Metric:
    return gauge(name, lambda reading: values.of_sampling(reading, value), help_text, unit=unit)


LATE_SAMPLING: Final[tuple[Metric, ...]] = (
    gauge(
        "hold_spans",
        values.hold_spans,
        "Spans that wait for a decision on their trace, or for delivery.",
        SERVICE_LABEL,
        unit="{span}",
    ),
    counter(
        "hold_spans_left",
        values.left_the_hold,
        "Spans that left the hold since the drain's start, by outcome; lost: file cut, or layout gone.",
        SERVICE_LABEL,
        "outcome",
        unit="{span}",
    ),
    _hold_gauge("hold_used_bytes", lambda hold: hold.used_bytes, "Memory of the hold that is in use.", unit="By"),
    _hold_gauge("hold_capacity_bytes", lambda hold: hold.capacity_bytes, "Memory that the hold may have.", unit="By"),
    _hold_gauge(
        "hold_kept_spans",
        lambda hold: hold.kept_spans,
        "Spans that are kept, of those that wait in the hold: they wait for their delivery.",
        unit="{span}",
    ),
    counter(
        "hold_files_remade",
        lambda reading: values.of_hold(reading, lambda hold: hold.remade),
        "Files of the hold that somebody has removed or cut.",
        unit="{file}",
    ),
    counter(
        "hold_files_unsound",
        lambda reading: values.of_hold(reading, lambda hold: hold.unsound),
        "Files of the hold that the drain found at its start and cannot use, or not all that is in them.",
        unit="{file}",
    ),
    _sampling_gauge(
        "sampling_dry_run",
        lambda sampling: sampling.is_dry_run,
        "1: all is delivered, and the rules only count what they would have kept (dry_run).",
        unit="",
    ),
    _sampling_gauge(
        "sampling_waiting_traces",
        lambda sampling: sampling.waiting_traces,
        "Traces that wait for a decision.",
        unit="{trace}",
    ),
    _sampling_gauge(
        "sampling_waiting_spans",
        lambda sampling: sampling.waiting_spans,
        "Spans of these that have come.",
        unit="{span}",
    ),
    _sampling_gauge(
        "sampling_oldest_wait_seconds",
        lambda sampling: sampling.oldest_wait_seconds,
        "For how long the oldest of these traces waits, from its first span; 0 where none does.",
        unit="s",
    ),
    counter(
        "sampling_traces",
        values.decided_traces,
        "Traces that were decided, by rule and by what ended the wait; limit, hold, share: early, for want of room.",
        "rule",
        "reason",
        unit="{trace}",
    ),
    counter(
        "sampling_kept_traces",
        lambda reading: values.by_rule(reading, lambda rule: rule.kept_traces),
        "Traces of these that are kept.",
        "rule",
        unit="{trace}",
    ),
    counter(
        "sampling_spans",
        values.decided_spans,
        "Spans of decided traces, late ones too, by rule and decision; rule unsampled: their head did not want them.",
        "rule",
        "decision",
        unit="{span}",
    ),
    gauge(
        "sampling_kept_ratio",
        lambda reading: values.by_rule(reading, lambda rule: rule.probability),
        "Share of its traces that a rule keeps now: 1 - T / 2^56 of the threshold T in effect.",
        "rule",
        unit="1",
    ),
    counter(
        "sampling_late_spans",
        values.late_spans,
        "Spans of traces that were decided before they came, by what became of them: as_trace, for_itself.",
        "decided",
        unit="{span}",
    ),
    counter(
        "sampling_malformed_trace_states",
        lambda reading: values.of_sampling(reading, lambda sampling: sampling.malformed_trace_states),
        "Tracestates whose `ot` entry could not be read: they state nothing, and are delivered as they are.",
        unit="{span}",
    ),
)
