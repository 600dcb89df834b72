"""A drain sends its metrics to a receiver that others have written, and drains whatever that one does."""

from __future__ import annotations

import base64
import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
import urllib3
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

import ringbuf
from drain.exporters.otlp_grpc import OtlpGrpcExporter
from drain.exporters.otlp_http import OtlpHttpExporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.settings.otlp_environment import OtlpSettings
from drain.telemetry.otlp_metrics import OtlpMetrics
from drain.telemetry.streams import Streams, TemporalityPreference
from ringbuf.dataplane import LeaseId, OpType, site
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer, silent
from tests.sampled import every
from tests.service.draining import DrainProcess, spans_in_file, until
from tests.service.exporters.receivers import START_SECONDS, ddapm_test_agent
from tests.unit.telemetry.full_drain import full_sources
from tests.waiting import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

    from drain.exporters.protocol import Exporter
    from tests.service.exporters.receivers import Receiver

SPANS = 40
KINDS = ("sum", "gauge", "histogram", "exponential_histogram")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with ddapm_test_agent(tmp_path_factory.mktemp("ddapm")) as receiver:
        yield receiver


def emit_spans(ring_dir: Path, spans: int) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        assert all(read.emit(LeaseId(1), 1_000_000_000, 1_002_000_000) for _ in range(spans))


def told(agent: Receiver, run: str) -> list[tuple[dict[str, str], dict[str, Any], dict[str, str], dict[str, Any]]]:
    """Return resource, metric, attributes and point of all that drains of this run have sent."""
    answer = urllib3.request("GET", f"{agent.http}/test/session/metrics", timeout=START_SECONDS)
    points = []
    for request in answer.json():
        for of_resource in request["resource_metrics"]:
            resource = strings(of_resource["resource"]["attributes"])
            for scope in of_resource["scope_metrics"]:
                for metric in scope["metrics"]:
                    [data] = [metric[kind] for kind in KINDS if kind in metric]
                    points += [
                        (resource, metric, strings(point.get("attributes", [])), point) for point in data["data_points"]
                    ]
    ids = {resource["service.instance.id"] for resource, *_ in points if resource.get("test.run") == run}
    return [point for point in points if point[0]["service.instance.id"] in ids]


