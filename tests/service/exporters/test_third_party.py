"""Real receivers that others wrote get every span, with its ids and attributes, in every encoding."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import urllib3
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request
from drain.settings.otlp_environment import OtlpSettings
from tests.waiting import SECONDS, until

from .batches import request, traces
from .receivers import START_SECONDS, Receiver, ddapm_test_agent, oteltap, peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.otlp_server import OtlpGrpcServer

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
def ddapm_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with ddapm_test_agent(tmp_path_factory.mktemp("ddapm")) as receiver:
        yield receiver


def deliver(receiver: Receiver, kind: str, compression: str, count: int, size: int = 0) -> Result:
    endpoint = receiver.grpc if kind == "otlp-grpc" else receiver.http
    settings = OtlpSettings(compression=compression, timeout_seconds=SECONDS)
    exporter = make_exporter(kind, endpoint=endpoint, otlp=settings)
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
    wait_for(behind_rotel, traces(500))


def wait_for(behind: OtlpGrpcServer, traces: TracesData) -> None:
    """Wait for a request with these; what rotel was late to hear of an earlier one it sends again."""
    until(lambda: any(list(found.message.resource_spans) == list(traces.resource_spans) for found in behind.requests))


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
    settings = OtlpSettings(json_non_finite="omit", hold=False, timeout_seconds=SECONDS)
    exporter = make_exporter("otlp-http-json", endpoint=rotel_receiver.http, otlp=settings)
    assert exporter.export(Request(to_json_line(message), 20, "json")) == Result(Verdict.DELIVERED)
    exporter.close()
    del poison[-3:]
    wait_for(behind_rotel, message)


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


@pytest.fixture(scope="module")
def oteltap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oteltap")


@pytest.fixture(scope="module")
def oteltap_receiver(oteltap_folder: Path) -> Iterator[Receiver]:
    with oteltap(oteltap_folder) as receiver:
        yield receiver


def told_by(log: Path, count: int) -> list[Span]:
    """Return the spans that OtelTap has written down, once there are so many."""

    def lines() -> list[str]:
        return [
            line for line in log.read_text().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")
        ]

    until(lambda: len(lines()) >= count)
    spans = ",".join(lines())
    made = from_json_line(f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}')
    return list(made.resource_spans[0].scope_spans[0].spans)


def test_oteltap_tells_every_span_that_was_sent(oteltap_receiver: Receiver, oteltap_folder: Path) -> None:
    assert deliver(oteltap_receiver, "otlp-http", "none", 500) == Result(Verdict.DELIVERED)
    told = sorted(told_by(oteltap_folder / "log", 500), key=lambda span: span.start_time_unix_nano)
    assert told == list(traces(500).resource_spans[0].scope_spans[0].spans)


@pytest.mark.parametrize(
    ("kind", "compression", "advice"), [("otlp-http", "gzip", "--compression none"), ("otlp-http-json", "none", "")]
)
def test_what_oteltap_cannot_read_is_held_and_the_operator_is_told(
    oteltap_receiver: Receiver, kind: str, compression: str, advice: str
) -> None:
    result = deliver(oteltap_receiver, kind, compression, 5)
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)
    assert advice in result.message


# Its classes are OpenTelemetry's own reading of OTLP's JSON, without protobuf.
READ_AND_WRITE = """
import sys
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest
for line in sys.stdin:
    print(ExportTraceServiceRequest.from_json(line).to_json())
"""


def test_opentelemetry_proto_json_reads_what_we_write_and_we_what_it_writes() -> None:
    python = peer("python")
    has_it = subprocess.run([python, "-Ic", "import opentelemetry.proto_json"], capture_output=True, check=False)
    if has_it.returncode:
        pytest.skip("needs opentelemetry-proto-json (make peers)")
    message = traces(50)
    special = message.resource_spans[0].scope_spans[0].spans[6]
    special.attributes.add(key="list").value.array_value.values.add(bool_value=True)
    special.attributes.add(key="empty").value.array_value.SetInParent()
    special.attributes.add(key="map").value.kvlist_value.values.add(key="ünï").value.double_value = 0.5
    special.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    special.attributes.add(key="least").value.int_value = -(2**63)
    special.events.add(name="event", time_unix_nano=2**64 - 1).attributes.add(key="e").value.string_value = ""
    special.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)), trace_state="a=b")
    special.trace_state = "ot=th:8"
    ours = to_json_line(message)
    done = subprocess.run([python, "-Ic", READ_AND_WRITE], input=ours, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert from_json_line(done.stdout) == message
