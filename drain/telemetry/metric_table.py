"""The metrics that the drain tells Prometheus: one table, each with its meaning and with how it is read at a scrape.

Nothing is counted here. `docs/metrics.md` has the same table; a test compares them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import ringbuf
from drain.accounting.export_state import LATENCY_BOUNDS
from drain.accounting.label_names import SERVICE_LABEL, SPAN_NAME_LABEL, label_value

if TYPE_CHECKING:
    from drain.accounting.broker_state import Broker, BrokerState
    from drain.accounting.export_state import ExportState
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.snapshot import Snapshot
    from drain.accounting.span_metrics import SpanMetrics
    from drain.accounting.spool_status import SpoolStatus
    from drain.accounting.spool_sums import SpoolSums
    from drain.accounting.sums import Sums


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a scrape tells, read once.

    Attributes:
        snapshot: of the loop.
        snapshot_age: seconds.
        exports: of the exporter.
        spans: None where span metrics are off.
        spool: None where there is none.
        spool_capacity_bytes: bound of `spool.file_bytes`.
        dead_letters: None where there are none.
        seconds_until_attempt: at the backend.
        stalled_seconds: since the loop last went round.
        threads_ended: that were to go on.
        connections_refused: by the listener, for want of room.
        log_lines_dropped: that nobody could be told.
    """

    snapshot: Snapshot
    snapshot_age: float
    exports: ExportState
    spans: SpanMetrics | None
    spool: SpoolStatus | None
    spool_capacity_bytes: int
    dead_letters: LetterStatus | None
    seconds_until_attempt: float
    stalled_seconds: float
    threads_ended: int
    connections_refused: int
    log_lines_dropped: int


class Distribution(NamedTuple):
    """What a histogram shows for one set of labels.

    Attributes:
        labels: name and value.
        bounds: upper bounds of the buckets.
        counts: by bucket, not cumulative; the last is beyond all bounds.
        total: sum of what was counted.
    """

    labels: Mapping[str, str]
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of the metric's labels, and the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table.

    Attributes:
        name: as it is exposed; of a histogram, without `_bucket`, `_count` and `_sum`.
        kind: its Prometheus type.
        labels: names; "…" stands for those that the layouts of the rings add.
        help: what it counts, one line.
        read: gives the values, or a histogram's distributions.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Callable[[Reading], Values] | Callable[[Reading], Iterable[Distribution]]


def _counter(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str) -> Metric:
    return Metric(f"ringbuf_drain_{name}_total", "counter", labels, help_text, read)


def _gauge(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str) -> Metric:
    return Metric(f"ringbuf_drain_{name}", "gauge", labels, help_text, read)


def _service_counter(name: str, value: Callable[[Sums], int], help_text: str) -> Metric:
    return _counter(name, lambda reading: _by_service(reading, value), help_text, SERVICE_LABEL)


def _service_gauge(name: str, value: Callable[[Sums], int], help_text: str) -> Metric:
    return _gauge(name, lambda reading: _by_service(reading, value), help_text, SERVICE_LABEL)


def _spool_gauge(name: str, value: Callable[[SpoolStatus], float], help_text: str) -> Metric:
    return _gauge(name, lambda reading: _of_spool(reading, value), help_text)


def _letters_gauge(name: str, value: Callable[[LetterStatus], float], help_text: str) -> Metric:
    return _gauge(name, lambda reading: _of_letters(reading, value), help_text)


def _one(value: float) -> Values:
    return [((), value)]


def _by_service(reading: Reading, value: Callable[[Sums], int]) -> Values:
    totals: dict[str, int] = {}  # two names may be the same once they are cut
    for service, sums in reading.snapshot.services.items():
        name = label_value(service)
        totals[name] = totals.get(name, 0) + value(sums)
    return [((service,), total) for service, total in totals.items()]


def _of_spool(reading: Reading, value: Callable[[SpoolStatus], float]) -> Values:
    return [] if reading.spool is None else _one(value(reading.spool))


def _dropped(reading: Reading) -> Values:
    for reason in ("full", "contended"):
        for (service,), count in _by_service(reading, operator.attrgetter(reason)):
            yield (service, reason), count


