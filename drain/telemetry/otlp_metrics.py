"""The metric table as OTLP: requests of a bounded number of points, in two kinds of resource.

What the drain tells of itself is of the drain's resource. What it tells of the spans of a service is of that service's,
whose instance is the drain: else the drains of many hosts would write into one stream, which no receiver can add up.

Source: opentelemetry-proto `metrics/v1/metrics.proto`; OpenTelemetry specification `metrics/data-model.md`,
"Single-Writer", and `compatibility/prometheus_and_openmetrics.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Exemplar

import ringbuf
from drain.accounting.exponential_buckets import buckets
from drain.accounting.label_names import SERVICE_LABEL, SPAN_NAME_LABEL
from drain.telemetry.metric import Distribution
from drain.telemetry.metric_table import METRICS
from drain.telemetry.streams import TOTAL, VALUE
from ringbuf.ring.resource import build_resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as MetricMessage
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics

    from drain.telemetry.metric import Metric, Reading
    from drain.telemetry.streams import Point, Streams

SERVICE_NAME: Final = "ringbuf-drain"
SCOPE_NAME: Final = "ringbuf-drain"
# Receivers take 4 to 20 MiB; a histogram's point has some 400 bytes, labels of at most 1024 characters, and exemplars
# of 55 bytes in at most 17 buckets.
POINTS_A_REQUEST: Final = 1500

_MOST: Final = (1 << 63) - 1  # counts come out of rings, where anybody may write
_KEYS: Final = {SPAN_NAME_LABEL: "span.name"}
_INSTANCE: Final = "service.instance.id"


@dataclass
class MetricRequest:
    """One request to a receiver.

    Attributes:
        message: what is sent.
        until_unix_nano: the time of its points.
        points: how many there are.
        told: of them, those that are acknowledged.
        scopes: where metrics belong, by service; None: of the drain.
        metrics: where points belong, by service and name.
    """

    message: ExportMetricsServiceRequest
    until_unix_nano: int
    points: int = 0
    told: list[Point] = field(default_factory=list)
    scopes: dict[str | None, ScopeMetrics] = field(default_factory=dict)
    metrics: dict[tuple[str | None, str], MetricMessage] = field(default_factory=dict)

    def acknowledge(self) -> None:
        """Note that a receiver has it."""
        for point in self.told:
            point.acknowledge(self.until_unix_nano)


class OtlpMetrics:
    """Makes requests out of readings.

    Args:
        streams: what the receiver has.
        exponential: tell exponential histograms where they are counted, and not those of explicit buckets.
        points_a_request: at most so many.

    Attributes:
        resource: the drain's own: what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and what is found here.
    """

    def __init__(
        self, streams: Streams, *, exponential: bool = False, points_a_request: int = POINTS_A_REQUEST
    ) -> None:
        self.resource = {
            "service.version": ringbuf.__version__,
            **build_resource(None, None, version=ringbuf.__version__),
        }
        if str(self.resource["service.name"]).startswith("unknown_service"):
            self.resource["service.name"] = SERVICE_NAME
        self._streams = streams
        self._exponential = exponential
        self._points_a_request = points_a_request

    def requests(self, reading: Reading, now: int) -> Iterator[MetricRequest]:
        """Return all that a reading tells, as requests that may be sent one after the other.

        Args:
            reading: of now.
            now: Unix time in nanoseconds.
        """
        request = MetricRequest(ExportMetricsServiceRequest(), now)
        for metric in METRICS:
            for item in metric.read(reading):
                if request.points == self._points_a_request:
                    yield request
                    request = MetricRequest(ExportMetricsServiceRequest(), now)
                if isinstance(item, Distribution) and self._exponential and item.exponential is not None:
                    self._add_exponential(request, metric, item, item.exponential)
                elif isinstance(item, Distribution):
                    self._add_distribution(request, metric, item)
                else:
                    values, value = item
                    self._add_value(request, metric, dict(zip(metric.labels, values, strict=True)), value)
                request.points += 1
        if request.points:
            yield request

    def _add_value(self, request: MetricRequest, metric: Metric, labels: Mapping[str, str], value: float) -> None:
        message = self._message(request, metric, labels)
        if metric.kind == "gauge":
            data = message.gauge.data_points.add(time_unix_nano=request.until_unix_nano)
        else:
            key = (metric.name, *labels.values())
            point = self._streams.point(key, "counter", {VALUE: value}, request.until_unix_nano)
            request.told.append(point)
            message.sum.is_monotonic = True
            message.sum.aggregation_temporality = self._temporality(metric)
            data = message.sum.data_points.add(
                start_time_unix_nano=point.start_unix_nano, time_unix_nano=request.until_unix_nano
            )
            value = point.numbers.get(VALUE, 0)
        if metric.unit in ("s", "1"):
            data.as_double = value
        else:
            data.as_int = min(int(value), _MOST)
        _add_attributes(data.attributes, labels, {}, metric)

    def _add_distribution(self, request: MetricRequest, metric: Metric, shown: Distribution) -> None:
        message = self._message(request, metric, shown.labels)
        key = (metric.name, *shown.labels.items())
        numbers = {TOTAL: shown.total} | {at: count for at, count in enumerate(shown.counts) if count}
        point = self._streams.point(key, "histogram", numbers, request.until_unix_nano, shown.exemplars)
        request.told.append(point)
        counts = [int(point.numbers.get(at, 0)) for at in range(len(shown.counts))]
        message.histogram.aggregation_temporality = self._temporality(metric)
        data = message.histogram.data_points.add(
            start_time_unix_nano=point.start_unix_nano,
            time_unix_nano=request.until_unix_nano,
            count=sum(counts),
            sum=point.numbers.get(TOTAL, 0.0),
            bucket_counts=counts,
            explicit_bounds=shown.bounds,
            exemplars=_exemplars(point),
        )
        _add_attributes(data.attributes, shown.labels, shown.keys, metric)

    def _add_exponential(
        self, request: MetricRequest, metric: Metric, shown: Distribution, counted: Mapping[int, int]
    ) -> None:
        message = self._message(request, metric, shown.labels)
        key = (metric.name, *shown.labels.items())
        numbers = {TOTAL: shown.total, **counted}
        point = self._streams.point(key, "histogram", numbers, request.until_unix_nano, shown.exemplars)
        request.told.append(point)
        told = buckets({at: int(count) for at, count in point.numbers.items() if at != TOTAL})
        message.exponential_histogram.aggregation_temporality = self._temporality(metric)
        data = message.exponential_histogram.data_points.add(
            start_time_unix_nano=point.start_unix_nano,
            time_unix_nano=request.until_unix_nano,
            count=told.zeros + sum(told.counts),
            sum=point.numbers.get(TOTAL, 0.0),
            scale=told.scale,
            zero_count=told.zeros,
            exemplars=_exemplars(point),
        )
        data.positive.offset = told.offset
        data.positive.bucket_counts.extend(told.counts)
        _add_attributes(data.attributes, shown.labels, shown.keys, metric)

    def _message(self, request: MetricRequest, metric: Metric, labels: Mapping[str, str]) -> MetricMessage:
        """Return where a point of this metric belongs."""
        service = labels[SERVICE_LABEL] if metric.is_of_service else None
        message = request.metrics.get((service, metric.name))
        if message is None:
            scope = request.scopes.get(service)
            if scope is None:
                scope = request.scopes[service] = self._scope(request, service)
            message = scope.metrics.add(name=metric.otlp_name, unit=metric.unit, description=metric.help)
            request.metrics[service, metric.name] = message
        return message

    def _scope(self, request: MetricRequest, service: str | None) -> ScopeMetrics:
        of_resource = request.message.resource_metrics.add()
        instance = self.resource[_INSTANCE]
        of_service = {"service.name": service, _INSTANCE: instance, "ringbuf.drain.id": instance}
        for key, value in (self.resource if service is None else of_service).items():
            added = of_resource.resource.attributes.add(key=key)
            if isinstance(value, int):
                added.value.int_value = value
            else:
                added.value.string_value = _text(str(value))
        scope = of_resource.scope_metrics.add()
        scope.scope.name, scope.scope.version = SCOPE_NAME, ringbuf.__version__
        return scope

    def _temporality(self, metric: Metric) -> AggregationTemporality.ValueType:
        if self._streams.is_delta("histogram" if metric.kind == "histogram" else "counter"):
            return AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
        return AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def _exemplars(point: Point) -> list[Exemplar]:
    return [
        Exemplar(time_unix_nano=one.unix_nano, as_double=one.seconds, trace_id=one.trace_id, span_id=one.span_id)
        for one in point.exemplars
    ]


def _add_attributes(
    attributes: RepeatedCompositeFieldContainer[KeyValue],
    labels: Mapping[str, str],
    keys: Mapping[str, str],
    metric: Metric,
) -> None:
    for label, value in labels.items():
        if metric.is_of_service and label == SERVICE_LABEL:
            continue  # the resource's
        added = attributes.add(key=_text(keys.get(label) or _KEYS.get(label, label)))
        added.value.string_value = _text(value)


def _text(text: str) -> str:
    """Return text that UTF-8 can hold: names come out of rings, and one must not keep the others from being sent."""
    return text.encode("utf-8", "replace").decode()