def strings(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {pair["key"]: str(next(iter(pair["value"].values()))) for pair in attributes}


@pytest.mark.parametrize(
    ("preference", "protocol", "kind"),
    every(2, [("cumulative", "http/protobuf", "histogram"), ("delta", "grpc", "exponential_histogram")], "-".join),
)
def test_a_third_party_receiver_has_the_metrics_of_two_drains_one_after_the_other(
    agent: Receiver,
    ring_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preference: str,
    protocol: str,
    kind: str,
) -> None:
    log, run = tmp_path / "log", tmp_path.name
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    endpoint = agent.grpc if protocol == "grpc" else f"{agent.http}/v1/metrics"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    of_histograms = {"histogram": "explicit_bucket", "exponential_histogram": "base2_exponential_bucket"}[kind]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", f"{of_histograms}_histogram")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"test.run={run}")
    for number in (1, 2):
        emit_spans(ring_dir, SPANS)
        with DrainProcess(log, ring_dir, "--output", tmp_path / "spans.jsonl") as drain:
            drain.wait_for_event("serving")
            # Each look has all that was ever sent: not more often than drains send.
            until(lambda: len(drains_of(told(agent, run))) == number, lambda: time.sleep(0.2), within=120)  # noqa: B023 - called in this round
            emit_spans(ring_dir, SPANS)
            # The end waits for its last export for seconds only, and this receiver may take longer.
            until(
                lambda: counts(told(agent, run), preference) == number * [(2 * SPANS, 2 * SPANS)],  # noqa: B023 - as above
                lambda: time.sleep(0.2),
                within=120,
            )
            assert drain.stop() == 0, log.read_text()
    points = told(agent, run)
    assert counts(points, preference) == 2 * [(2 * SPANS, 2 * SPANS)]
    if preference == "cumulative":
        for drain_id in drains_of(points):
            received = of(points, drain_id, "ringbuf.drain.spans_delivered", "as_int")
            assert received == sorted(received)
    of_spans = [found for found in points if found[1]["name"] == "ringbuf.span.duration"]
    assert all(kind in metric for _, metric, *_ in of_spans)
    assert {resource["service.name"] for resource, *_ in of_spans} == {"shop"}
    assert {attributes["grafos.operation"] for _, _, attributes, _ in of_spans} == {"fbmu_read"}
    ids = {span.span_id for span in spans_in_file(tmp_path / "spans.jsonl")}
    for drain_id in drains_of(of_spans):
        shown = [
            (base64.b64decode(one["span_id"]), one["as_double"])
            for resource, *_, point in of_spans
            for one in (point.get("exemplars", []) if resource["service.instance.id"] == drain_id else ())
        ]
        assert shown
        assert {span_id for span_id, _ in shown} <= ids
        assert {seconds for _, seconds in shown} == {0.002}


def counts(points: list[Any], preference: str) -> list[tuple[int, int]]:
    """Return the spans that each drain says it has delivered, and those of its span metrics, by all that it sent."""
    every = []
    for drain_id in drains_of(points):
        received = of(points, drain_id, "ringbuf.drain.spans_delivered", "as_int")
        spans = of(points, drain_id, "ringbuf.span.duration", "count")
        is_cumulative = preference == "cumulative"
        every.append((received[-1], spans[-1]) if is_cumulative and received and spans else (sum(received), sum(spans)))
    return every


def drains_of(points: list[Any]) -> set[str]:
    return {resource["service.instance.id"] for resource, *_ in points}


def of(points: list[Any], drain_id: str, name: str, number: str) -> list[int]:
    found = [
        (int(point["time_unix_nano"]), int(point.get(number, 0)))
        for resource, metric, _, point in points
        if resource["service.instance.id"] == drain_id and metric["name"] == name
    ]
    return [value for _, value in sorted(found)]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("preference", get_args(TemporalityPreference))
def test_a_collector_of_others_decodes_every_metric_as_it_was_sent(
    rotel_receiver: Receiver, behind_rotel: OtlpGrpcServer, protocol: str, preference: TemporalityPreference
) -> None:
    (request,) = OtlpMetrics(Streams(1_000_000_000, preference)).requests(full_sources().read(), time.time_ns())
    settings = OtlpSettings(hold=False, timeout_seconds=SECONDS)
    exporter: Exporter
    if protocol == "grpc":
        exporter = OtlpGrpcExporter(rotel_receiver.grpc, settings, content="metrics")
    else:
        exporter = OtlpHttpExporter(f"{rotel_receiver.http}/v1/metrics", "protobuf", settings, content="metrics")
    with closing(exporter):
        sent = request.message.SerializeToString()
        assert exporter.export(Request(sent, request.points, "protobuf")) == Result(Verdict.DELIVERED)

    def handed_on() -> list[list[ResourceMetrics]]:
        bodies = [ExportMetricsServiceRequest.FromString(received.body) for received in list(behind_rotel.requests)]
        return [list(body.resource_metrics) for body in bodies]

    until(lambda: list(request.message.resource_metrics) in handed_on(), lambda: time.sleep(0.02))


def test_spans_are_delivered_while_the_receiver_of_the_metrics_hangs(ring_dir: Path, tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "spans.jsonl"
    with OtlpHttpServer(otherwise=silent) as metrics:
        to = ("--metrics-endpoint", metrics.url, "--metrics-interval", "10ms", "--metrics-timeout", "100ms")
        with DrainProcess(log, ring_dir, "--output", output, *to) as drain:
            drain.wait_for_event("serving")
            until(lambda: len(metrics.requests) > 1)
            emit_spans(ring_dir, SPANS)
            until(lambda: output.exists() and output.stat().st_size)
            assert drain.stop() == 0
            assert drain.audit()["shop"]["delivered"] == SPANS
        assert metrics.requests[0].path == "/v1/metrics"
    [trouble] = [json.loads(line) for line in log.read_text().splitlines() if "metrics were not taken" in line]
    assert "within 0.1 s" in trouble["reason"]


# Its receiver may be held up for longer than the end of a drain waits.
PATIENTLY: Final = f"""
from drain.telemetry.periodic_export import PeriodicMetricExport

PeriodicMetricExport.close.__defaults__ = ({SECONDS},)
"""


def test_the_last_export_has_what_the_end_delivered(ring_dir: Path, tmp_path: Path) -> None:
    with OtlpHttpServer() as metrics:
        to = ("--metrics-endpoint", metrics.url, "--metrics-interval", "1h", "--metrics-timeout", f"{SECONDS}s")
        arguments = ("--output", tmp_path / "spans.jsonl", "--batch-delay", "60s", *to)
        with DrainProcess(tmp_path / "log", ring_dir, *arguments, before=PATIENTLY) as drain:
            drain.wait_for_event("serving")
            emit_spans(ring_dir, SPANS)
            drain.wait_for_event("ring attached")  # a drain that ends takes in no other
            assert drain.stop() == 0
    delivered = [
        point.as_int
        for received in metrics.requests
        for resource_metrics in ExportMetricsServiceRequest.FromString(received.body).resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
        if metric.name == "ringbuf.drain.spans_delivered"
        for point in metric.sum.data_points
    ]
    assert delivered[-1:] == [SPANS]
