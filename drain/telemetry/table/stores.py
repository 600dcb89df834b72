"""Rows of the table about what is on disk: the spool and the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.accounting.label_names import SERVICE_LABEL
from drain.telemetry import metric_values as values
from drain.telemetry.table.rows import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.spool_status import SpoolStatus
    from drain.telemetry.metric import Metric


def _spool_gauge(name: str, value: Callable[[SpoolStatus], float], help_text: str, *, unit: str) -> Metric:
    return gauge(name, lambda reading: values.of_spool(reading, value), help_text, unit=unit)


def _letters_gauge(name: str, value: Callable[[LetterStatus], float], help_text: str, *, unit: str) -> Metric:
    return gauge(name, lambda reading: values.of_letters(reading, value), help_text, unit=unit)


STORES: Final[tuple[Metric, ...]] = (
    gauge("spool_spans", values.spool_spans, "Spans in the spool.", SERVICE_LABEL, unit="{span}"),
    counter(
        "spool_spans_left",
        values.left_the_spool,
        "Spans that left the spool since the drain's start, by outcome; expired for their age, dropped for newer ones, "
        "damaged on the disk or removed by somebody.",
        SERVICE_LABEL,
        "outcome",
        unit="{span}",
    ),
    _spool_gauge("spool_batches", lambda spool: spool.batches, "Batches in the spool.", unit="{batch}"),
    _spool_gauge("spool_size_bytes", lambda spool: spool.file_bytes, "Size of the spool on the disk.", unit="By"),
    gauge(
        "spool_capacity_bytes",
        lambda reading: values.of_spool(reading, lambda _: reading.spool_capacity_bytes),
        "Size that the spool may have.",
        unit="By",
    ),
    _spool_gauge(
        "spool_oldest_seconds",
        lambda spool: spool.oldest_age_seconds,
        "Age of the oldest batch in the spool; 0 when it is empty.",
        unit="s",
    ),
    _spool_gauge(
        "spool_writable", lambda spool: spool.is_writable, "Whether the last write to the spool was possible.", unit=""
    ),
    counter(
        "spool_refused",
        values.spool_refused,
        "Batches that the spool did not take, by reason: full; failing, it cannot be written.",
        "reason",
        unit="{batch}",
    ),
    counter(
        "spool_set_aside",
        lambda reading: values.of_spool(reading, lambda spool: spool.set_aside),
        "Spools that were found damaged and moved out of the way, or whose files were removed or replaced by somebody.",
        unit="{spool}",
    ),
    counter(
        "dead_letter_batches",
        values.dead_letter_batches,
        "Batches that the backend refused for good: kept in the folder; failed, each time that one cannot be written.",
        "event",
        unit="{batch}",
    ),
    gauge(
        "dead_letter_spans", values.dead_letter_spans, "Spans in the dead-letter folder.", SERVICE_LABEL, unit="{span}"
    ),
    counter(
        "dead_letter_spans_left",
        values.left_the_letters,
        "Spans that left the dead-letter folder: deleted, its bounds were reached; taken away by somebody (replay).",
        SERVICE_LABEL,
        "outcome",
        unit="{span}",
    ),
    _letters_gauge(
        "dead_letter_size_bytes", lambda letters: letters.file_bytes, "Size of the dead-letter folder.", unit="By"
    ),
    _letters_gauge(
        "dead_letter_capacity_bytes", lambda letters: letters.max_bytes, "Size that it may have.", unit="By"
    ),
)
