"""Rows of the table about the drain itself: what runs, its loop, its listener, its log, its own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ringbuf
from drain.telemetry import metric_values as values
from drain.telemetry.table.rows import counter, gauge

if TYPE_CHECKING:
    from drain.telemetry.metric import Metric


ITSELF: Final[tuple[Metric, ...]] = (
    gauge("build_info", lambda _: [((ringbuf.__version__,), 1)], "1; the label is what runs.", "version", unit=""),
    counter(
        "failed_reloads",
        lambda reading: values.one(reading.snapshot.failed_reloads),
        "Signals to reload (SIGHUP) of which something was not taken up; the log says what.",
        unit="{reload}",
    ),
    gauge(
        "loop_stalled_seconds",
        lambda reading: values.one(reading.stalled_seconds),
        "Time since the drain's loop last went round.",
        unit="s",
    ),
    gauge(
        "threads_ended",
        lambda reading: values.one(reading.threads_ended),
        "1 once a thread has ended that was to go on: the drain ends, to be started again.",
        unit="",
    ),
    gauge(
        "snapshot_age_seconds",
        lambda reading: values.one(reading.snapshot_age),
        "Age of this scrape's numbers of rings and spool; above 1 when the loop did not answer.",
        unit="s",
    ),
    counter(
        "connections_refused",
        lambda reading: values.one(reading.connections_refused),
        "HTTP connections that were closed unanswered, since there were too many or too slow ones.",
        unit="{connection}",
    ),
    counter(
        "log_lines_dropped",
        lambda reading: values.one(reading.log_lines_dropped),
        "Lines of the log that could not be written: its disk is full, or nobody reads it.",
        unit="{line}",
    ),
    counter(
        "metric_exports",
        values.metric_exports,
        "Exports of these metrics by OTLP, by outcome; what a failed one had is in the next.",
        "outcome",
        unit="{export}",
    ),
    counter(
        "metric_points_rejected",
        values.metric_points_rejected,
        "Data points of these exports that the receiver did not take, though it took the rest.",
        unit="{data_point}",
    ),
)
