"""Rows of the table about the backend: attempts, several endpoints, Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.telemetry import metric_values as values
from drain.telemetry.metric import Metric
from drain.telemetry.table.rows import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.broker_state import BrokerState


def _brokers_counter(name: str, value: Callable[[BrokerState], float], help_text: str, *, unit: str) -> Metric:
    return counter(name, lambda reading: values.of_brokers(reading, value), help_text, unit=unit)


def _brokers_gauge(name: str, value: Callable[[BrokerState], float], help_text: str, *, unit: str) -> Metric:
    return gauge(name, lambda reading: values.of_brokers(reading, value), help_text, unit=unit)


BACKEND: Final[tuple[Metric, ...]] = (
    counter(
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
    counter(
        "export_bytes",
        values.export_bytes,
        "Bytes of delivered batches: encoded, before compression; sent, as they went out (of gRPC with gzip unknown).",
        "stage",
        unit="By",
    ),
    counter(
        "export_gzip_spans",
        values.gzip_spans,
        "Spans of delivered batches that this drain made gzip of: straight from records, or from the encoded body.",
        "made_from",
        unit="{span}",
    ),
    gauge(
        "export_gzip_layouts",
        values.gzip_layouts,
        "Layouts by how gzip is made of their records: straight; encoded first, as unfit, as large, as mistrusted.",
        "way",
        unit="{layout}",
    ),
    counter(
        "export_gzip_mistrusted_layouts",
        lambda reading: values.one(reading.exports.mistrusted_layouts),
        "Layouts of which gzip straight from records was not what the encoder makes, a fault: they are encoded first.",
        unit="{layout}",
    ),
    counter(
        "export_values_left_out",
        lambda reading: values.one(reading.exports.values_left_out),
        "Attributes and elements with a NaN or infinite double, left out of delivered JSON (--json-non-finite omit).",
        unit="{value}",
    ),
    gauge(
        "export_running",
        lambda reading: values.one(reading.exports.running),
        "Attempts that wait for the backend's answer.",
        unit="{attempt}",
    ),
    gauge(
        "export_failing_seconds",
        lambda reading: values.one(reading.exports.failing_seconds),
        "For how long the backend has accepted nothing of what it was sent; 0 when it accepted the last, or none of it "
        "waits any more.",
        unit="s",
    ),
    counter(
        "endpoint_attempts",
        values.endpoint_attempts,
        "Attempts at each of several endpoints, by verdict as of export_attempts.",
        "endpoint",
        "verdict",
        unit="{attempt}",
    ),
    counter(
        "endpoint_attempt_seconds",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.attempt_seconds),
        "How long these took together: divided by their number, the mean round trip.",
        "endpoint",
        unit="s",
    ),
    counter(
        "endpoint_spans",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.spans),
        "Spans that were delivered to each of several endpoints; divided by the delivered attempts, spans a request.",
        "endpoint",
        unit="{span}",
    ),
    gauge(
        "endpoint_gateways",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.gateways),
        "Gateways behind each of several endpoints: one, or with --resolve-interval one for each address of its name.",
        "endpoint",
        unit="{gateway}",
    ),
    gauge(
        "endpoint_failing",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.failing),
        "Of these, those at which the last attempt came to nothing.",
        "endpoint",
        unit="{gateway}",
    ),
    gauge(
        "endpoint_open",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.open),
        "Of these, those whose breaker is open: nothing gets through, and one attempt at a time is made. With --balance"
        " trace or collector-ring.",
        "endpoint",
        unit="{gateway}",
    ),
    gauge(
        "endpoint_away",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.away),
        "Of these, those that are away for longer than --hand-over-after, so that the others get their spans.",
        "endpoint",
        unit="{gateway}",
    ),
    counter(
        "endpoint_handed_over_spans",
        lambda reading: values.by_endpoint(reading, lambda endpoint: endpoint.handed_over),
        "Spans that others got in the place of an endpoint that was away.",
        "endpoint",
        unit="{span}",
    ),
    gauge(
        "next_attempt_seconds",
        lambda reading: values.one(reading.seconds_until_attempt),
        "When the backend is tried next; 0 while an attempt is running, or nothing waits for one.",
        unit="s",
    ),
    gauge(
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
    gauge(
        "kafka_round_trip_seconds",
        lambda reading: values.by_broker(reading, lambda broker: broker.round_trip_seconds),
        "Mean round trip to a broker in the last statistics.interval.ms; none where it was asked nothing.",
        "broker",
        unit="s",
    ),
    gauge(
        "kafka_throttle_seconds",
        lambda reading: values.by_broker(reading, lambda broker: broker.throttle_seconds),
        "For how long a broker's quota made the client wait, on the mean of the last interval.",
        "broker",
        unit="s",
    ),
    counter(
        "kafka_errors",
        lambda reading: values.by_broker(reading, lambda broker: broker.errors),
        "Requests to a broker that failed or timed out, and replies that were broken.",
        "broker",
        unit="{error}",
    ),
)