def _lag(reading: Reading) -> Values:
    lags = dict.fromkeys(map(label_value, reading.snapshot.services), 0.0)
    for service, seconds in reading.snapshot.lag_seconds.items():
        name = label_value(service)
        lags[name] = max(seconds, lags.get(name, 0.0))
    return [((service,), seconds) for service, seconds in lags.items()]


def _rings(reading: Reading) -> Values:
    return [((state,), count) for state, count in reading.snapshot.rings.items()]


def _attempts(reading: Reading) -> Values:
    return [((verdict.replace(" ", "_"),), count) for verdict, count in reading.exports.attempts.items()]


def _bytes(reading: Reading) -> Values:
    return [(("encoded",), reading.exports.encoded_bytes), (("sent",), reading.exports.sent_bytes)]


def _attempt_durations(reading: Reading) -> Iterable[Distribution]:
    exports = reading.exports
    return [Distribution({}, LATENCY_BOUNDS, exports.latency_counts, exports.latency_seconds)]


def _spooled(services: Mapping[str, SpoolSums], value: Callable[[SpoolSums], int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for service, sums in services.items():
        name = label_value(service)
        totals[name] = totals.get(name, 0) + value(sums)
    return totals


def _spool_spans(reading: Reading) -> Values:
    services = {} if reading.spool is None else reading.spool.services
    return [((service,), count) for service, count in _spooled(services, lambda sums: sums.waiting).items()]


def _left_the_spool(reading: Reading) -> Values:
    if reading.spool is None:
        return
    for outcome in ("delivered", "rejected", "dead_lettered", "expired", "dropped", "damaged"):
        before = _spooled(reading.spool.services_before, operator.attrgetter(outcome))
        for service, count in _spooled(reading.spool.services, operator.attrgetter(outcome)).items():
            yield (service, outcome), max(0, count - before.get(service, 0))


def _spool_refused(reading: Reading) -> Values:
    if reading.spool is None:
        return []
    return [(("full",), reading.spool.refused_full), (("failing",), reading.spool.refused_failing)]


def _of_letters(reading: Reading, value: Callable[[LetterStatus], float]) -> Values:
    return [] if reading.dead_letters is None else _one(value(reading.dead_letters))


def _left_the_letters(reading: Reading) -> Values:
    if reading.dead_letters is None:
        return []
    sums = reading.dead_letters.sums
    return [(("deleted",), sums.deleted), (("taken_away",), sums.taken)]


def _dead_letter_batches(reading: Reading) -> Values:
    if reading.dead_letters is None:
        return []
    return [(("kept",), reading.dead_letters.batches_kept), (("failed",), reading.dead_letters.batches_failed)]


def _brokers_counter(name: str, value: Callable[[BrokerState], float], help_text: str) -> Metric:
    return _counter(name, lambda reading: _of_brokers(reading, value), help_text)


def _brokers_gauge(name: str, value: Callable[[BrokerState], float], help_text: str) -> Metric:
    return _gauge(name, lambda reading: _of_brokers(reading, value), help_text)


def _of_brokers(reading: Reading, value: Callable[[BrokerState], float]) -> Values:
    return [] if reading.exports.brokers is None else _one(value(reading.exports.brokers))


def _by_broker(reading: Reading, value: Callable[[Broker], float | None]) -> Values:
    if reading.exports.brokers is not None:
        for broker in reading.exports.brokers.brokers:
            if (number := value(broker)) is not None:
                yield (broker.name,), number


def _span_series(reading: Reading) -> Values:
    return [] if reading.spans is None else _one(reading.spans.series_count)


def _span_overflow(reading: Reading) -> Values:
    return [] if reading.spans is None else _one(reading.spans.overflow)


def _span_durations(reading: Reading) -> Iterable[Distribution]:
    if reading.spans is not None:
        for series in reading.spans.series():
            yield Distribution(series.labels, reading.spans.bounds, series.counts, series.seconds)


METRICS: Final[tuple[Metric, ...]] = (
    _gauge("build_info", lambda _: [((ringbuf.__version__,), 1)], "1; the label is what runs.", "version"),
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
        _dropped,
        "Spans that producers could not write: all lanes full, or all lanes contended.",
        SERVICE_LABEL,
        "reason",
    ),
    _service_counter(
        "spans_unsampled",
        lambda sums: sums.unsampled,
        "Spans that producers did not write, since their trace is not sampled.",
    ),
    _service_counter(
        "values_truncated", lambda sums: sums.truncated, "Attribute values that producers cut to their field."
    ),
    _service_counter(
        "values_invalid",
        lambda sums: sums.invalid_values,
        "Attribute values that producers left out, since they do not fit their attribute.",
    ),
    _gauge(
        "lag_seconds",
        _lag,
        "Age of the oldest pending span, from the time at which it ended; 0 where none is pending.",
        SERVICE_LABEL,
    ),
    _service_counter("rings_attached", lambda sums: sums.rings, "Rings that were taken in."),
    _gauge(
        "rings",
        _rings,
        "Rings by state: alive; ending, its producer is gone; set_aside, unsound; left_alone, not admitted or newer.",
        "state",
    ),
    _counter(
        "rings_quarantined",
        lambda reading: _one(reading.snapshot.quarantined_rings),
        "Ring files that were found unsound and set aside.",
    ),
    _counter(
        "export_attempts",
        _attempts,
        "Attempts to send a batch, by verdict: delivered, retry (sent again later), refused, too_large (halved).",
        "verdict",
    ),
    Metric(
        "ringbuf_drain_export_duration_seconds",
        "histogram",
        (),
        "How long the attempts to send a batch took.",
        _attempt_durations,
    ),
    _counter(
        "export_bytes",
        _bytes,
        "Bytes of delivered batches: encoded, before compression; sent, as they went out (of gRPC with gzip unknown).",
        "stage",
    ),
    _counter(
        "export_values_left_out",
        lambda reading: _one(reading.exports.values_left_out),
        "Attributes and elements with a NaN or infinite double, left out of delivered JSON (--json-non-finite omit).",
    ),
    _gauge(
        "export_running",
        lambda reading: _one(reading.exports.running),
        "Attempts that wait for the backend's answer.",
    ),
    _gauge(
        "export_failing_seconds",
        lambda reading: _one(reading.exports.failing_seconds),
        "For how long the backend has accepted nothing of what it was sent; 0 when it accepted the last.",
    ),
    _gauge(
        "next_attempt_seconds",
        lambda reading: _one(reading.seconds_until_attempt),
        "When the backend is tried next; 0 while an attempt is running, or nothing waits for one.",
    ),
    _gauge(
        "batches_in_flight",
        lambda reading: _one(reading.snapshot.batches_in_flight),
        "Batches that were handed to the delivery and are not settled; those that wait for a retry are among them.",
    ),
    _brokers_gauge(
        "kafka_queued_messages", lambda kafka: kafka.queued_messages, "Messages that the Kafka client has in hand."
    ),
    _brokers_gauge("kafka_queued_bytes", lambda kafka: kafka.queued_bytes, "Size of these, before compression."),
    _brokers_counter("kafka_messages", lambda kafka: kafka.messages, "Messages that brokers have acknowledged."),
    _brokers_counter("kafka_message_bytes", lambda kafka: kafka.message_bytes, "Size of these, before compression."),
    _brokers_counter("kafka_message_spans", lambda kafka: kafka.message_spans, "Spans in these."),
    _brokers_counter(
        "kafka_producers",
        lambda kafka: kafka.producers,
        "Producers that were made: the first, after errors, at reloads.",
    ),
    _brokers_gauge("kafka_partitions", lambda kafka: kafka.partitions, "Partitions of the topic; 0 if not known."),
    _brokers_gauge(
        "kafka_partitions_without_leader",
        lambda kafka: kafka.partitions_without_leader,
        "Partitions of the topic that nobody can write to now.",
    ),
    _gauge(
        "kafka_round_trip_seconds",
        lambda reading: _by_broker(reading, lambda broker: broker.round_trip_seconds),
        "Mean round trip to a broker in the last statistics.interval.ms; none where it was asked nothing.",
        "broker",
    ),
    _gauge(
        "kafka_throttle_seconds",
        lambda reading: _by_broker(reading, lambda broker: broker.throttle_seconds),
        "For how long a broker's quota made the client wait, on the mean of the last interval.",
        "broker",
    ),
    _counter(
        "kafka_errors",
        lambda reading: _by_broker(reading, lambda broker: broker.errors),
        "Requests to a broker that failed or timed out, and replies that were broken.",
        "broker",
    ),
    _gauge("spool_spans", _spool_spans, "Spans in the spool.", SERVICE_LABEL),
    _counter(
        "spool_spans_left",
        _left_the_spool,
        "Spans that left the spool since the drain's start, by outcome; expired for their age, dropped for newer ones, "
        "damaged on the disk or removed by somebody.",
        SERVICE_LABEL,
        "outcome",
    ),
    _spool_gauge("spool_batches", lambda spool: spool.batches, "Batches in the spool."),
    _spool_gauge("spool_size_bytes", lambda spool: spool.file_bytes, "Size of the spool on the disk."),
    _gauge(
        "spool_capacity_bytes",
        lambda reading: _of_spool(reading, lambda _: reading.spool_capacity_bytes),
        "Size that the spool may have.",
    ),
    _spool_gauge(
        "spool_oldest_seconds",
        lambda spool: spool.oldest_age_seconds,
        "Age of the oldest batch in the spool; 0 when it is empty.",
    ),
    _spool_gauge(
        "spool_writable", lambda spool: spool.is_writable, "Whether the last write to the spool was possible."
    ),
    _counter(
        "spool_refused",
        _spool_refused,
        "Batches that the spool did not take, by reason: full; failing, it cannot be written.",
        "reason",
    ),
    _counter(
        "spool_set_aside",
        lambda reading: _of_spool(reading, lambda spool: spool.set_aside),
        "Spools that were found damaged and moved out of the way, or whose files were removed or replaced by somebody.",
    ),
    _counter(
        "dead_letter_batches",
        _dead_letter_batches,
        "Batches that the backend refused for good: kept in the folder; failed, each time that one cannot be written.",
        "event",
    ),
    _letters_gauge("dead_letter_spans", lambda letters: letters.sums.waiting, "Spans in the dead-letter folder."),
    _counter(
        "dead_letter_spans_left",
        _left_the_letters,
        "Spans that left the dead-letter folder: deleted, its bounds were reached; taken away by somebody (replay).",
        "outcome",
    ),
    _letters_gauge("dead_letter_size_bytes", lambda letters: letters.file_bytes, "Size of the dead-letter folder."),
    _letters_gauge("dead_letter_capacity_bytes", lambda letters: letters.max_bytes, "Size that it may have."),
    _gauge(
        "loop_stalled_seconds",
        lambda reading: _one(reading.stalled_seconds),
        "Time since the drain's loop last went round.",
    ),
    _gauge(
        "threads_ended",
        lambda reading: _one(reading.threads_ended),
        "1 once a thread has ended that was to go on: the drain ends, to be started again.",
    ),
    _gauge(
        "snapshot_age_seconds",
        lambda reading: _one(reading.snapshot_age),
        "Age of this scrape's numbers of rings and spool; above 1 when the loop did not answer.",
    ),
    _counter(
        "connections_refused",
        lambda reading: _one(reading.connections_refused),
        "HTTP connections that were closed unanswered, since there were too many or too slow ones.",
    ),
    _counter(
        "log_lines_dropped",
        lambda reading: _one(reading.log_lines_dropped),
        "Lines of the log that could not be written: its disk is full, or nobody reads it.",
    ),
    _gauge("span_series", _span_series, "Series of ringbuf_span_duration_seconds, without the one for the rest."),
    _counter(
        "span_series_overflow",
        _span_overflow,
        'Spans that were counted in the series "(other)", since --max-series series were there.',
    ),
    Metric(
        "ringbuf_span_duration_seconds",
        "histogram",
        (SERVICE_LABEL, SPAN_NAME_LABEL, "…"),
        "Durations of released spans; with a label for each attribute that the ring's layout marks as a metric label.",
        _span_durations,
    ),
)
"""Every metric that the drain exposes, beside the process_* ones of the Prometheus client."""
