"""By OTLP the drain tells what /metrics tells, with units, start times and resources that keep writers apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from prometheus_client.utils import floatToGoString

from drain.accounting.snapshot import Snapshot
from drain.accounting.sums import Sums
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.telemetry.metric_table import METRICS
from drain.telemetry.metrics import DrainCollector, registry_of
from drain.telemetry.otlp_metrics import OtlpMetrics
from drain.telemetry.streams import Streams, TemporalityPreference
from tests.clocks import Clock

from .full_drain import Backend, full_sources, request, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as MetricMessage

    from drain.telemetry.sources import Sources

START, NOW = 10_000, 20_000
_SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def sent(
    of: Sources, preference: TemporalityPreference = "cumulative", points: int = 10_000
) -> list[ExportMetricsServiceRequest]:
    metrics = OtlpMetrics(Streams(START, preference), points_a_request=points)
    return [request.message for request in metrics.requests(of.read(), NOW)]


def messages(requests: list[ExportMetricsServiceRequest]) -> Iterator[tuple[dict[str, str], MetricMessage]]:
    """Yield each metric with its resource."""
    for sent_request in requests:
        for of_resource in sent_request.resource_metrics:
            resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
            for scope in of_resource.scope_metrics:
                assert scope.scope.name == "ringbuf-drain"
                for metric in scope.metrics:
                    yield resource, metric


def translated(requests: list[ExportMetricsServiceRequest]) -> Values:
    """Return what a receiver makes of it for Prometheus.

    Source: OpenTelemetry specification `compatibility/prometheus_and_openmetrics.md`.
    """
    values: Values = {}
    for resource, metric in messages(requests):
        kind = metric.WhichOneof("data")
        assert kind is not None
        name = metric.name.replace(".", "_") + _SUFFIXES.get(metric.unit, "") + ("_total" if kind == "sum" else "")
        for point in getattr(metric, kind).data_points:
            labels = {pair.key.replace(".", "_"): pair.value.string_value for pair in point.attributes}
            if metric.name.startswith("ringbuf.span."):
                labels["service"] = resource["service.name"]
            if kind == "histogram":
                bounds = [*map(floatToGoString, point.explicit_bounds), "+Inf"]
                for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
                    values[f"{name}_bucket", frozenset({**labels, "le": bound}.items())] = count
                values[f"{name}_count", frozenset(labels.items())] = point.count
                values[f"{name}_sum", frozenset(labels.items())] = point.sum
            else:
                values[name, frozenset(labels.items())] = getattr(point, point.WhichOneof("value"))
    return values


def test_a_translation_to_prometheus_has_the_names_labels_and_values_of_the_exposition() -> None:
    of = full_sources()
    shown = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry_of(DrainCollector(of)).collect()
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
    told = translated(sent(of))
    assert told.keys() == shown.keys()
    for key, value in shown.items():
        # Ages grow from one reading to the next.
        assert told[key] == (value if "_seconds" not in key[0] else pytest.approx(value, abs=60)), key


def test_a_metric_has_its_unit_and_meaning() -> None:
    found = {metric.name: (metric.unit, metric.description) for _, metric in messages(sent(full_sources()))}
    assert found == {metric.otlp_name: (metric.unit, metric.help) for metric in METRICS}
    for metric in METRICS:
        assert metric.unit in {"", "s", "By", "1"} or (metric.unit[0], metric.unit[-1]) == ("{", "}")


def test_counters_say_since_when_and_gauges_do_not() -> None:
    for _, metric in messages(sent(full_sources())):
        kind = metric.WhichOneof("data")
        assert kind is not None
        data = getattr(metric, kind)
        for point in data.data_points:
            assert (point.start_time_unix_nano, point.time_unix_nano) == (0 if kind == "gauge" else START, NOW)
        assert kind == "gauge" or data.aggregation_temporality == 2  # cumulative
        assert kind != "sum" or data.is_monotonic


@pytest.mark.parametrize(("preference", "of_sums", "of_histograms"), [("delta", 1, 1), ("lowmemory", 2, 1)])
def test_temporality_is_said(preference: TemporalityPreference, of_sums: int, of_histograms: int) -> None:
    expected = {"sum": of_sums, "histogram": of_histograms}
    for _, metric in messages(sent(full_sources(), preference)):
        kind = metric.WhichOneof("data")
        assert kind is not None
        assert kind == "gauge" or getattr(metric, kind).aggregation_temporality == expected[kind]


def test_the_drain_and_the_services_of_the_spans_have_resources_with_the_drains_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=node-7")
    by_metric = {metric.name: resource for resource, metric in messages(sent(full_sources()))}
    own, of_shop = by_metric["ringbuf.drain.spans_received"], by_metric["ringbuf.span.duration"]
    assert (own["service.name"], own["k8s.node.name"]) == ("ringbuf-drain", "node-7")
    assert own["service.instance.id"]
    assert of_shop == {
        "service.name": "shop",
        "service.instance.id": own["service.instance.id"],
        "ringbuf.drain.id": own["service.instance.id"],
    }


def test_attributes_of_spans_have_their_own_keys() -> None:
    [(_, metric)] = [found for found in messages(sent(full_sources())) if found[1].name == "ringbuf.span.duration"]
    [point] = metric.histogram.data_points
    keys = {pair.key for pair in point.attributes}
    assert keys == {"span.name", "grafos.outcome"}


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_exponential_histograms_are_told_where_that_is_wanted(preference: TemporalityPreference) -> None:
    clock = Clock()
    exporter = MeasuredExporter(Backend(clock, (0.25, Result(Verdict.DELIVERED))), clock)
    exporter.export(request())
    of = sources(Snapshot(), exporter, clock, exponential=True)
    metrics = OtlpMetrics(Streams(START, preference), exponential=True)
    [first] = metrics.requests(of.read(), NOW)
    first.acknowledge()
    [second] = metrics.requests(of.read(), NOW + 1)
    for told, spans, attempts in ((first, 3, 1), (second, 0, 0) if preference == "delta" else (second, 3, 1)):
        points = {
            metric.name: metric.exponential_histogram.data_points[0]
            for _, metric in messages([told.message])
            if metric.WhichOneof("data") == "exponential_histogram"
        }
        of_spans, of_attempts = points["ringbuf.span.duration"], points["ringbuf.drain.export_duration"]
        assert (of_spans.count, of_attempts.count) == (spans, attempts)
        assert of_spans.sum == pytest.approx(0.002 * spans)
        assert list(of_spans.positive.bucket_counts) == [spans] * bool(spans)
        if spans:  # 2 ms three times, and a quarter of a second, which ends a bucket
            assert 2 ** (of_spans.positive.offset / 8) < 0.002 <= 2 ** ((of_spans.positive.offset + 1) / 8)
            assert (of_attempts.scale, of_attempts.positive.offset) == (3, 8 * -2 - 1)
    assert not [metric for _, metric in messages([first.message]) if metric.WhichOneof("data") == "histogram"]


def test_a_request_has_no_more_points_than_it_may_and_none_is_left_out_or_there_twice() -> None:
    requests = sent(full_sources(), points=7)
    points = [
        sum(len(getattr(metric, str(metric.WhichOneof("data"))).data_points) for _, metric in messages([request]))
        for request in requests
    ]
    assert set(points[:-1]) == {7}
    assert 0 < points[-1] <= 7
    assert translated(requests).keys() == translated(sent(full_sources())).keys()
    assert sum(points) == sum(1 for _ in _points(sent(full_sources())))


def _points(requests: list[ExportMetricsServiceRequest]) -> Iterator[object]:
    for _, metric in messages(requests):
        yield from getattr(metric, str(metric.WhichOneof("data"))).data_points


def test_what_one_ring_says_keeps_no_other_from_being_told() -> None:
    clock = Clock()
    services = {"evil\ud800": Sums(rings=1, published=1 << 70), "shop": Sums(rings=1, published=3)}
    told = translated(sent(sources(Snapshot(services=services), MeasuredExporter(Backend(clock), clock), clock)))
    received = {
        dict(labels)["service"]: n for (name, labels), n in told.items() if name.endswith("spans_received_total")
    }
    assert received == {"evil?": (1 << 63) - 1, "shop": 3}


def test_only_a_request_that_is_acknowledged_is_told() -> None:
    of = full_sources()
    metrics = OtlpMetrics(Streams(START, "delta"), points_a_request=20)
    first, *rest = metrics.requests(of.read(), NOW)
    first.acknowledge()
    before = translated([first.message, *(request.message for request in rest)])
    after = translated([request.message for request in metrics.requests(of.read(), NOW + 1)])
    was_acknowledged = translated([first.message]).keys()
    counters = {key for key in before if key[0].endswith("_total") and before[key]}
    assert counters & was_acknowledged
    assert counters - was_acknowledged
    assert all(after[key] == (0 if key in was_acknowledged else before[key]) for key in counters)


def test_a_reading_without_spool_and_spans_is_told_too() -> None:
    clock = Clock()
    plain = replace(sources(Snapshot(), MeasuredExporter(Backend(clock), clock), clock), spans=None)
    assert "ringbuf.drain.build_info" in {metric.name for _, metric in messages(sent(plain))}
