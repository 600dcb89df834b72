"""Exemplars as receivers have them: in OpenMetrics at /metrics, and on the points that go by OTLP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from drain.accounting.exemplars import SHOWN_NANO
from drain.accounting.snapshot import Snapshot
from drain.accounting.span_metrics import SpanMetrics
from drain.exporters.measured import MeasuredExporter
from drain.telemetry.metrics import DrainCollector, registry_of
from drain.telemetry.otlp_metrics import OtlpMetrics
from drain.telemetry.streams import Streams, TemporalityPreference
from ringbuf._ringbuf import lib
from ringbuf.phase219 import DATAPLANE_LAYOUT
from tests.clocks import Clock

from .full_drain import Backend, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drain.telemetry.otlp_metrics import MetricRequest
    from drain.telemetry.sources import Sources

SECOND = 10**9
START, NOW = 10_000, 20_000
DURATIONS = (500, 2_000_000, 40 * SECOND)  # in nanoseconds: of the first bucket, one amid, the one beyond all bounds


def count(spans: SpanMetrics, *, first: int = 1, is_delivered: bool = True) -> None:
    """Count a span of each duration; their ids are numbers from the first on."""
    records = DATAPLANE_LAYOUT.empty(len(DURATIONS))
    for number, (record, nanos) in enumerate(zip(records, DURATIONS, strict=True), start=first):
        record["start_unix_nano"], record["end_unix_nano"] = 7 * SECOND, 7 * SECOND + nanos
        record["trace_id"][-1], record["span_id"][-1] = number, number
        record["flags"] = lib.RB_SPAN_SAMPLED
    counter = spans.of(DATAPLANE_LAYOUT, "shop")
    summary = counter.summarise(records, 0)
    assert summary is not None
    counter.add(summary, is_delivered=is_delivered)


@pytest.fixture(params=[False, True], ids=["explicit", "exponential"])
def spans(request: pytest.FixtureRequest) -> SpanMetrics:
    return SpanMetrics(10, exponential=request.param)


@pytest.fixture
def of(spans: SpanMetrics) -> Sources:
    clock = Clock()
    return replace(sources(Snapshot(), MeasuredExporter(Backend(clock), clock), clock), spans=spans)


def buckets(of: Sources, age_nano: int = 0) -> dict[str, Any]:
    """Return the buckets of the spans by their bound, as a strict reader of OpenMetrics has them, that much later."""
    assert of.spans is not None
    newest = max((one.seen_nano for series in of.spans.series() for one in series.exemplars), default=0)
    text = generate_openmetrics(registry_of(DrainCollector(of, lambda: newest + age_nano))).decode()  # type: ignore[no-untyped-call]  # it has no types
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # nor has its reader
    [family] = [one for one in families if one.name == "ringbuf_span_duration_seconds"]
    return {sample.labels["le"]: sample for sample in family.samples if sample.name.endswith("_bucket")}


def test_openmetrics_has_the_exemplar_of_each_bucket(spans: SpanMetrics, of: Sources) -> None:
    count(spans)
    found = {bound: sample.exemplar for bound, sample in buckets(of).items() if sample.exemplar}
    assert list(found) == ["1e-06", "0.003", "+Inf"]
    for number, (exemplar, nanos) in enumerate(zip(found.values(), DURATIONS, strict=True), start=1):
        assert exemplar.labels == {"trace_id": f"{number:032x}", "span_id": f"{number:016x}"}
        assert sum(map(len, (*exemplar.labels, *exemplar.labels.values()))) <= 128
        assert exemplar.value == nanos / SECOND
        assert float(exemplar.timestamp) == (7 * SECOND + nanos) / SECOND


def test_two_scrapers_see_an_exemplar_for_two_minutes_and_nobody_after(spans: SpanMetrics, of: Sources) -> None:
    count(spans)
    for age_nano in (0, 1, SHOWN_NANO):
        assert [bound for bound, sample in buckets(of, age_nano).items() if sample.exemplar]
    assert not [sample for sample in buckets(of, SHOWN_NANO + 1).values() if sample.exemplar]


def test_the_text_format_which_knows_none_has_none(spans: SpanMetrics, of: Sources) -> None:
    count(spans)
    lines = generate_latest(registry_of(DrainCollector(of))).decode().splitlines()
    assert not [line for line in lines if "#" in line[1:]]


def points(request: MetricRequest) -> Iterator[Any]:
    """Yield the points of the spans' durations."""
    for of_resource in request.message.resource_metrics:
        for scope in of_resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == "ringbuf.span.duration":
                    yield from getattr(metric, str(metric.WhichOneof("data"))).data_points


def ids(request: MetricRequest) -> list[int]:
    return [int.from_bytes(one.trace_id, "big") for point in points(request) for one in point.exemplars]


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_otlp_has_the_exemplars_of_the_last_interval(
    spans: SpanMetrics, of: Sources, preference: TemporalityPreference
) -> None:
    metrics = OtlpMetrics(Streams(START, preference), exponential=spans.bucket_of_cell is not None)
    count(spans)
    [first] = metrics.requests(of.read(), NOW)
    [point] = points(first)
    assert point.count == len(DURATIONS)
    for number, (exemplar, nanos) in enumerate(zip(point.exemplars, DURATIONS, strict=True), start=1):
        assert exemplar.WhichOneof("value") == "as_double"
        assert exemplar.as_double == nanos / SECOND
        assert exemplar.time_unix_nano == 7 * SECOND + nanos
        assert exemplar.trace_id == number.to_bytes(16, "big")
        assert exemplar.span_id == number.to_bytes(8, "big")
        assert not exemplar.filtered_attributes
    first.acknowledge()
    [second] = metrics.requests(of.read(), NOW + 1)
    assert ids(second) == [], "they were those of the interval before"
    second.acknowledge()
    count(spans, first=100)
    [third] = metrics.requests(of.read(), NOW + 2)
    assert ids(third) == [100, 101, 102]


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_what_was_not_acknowledged_is_in_the_next_with_its_exemplars(
    spans: SpanMetrics, of: Sources, preference: TemporalityPreference
) -> None:
    metrics = OtlpMetrics(Streams(START, preference), exponential=spans.bucket_of_cell is not None)
    count(spans)
    [lost] = metrics.requests(of.read(), NOW)
    count(spans, first=100, is_delivered=False)
    [told] = metrics.requests(of.read(), NOW + 1)
    assert ids(lost) == ids(told) == [1, 2, 3]
    assert [point.count for point in points(told)] == [2 * len(DURATIONS)], "the exemplars are of spans that it counts"
    count(spans, first=200)
    told.acknowledge()
    [after] = metrics.requests(of.read(), NOW + 2)
    assert ids(after) == [200, 201, 202], "they came after what was acknowledged had been read"
