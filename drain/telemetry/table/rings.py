"""Rows of the table about rings: what producers wrote, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.accounting.label_names import SERVICE_LABEL
from drain.telemetry import metric_values as values
from drain.telemetry.table.rows import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.sums import Sums
    from drain.telemetry.metric import Metric


def _service_counter(name: str, value: Callable[[Sums], int], help_text: str, *, unit: str = "{span}") -> Metric:
    return counter(name, lambda reading: values.by_service(reading, value), help_text, SERVICE_LABEL, unit=unit)


def _service_gauge(name: str, value: Callable[[Sums], int], help_text: str, *, unit: str = "{span}") -> Metric:
    return gauge(name, lambda reading: values.by_service(reading, value), help_text, SERVICE_LABEL, unit=unit)


RINGS: Final[tuple[Metric, ...]] = (
    # What became of the spans of each service, as the audit has it: received = delivered + spooled + rejected +
    # dead_lettered + invalid + sampled_out + quarantined + pending.
    _service_counter("spans_received", lambda sums: sums.published, "Spans that producers wrote to rings."),
    _service_counter(
        "spans_delivered", lambda sums: sums.delivered, "Spans that the backend accepted straight from a ring."
    ),
    _service_counter("spans_spooled", lambda sums: sums.spooled, "Spans that went from a ring to the spool."),
    _service_counter(
        "spans_rejected", lambda sums: sums.rejected, "Spans that the backend refused, and that are not kept."
    ),
    _service_counter(
        "spans_dead_lettered",
        lambda sums: sums.dead_lettered,
        "Spans that the backend refused for good, and that are kept in the dead-letter folder.",
    ),
    _service_counter("spans_invalid", lambda sums: sums.invalid, "Records that were no spans."),
    _service_counter(
        "spans_sampled_out",
        lambda sums: sums.sampled_out,
        "Spans that were counted in the span metrics and not delivered, since their head did not want them.",
    ),
    _service_gauge(
        "spans_quarantined",
        lambda sums: sums.quarantined,
        "Spans that were pending when their ring was set aside; falls when some of them, on their way, arrive.",
    ),
    _service_gauge("spans_pending", lambda sums: sums.pending, "Spans in rings, not yet released."),
    _service_gauge(
        "spans_unaccounted",
        lambda sums: sums.unaccounted,
        "Received spans of which nobody knows what became: anything but 0 is a fault.",
    ),
    _service_counter(
        "spans_repeated",
        lambda sums: sums.repeated,
        "Spans that a killed drain had counted and not released, read out of the ring and sent again; a lower bound, "
        "and part of no sum.",
    ),
    counter(
        "spans_dropped",
        values.dropped,
        "Spans that producers could not write: all lanes full, or all lanes contended.",
        SERVICE_LABEL,
        "reason",
        unit="{span}",
    ),
    _service_counter(
        "spans_unsampled",
        lambda sums: sums.unsampled,
        "Spans that producers did not write, since their trace is not sampled.",
    ),
    _service_counter(
        "values_truncated",
        lambda sums: sums.truncated,
        "Attribute values that producers cut to their field.",
        unit="{value}",
    ),
    _service_counter(
        "values_invalid",
        lambda sums: sums.invalid_values,
        "Attribute values that producers left out, since they do not fit their attribute.",
        unit="{value}",
    ),
    gauge(
        "lag_seconds",
        values.lag,
        "Age of the oldest pending span, from the time at which it ended; 0 where none is pending.",
        SERVICE_LABEL,
        unit="s",
    ),
    _service_counter("rings_attached", lambda sums: sums.rings, "Rings that were taken in.", unit="{ring}"),
    gauge(
        "rings",
        values.rings_by_state,
        "Rings by state: alive; ending, its producer is gone; set_aside, unsound; left_alone, not admitted or newer.",
        "state",
        unit="{ring}",
    ),
    counter(
        "rings_quarantined",
        lambda reading: values.one(reading.snapshot.quarantined_rings),
        "Ring files that were found unsound and set aside.",
        unit="{ring}",
    ),
)
