"""Rows of the table about the spans themselves: their durations by service, name and labels."""

from __future__ import annotations

from typing import Final

from drain.accounting.label_names import SERVICE_LABEL, SPAN_NAME_LABEL
from drain.telemetry import metric_values as values
from drain.telemetry.metric import Metric
from drain.telemetry.table.rows import counter, gauge

SPANS: Final[tuple[Metric, ...]] = (
    gauge(
        "span_series",
        values.span_series,
        "Series of ringbuf_span_duration_seconds, without the one for the rest.",
        unit="{series}",
    ),
    counter(
        "span_series_overflow",
        values.span_overflow,
        'Spans that were counted in the series "(other)", since --max-series series were there.',
        unit="{span}",
    ),
    Metric(
        "ringbuf_span_duration_seconds",
        "histogram",
        (SERVICE_LABEL, SPAN_NAME_LABEL, "…"),
        "Durations of released spans; with a label for each attribute that the ring's layout marks as a metric label.",
        values.span_durations,
        unit="s",
        is_of_service=True,
    ),
)
