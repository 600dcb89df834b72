"""The drain's metrics: one table, each with its meaning, its unit and how it is read.

Nothing is counted here. `docs/metrics.md` has the same table; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ringbuf
from drain.accounting.label_names import SERVICE_LABEL, SPAN_NAME_LABEL
from drain.telemetry import metric_values as values
from drain.telemetry.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.broker_state import BrokerState
    from drain.accounting.hold_sums import HoldStatus
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.sampling_status import SamplingStatus
    from drain.accounting.spool_status import SpoolStatus
    from drain.accounting.sums import Sums
    from drain.telemetry.metric import Reading, Values


def _counter(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str, unit: str) -> Metric:
    return Metric(f"ringbuf_drain_{name}_total", "counter", labels, help_text, read, unit)


def _gauge(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str, unit: str) -> Metric:
    return Metric(f"ringbuf_drain_{name}", "gauge", labels, help_text, read, unit)


def _service_counter(name: str, value: Callable[[Sums], int], help_text: str, *, unit: str = "{span}") -> Metric:
    return _counter(name, lambda reading: values.by_service(reading, value), help_text, SERVICE_LABEL, unit=unit)


def _service_gauge(name: str, value: Callable[[Sums], int], help_text: str, *, unit: str = "{span}") -> Metric:
    return _gauge(name, lambda reading: values.by_service(reading, value), help_text, SERVICE_LABEL, unit=unit)


def _spool_gauge(name: str, value: Callable[[SpoolStatus], float], help_text: str, *, unit: str) -> Metric:
    return _gauge(name, lambda reading: values.of_spool(reading, value), help_text, unit=unit)


def _hold_gauge(name: str, value: Callable[[HoldStatus], float], help_text: str, *, unit: str) -> Metric:
    return _gauge(name, lambda reading: values.of_hold(reading, value), help_text, unit=unit)


def _sampling_gauge(name: str, value: Callable[[SamplingStatus], float], help_text: str, *, unit: str) -> Metric:
    return _gauge(name, lambda reading: values.of_sampling(reading, value), help_text, unit=unit)


def _letters_gauge(name: str, value: Callable[[LetterStatus], float], help_text: str, *, unit: str) -> Metric:
    return _gauge(name, lambda reading: values.of_letters(reading, value), help_text, unit=unit)


def _brokers_counter(name: str, value: Callable[[BrokerState], float], help_text: str, *, unit: str) -> Metric:
    return _counter(name, lambda reading: values.of_brokers(reading, value), help_text, unit=unit)


def _brokers_gauge(name: str, value: Callable[[BrokerState], float], help_text: str, *, unit: str) -> Metric:
    return _gauge(name, lambda reading: values.of_brokers(reading, value), help_text, unit=unit)


METRICS: Final[tuple[Metric, ...]] = (
    _gauge("build_info", lambda _: [((ringbuf.__version__,), 1)], "1; the label is what runs.", "version", unit=""),
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
        "Spans that a killed drain had counted and not released, sent again; a lower bound, and part of no sum.",
    ),
    _counter(
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
    _gauge(
        "lag_seconds",
        values.lag,
        "Age of the oldest pending span, from the time at which it ended; 0 where none is pending.",
        SERVICE_LABEL,
        unit="s",
    ),
    _service_counter("rings_attached", lambda sums: sums.rings, "Rings that were taken in.", unit="{ring}"),
    _gauge(
        "rings",
        values.rings_by_state,
        "Rings by state: alive; ending, its producer is gone; set_aside, unsound; left_alone, not admitted or newer.",
        "state",
        unit="{ring}",
    ),
    _counter(
        "rings_quarantined",
        lambda reading: values.one(reading.snapshot.quarantined_rings),
        "Ring files that were found unsound and set aside.",
        unit="{ring}",
    ),
    _counter(
        "export_attempts",
        values.attempts,
        "Attempts to send a batch, by verdict: delivered, retry (sent again later), refused, too_large (halved).",
        "verdict",
        unit="{attempt}",
    ),
    Metric(
        "ringbuf_drain_export_duration_seconds",
        "histogram",
        (),
        "How long the attempts to send a batch took.",
        values.attempt_durations,
        unit="s",
    ),
    _counter(
        "export_bytes",
        values.export_bytes,
        "Bytes of delivered batches: encoded, before compression; sent, as they went out (of gRPC with gzip unknown).",
        "stage",
        unit="By",
    ),
    _counter(
        "export_values_left_out",
        lambda reading: values.one(reading.exports.values_left_out),
        "Attributes and elements with a NaN or infinite double, left out of delivered JSON (--json-non-finite omit).",
        unit="{value}",
    ),
    _gauge(
        "export_running",
        lambda reading: values.one(reading.exports.running),
        "Attempts that wait for the backend's answer.",
        unit="{attempt}",
    ),
    _gauge(
        "export_failing_seconds",
        lambda reading: values.one(reading.exports.failing_seconds),
        "For how long the backend has accepted nothing of what it was sent; 0 when it accepted the last.",
        unit="s",
    ),
    _counter(
        "endpoint_attempts",
        values.endpoint_attempts,
        "Attempts at each of several endpoints, by verdict as of export_attempts.",
        "endpoint",
        "verdict",
        unit="{attempt}",
    ),
    _counter(
        "endpoint_attempt_seconds",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.attempt_seconds),
        "How long these took together: divided by their number, the mean round trip.",
        "endpoint",
        unit="s",
    ),
    _counter(
        "endpoint_spans",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.spans),
        "Spans that were delivered to each of several endpoints; divided by the delivered attempts, spans a request.",
        "endpoint",
        unit="{span}",
    ),
    _gauge(
        "endpoint_gateways",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.gateways),
        "Gateways behind each of several endpoints: one, or with --resolve-interval one for each address of its name.",
        "endpoint",
        unit="{gateway}",
    ),
    _gauge(
        "endpoint_failing",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.failing),
        "Of these, those at which the last attempt came to nothing.",
        "endpoint",
        unit="{gateway}",
    ),
    _gauge(
        "endpoint_open",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.open),
        "Of these, those whose breaker is open: nothing gets through, and one attempt at a time is made. With --balance"
        " trace or collector-ring.",
        "endpoint",
        unit="{gateway}",
    ),
    _gauge(
        "endpoint_away",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.away),
        "Of these, those that are away for longer than --hand-over-after, so that the others get their spans.",
        "endpoint",
        unit="{gateway}",
    ),
    _counter(
        "endpoint_handed_over_spans",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.handed_over),
        "Spans that others got in the place of an endpoint that was away.",
        "endpoint",
        unit="{span}",
    ),
    _gauge(
        "next_attempt_seconds",
        lambda reading: values.one(reading.seconds_until_attempt),
        "When the backend is tried next; 0 while an attempt is running, or nothing waits for one.",
        unit="s",
    ),
    _gauge(
        "batches_in_flight",
        lambda reading: values.one(reading.snapshot.batches_in_flight),
        "Batches that were handed to the delivery and are not settled; those that wait for a retry are among them.",
        unit="{batch}",
    ),
    _brokers_gauge(
        "kafka_queued_messages",
        lambda kafka: kafka.queued_messages,
        "Messages that the Kafka client has in hand.",
        unit="{message}",
    ),
    _brokers_gauge(
        "kafka_queued_bytes", lambda kafka: kafka.queued_bytes, "Size of these, before compression.", unit="By"
    ),
    _brokers_counter(
        "kafka_messages", lambda kafka: kafka.messages, "Messages that brokers have acknowledged.", unit="{message}"
    ),
    _brokers_counter(
        "kafka_message_bytes", lambda kafka: kafka.message_bytes, "Size of these, before compression.", unit="By"
    ),
    _brokers_counter("kafka_message_spans", lambda kafka: kafka.message_spans, "Spans in these.", unit="{span}"),
    _brokers_counter(
        "kafka_producers",
        lambda kafka: kafka.producers,
        "Producers that were made: the first, after errors, at reloads.",
        unit="{producer}",
    ),
    _brokers_gauge(
        "kafka_partitions",
        lambda kafka: kafka.partitions,
        "Partitions of the topic; 0 if not known.",
        unit="{partition}",
    ),
    _brokers_gauge(
        "kafka_partitions_without_leader",
        lambda kafka: kafka.partitions_without_leader,
        "Partitions of the topic that nobody can write to now.",
        unit="{partition}",
    ),
    _gauge(
        "kafka_round_trip_seconds",
        lambda reading: values.by_broker(reading, lambda broker: broker.round_trip_seconds),
        "Mean round trip to a broker in the last statistics.interval.ms; none where it was asked nothing.",
        "broker",
        unit="s",
    ),
    _gauge(
        "kafka_throttle_seconds",
        lambda reading: values.by_broker(reading, lambda broker: broker.throttle_seconds),
        "For how long a broker's quota made the client wait, on the mean of the last interval.",
        "broker",
        unit="s",
    ),
    _counter(
        "kafka_errors",
        lambda reading: values.by_broker(reading, lambda broker: broker.errors),
        "Requests to a broker that failed or timed out, and replies that were broken.",
        "broker",
        unit="{error}",
    ),
    _gauge(
        "hold_spans",
        values.hold_spans,
        "Spans that wait for a decision on their trace, or for delivery.",
        SERVICE_LABEL,
        unit="{span}",
    ),
    _counter(
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
    _counter(
        "hold_files_remade",
        lambda reading: values.of_hold(reading, lambda hold: hold.remade),
        "Files of the hold that somebody has removed or cut.",
        unit="{file}",
    ),
    _counter(
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
    _counter(
        "sampling_traces",
        values.decided_traces,
        "Traces that were decided, by rule and by what ended the wait; limit, hold, share: early, for want of room.",
        "rule",
        "reason",
        unit="{trace}",
    ),
    _counter(
        "sampling_kept_traces",
        lambda reading: values.by_rule(reading, lambda rule: rule.kept_traces),
        "Traces of these that are kept.",
        "rule",
        unit="{trace}",
    ),
    _counter(
        "sampling_spans",
        values.decided_spans,
        "Spans of decided traces, late ones too, by rule and decision; rule unsampled: their head did not want them.",
        "rule",
        "decision",
        unit="{span}",
    ),
    _gauge(
        "sampling_kept_ratio",
        lambda reading: values.by_rule(reading, lambda rule: rule.probability),
        "Share of its traces that a rule keeps now: 1 - T / 2^56 of the threshold T in effect.",
        "rule",
        unit="1",
    ),
    _counter(
        "sampling_late_spans",
        values.late_spans,
        "Spans of traces that were decided before they came, by what became of them: as_trace, for_itself.",
        "decided",
        unit="{span}",
    ),
    _counter(
        "sampling_malformed_trace_states",
        lambda reading: values.of_sampling(reading, lambda sampling: sampling.malformed_trace_states),
        "Tracestates whose `ot` entry could not be read: they state nothing, and are delivered as they are.",
        unit="{span}",
    ),
    _counter(
        "failed_reloads",
        lambda reading: values.one(reading.snapshot.failed_reloads),
        "Signals to reload (SIGHUP) of which something was not taken up; the log says what.",
        unit="{reload}",
    ),
    _gauge("spool_spans", values.spool_spans, "Spans in the spool.", SERVICE_LABEL, unit="{span}"),
    _counter(
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
    _gauge(
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
    _counter(
        "spool_refused",
        values.spool_refused,
        "Batches that the spool did not take, by reason: full; failing, it cannot be written.",
        "reason",
        unit="{batch}",
    ),
    _counter(
        "spool_set_aside",
        lambda reading: values.of_spool(reading, lambda spool: spool.set_aside),
        "Spools that were found damaged and moved out of the way, or whose files were removed or replaced by somebody.",
        unit="{spool}",
    ),
    _counter(
        "dead_letter_batches",
        values.dead_letter_batches,
        "Batches that the backend refused for good: kept in the folder; failed, each time that one cannot be written.",
        "event",
        unit="{batch}",
    ),
    _letters_gauge(
        "dead_letter_spans", lambda letters: letters.sums.waiting, "Spans in the dead-letter folder.", unit="{span}"
    ),
    _counter(
        "dead_letter_spans_left",
        values.left_the_letters,
        "Spans that left the dead-letter folder: deleted, its bounds were reached; taken away by somebody (replay).",
        "outcome",
        unit="{span}",
    ),
    _letters_gauge(
        "dead_letter_size_bytes", lambda letters: letters.file_bytes, "Size of the dead-letter folder.", unit="By"
    ),
    _letters_gauge(
        "dead_letter_capacity_bytes", lambda letters: letters.max_bytes, "Size that it may have.", unit="By"
    ),
    _gauge(
        "loop_stalled_seconds",
        lambda reading: values.one(reading.stalled_seconds),
        "Time since the drain's loop last went round.",
        unit="s",
    ),
    _gauge(
        "threads_ended",
        lambda reading: values.one(reading.threads_ended),
        "1 once a thread has ended that was to go on: the drain ends, to be started again.",
        unit="",
    ),
    _gauge(
        "snapshot_age_seconds",
        lambda reading: values.one(reading.snapshot_age),
        "Age of this scrape's numbers of rings and spool; above 1 when the loop did not answer.",
        unit="s",
    ),
    _counter(
        "connections_refused",
        lambda reading: values.one(reading.connections_refused),
        "HTTP connections that were closed unanswered, since there were too many or too slow ones.",
        unit="{connection}",
    ),
    _counter(
        "log_lines_dropped",
        lambda reading: values.one(reading.log_lines_dropped),
        "Lines of the log that could not be written: its disk is full, or nobody reads it.",
        unit="{line}",
    ),
    _counter(
        "metric_exports",
        values.metric_exports,
        "Exports of these metrics by OTLP, by outcome; what a failed one had is in the next.",
        "outcome",
        unit="{export}",
    ),
    _counter(
        "metric_points_rejected",
        values.metric_points_rejected,
        "Data points of these exports that the receiver did not take, though it took the rest.",
        unit="{data_point}",
    ),
    _gauge(
        "span_series",
        values.span_series,
        "Series of ringbuf_span_duration_seconds, without the one for the rest.",
        unit="{series}",
    ),
    _counter(
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
"""Every metric that the drain sends by OTLP and exposes at /metrics; there the Prometheus client adds process_*."""
