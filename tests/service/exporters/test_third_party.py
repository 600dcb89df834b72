"""Real receivers that others wrote get every span, with its ids and attributes, in every encoding."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import urllib3
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request
from drain.settings.otlp_environment import OtlpSettings

from .batches import request, traces
from .otlp_server import OtlpGrpcServer
from .receivers import START_SECONDS, Receiver, ddapm_test_agent, rotel

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS = pytest.mark.parametrize(
    ("kind", "compression"),
    [
        ("otlp-grpc", "none"),
        ("otlp-grpc", "gzip"),
        ("otlp-http", "none"),
        ("otlp-http", "gzip"),
        ("otlp-http-json", "none"),
        ("otlp-http-json", "gzip"),
    ],
)


@pytest.fixture(scope="module")
def behind_rotel() -> Iterator[OtlpGrpcServer]:
    with OtlpGrpcServer() as server:
        yield server


@pytest.fixture(scope="module")
def rotel_receiver(behind_rotel: OtlpGrpcServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with rotel(tmp_path_factory.mktemp("rotel"), behind_rotel.url) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def ddapm_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with ddapm_test_agent(tmp_path_factory.mktemp("ddapm")) as receiver:
        yield receiver


def deliver(receiver: Receiver, kind: str, compression: str, count: int, size: int = 0) -> Result:
    endpoint = receiver.grpc if kind == "otlp-grpc" else receiver.http
    exporter = make_exporter(kind, endpoint=endpoint, otlp=OtlpSettings(compression=compression))
    try:
        return exporter.export(request(count, exporter.encoding, size))
    finally:
        exporter.close()


@WAYS
def test_rotel_decodes_every_span_as_it_was_sent(
    rotel_receiver: Receiver, behind_rotel: OtlpGrpcServer, kind: str, compression: str
) -> None:
    behind_rotel.requests.clear()
    assert deliver(rotel_receiver, kind, compression, 500) == Result(Verdict.DELIVERED)
    deadline = time.monotonic() + START_SECONDS
    while not behind_rotel.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    (forwarded,) = behind_rotel.requests
    assert list(forwarded.message.resource_spans) == list(traces(500).resource_spans)


@pytest.mark.parametrize(
    ("kind", "compression", "megabytes"),
    [("otlp-grpc", "none", 5), ("otlp-http", "none", 24), ("otlp-http", "gzip", 24)],
)
def test_rotel_says_too_large_in_its_own_way(
    rotel_receiver: Receiver, kind: str, compression: str, megabytes: int
) -> None:
    assert deliver(rotel_receiver, kind, compression, megabytes, 1 << 20).verdict is Verdict.TOO_LARGE


def test_a_span_that_rotel_cannot_read_costs_no_other_its_delivery(
    rotel_receiver: Receiver, behind_rotel: OtlpGrpcServer
) -> None:
    message = traces(20)
    poison = message.resource_spans[0].scope_spans[0].spans[6].attributes
    poison.add(key="empty").value.array_value.SetInParent()
    for number in (float("nan"), float("inf"), float("-inf")):
        poison.add(key=str(number)).value.double_value = number
    behind_rotel.requests.clear()
    settings = OtlpSettings(json_non_finite="omit", hold=False)
    exporter = make_exporter("otlp-http-json", endpoint=rotel_receiver.http, otlp=settings)
    assert exporter.export(Request(to_json_line(message), 20, "json")) == Result(Verdict.DELIVERED)
    exporter.close()
    deadline = time.monotonic() + START_SECONDS
    while not behind_rotel.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    del poison[-3:]
    assert list(behind_rotel.requests[0].message.resource_spans) == list(message.resource_spans)


@WAYS
def test_the_datadog_test_agent_tells_every_span_that_was_sent(
    ddapm_receiver: Receiver, kind: str, compression: str
) -> None:
    def ask(path: str) -> bytes:
        return urllib3.request("GET", ddapm_receiver.http + path, timeout=START_SECONDS).data

    ask("/test/session/clear")
    assert deliver(ddapm_receiver, kind, compression, 500) == Result(Verdict.DELIVERED)
    (told,) = json.loads(ask("/test/session/traces"))
    # It shows protobuf in protobuf's own JSON mapping (base64 ids), and JSON as it came.
    as_it_came = kind == "otlp-http-json"
    assert (from_json_line(json.dumps(told)) if as_it_came else ParseDict(told, TracesData())) == traces(500)
