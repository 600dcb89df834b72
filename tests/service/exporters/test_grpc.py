"""OTLP/gRPC against a backend that plays every status of the specification."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.status_pb2 import Status

import ringbuf
from drain.exporters.judge import OPERATORS, RETRIED
from drain.exporters.make import make_exporter
from drain.exporters.otlp_grpc import LONGEST_REPLY, OtlpGrpcExporter
from drain.exporters.protocol import Result, Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import GrpcAnswer, OtlpGrpcServer, partial_success, with_retry_info
from tests.ports import free_ports
from tests.waiting import SECONDS, until

from .batches import request, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRYABLE = RETRIED & {code.name for code in grpc.StatusCode}
FINAL = {code.name for code in grpc.StatusCode} - RETRYABLE - OPERATORS - {"OK"}


@pytest.fixture
def server() -> Iterator[OtlpGrpcServer]:
    with OtlpGrpcServer() as running:
        yield running


def outcome(
    server: OtlpGrpcServer, answer: GrpcAnswer, settings: OtlpSettings | None = None, *, spans: int = 3
) -> Result:
    """Return what one attempt comes to, at a backend that has taken a batch before; it may cause no second call."""
    exporter = OtlpGrpcExporter(server.url, settings or OtlpSettings())
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    before = len(server.requests)
    server.play(answer)
    try:
        return exporter.export(request(spans))
    finally:
        exporter.close()
        assert len(server.requests) == before + 1


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_batch_arrives_with_every_span(server: OtlpGrpcServer, compression: str) -> None:
    exporter = OtlpGrpcExporter(server.url, OtlpSettings(compression=compression, headers={"api-key": "s3cret"}))
    assert exporter.export(request(5)) == Result(Verdict.DELIVERED)
    exporter.close()
    (received,) = server.requests
    assert list(received.message.resource_spans) == list(traces(5).resource_spans)
    assert received.headers["api-key"] == "s3cret"
    assert received.headers["user-agent"].startswith(f"OTel-OTLP-Exporter-ringbuf/{ringbuf.__version__} (Python) ")


def test_a_batch_in_json_is_translated(server: OtlpGrpcServer) -> None:
    exporter = OtlpGrpcExporter(server.url, OtlpSettings())
    assert exporter.export(request(4, "json")).verdict is Verdict.DELIVERED
    exporter.close()
    assert list(server.requests[0].message.resource_spans) == list(traces(4).resource_spans)


@pytest.mark.parametrize("name", sorted(RETRYABLE))
def test_the_retryable_codes_are_retried(server: OtlpGrpcServer, name: str) -> None:
    result = outcome(server, GrpcAnswer(grpc.StatusCode[name], "busy"))
    assert result == Result(Verdict.RETRY, message=f"gRPC {name}: busy")


@pytest.mark.parametrize("name", sorted(FINAL))
def test_every_other_code_is_final(server: OtlpGrpcServer, name: str) -> None:
    result = outcome(server, GrpcAnswer(grpc.StatusCode[name], "no"), spans=1)
    assert result == Result(Verdict.REFUSED, message=f"gRPC {name}: no")


@pytest.mark.parametrize(("seconds"), [0.0, 2.5, 3600.0])
@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_retry_info_is_handed_on_and_makes_exhaustion_retryable(
    server: OtlpGrpcServer, code: grpc.StatusCode, seconds: float
) -> None:
    result = outcome(server, with_retry_info(code, seconds))
    assert result == Result(Verdict.RETRY, message=f"gRPC {code.name}: slow down", retry_after=seconds)


@pytest.mark.parametrize("details", [b"\xff\xff", Status(message="no details").SerializeToString()])
def test_exhaustion_without_retry_info_is_retried(server: OtlpGrpcServer, details: bytes) -> None:
    answer = GrpcAnswer(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", trailers=(("grpc-status-details-bin", details),))
    assert outcome(server, answer) == Result(Verdict.RETRY, message="gRPC RESOURCE_EXHAUSTED: quota")


def test_a_request_beyond_the_servers_limit_asks_for_smaller_ones() -> None:
    with OtlpGrpcServer(options=(("grpc.max_receive_message_length", 1000),)) as server:
        exporter = OtlpGrpcExporter(server.url, OtlpSettings())
        assert exporter.export(request(100)).verdict is Verdict.TOO_LARGE
        assert exporter.export(request(1)).verdict is Verdict.DELIVERED
        exporter.close()


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "gRPC message exceeds maximum size 4: 5"),
        (grpc.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
    ],
    ids=["grpc-go", "grpc-java", "tonic"],
)
def test_each_servers_words_for_too_large_are_known(
    server: OtlpGrpcServer, code: grpc.StatusCode, details: str
) -> None:
    assert outcome(server, GrpcAnswer(code, details)).verdict is Verdict.TOO_LARGE


def test_partial_success_is_delivered_with_its_count_and_message(server: OtlpGrpcServer) -> None:
    result = outcome(server, GrpcAnswer(reply=partial_success(2, "too old")))
    assert result == Result(Verdict.DELIVERED, rejected=2, message="too old")


def test_a_reply_that_is_not_otlp_leaves_the_batch_delivered(server: OtlpGrpcServer) -> None:
    result = outcome(server, GrpcAnswer(reply=b"\xff\xff"))
    assert result == Result(Verdict.DELIVERED, message="accepted, with a reply that is not OTLP (application/grpc)")


def test_a_reply_beyond_the_bound_is_not_read_and_leaves_the_batch_delivered(server: OtlpGrpcServer) -> None:
    assert outcome(server, GrpcAnswer(reply=bytes(LONGEST_REPLY + 1))).verdict is Verdict.DELIVERED


def test_the_timeout_ends_an_attempt(server: OtlpGrpcServer) -> None:
    server.play(GrpcAnswer(silent=True))
    exporter = OtlpGrpcExporter(server.url, OtlpSettings(timeout_seconds=0.5))
    result = exporter.export(request())
    exporter.close()
    assert (result.verdict, result.is_timeout) == (Verdict.RETRY, True)
    assert "DEADLINE_EXCEEDED" in result.message


def test_a_backend_that_is_down_is_retried_and_found_again_when_it_is_back() -> None:
    with OtlpGrpcServer(free_ports(1)[0]) as first:
        exporter = OtlpGrpcExporter(first.url, OtlpSettings())
        assert exporter.export(request()).verdict is Verdict.DELIVERED
    assert exporter.export(request()).verdict is Verdict.RETRY
    with OtlpGrpcServer(first.port) as second:
        verdicts: list[Verdict] = []

        def attempt() -> None:
            verdicts.append(exporter.export(request()).verdict)
            time.sleep(0.1)

        until(lambda: Verdict.DELIVERED in verdicts, attempt)  # gRPC leaves the backend alone for a second or two
        assert {*verdicts[:-1]} <= {Verdict.RETRY}
        assert len(second.requests) == 1
    exporter.close()


def test_close_ends_attempts_that_run_and_later_ones(server: OtlpGrpcServer) -> None:
    server.play(GrpcAnswer(silent=True))
    exporter = OtlpGrpcExporter(server.url, OtlpSettings(timeout_seconds=30))
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(exporter.export(request())))
    thread.start()
    until(lambda: server.requests)
    exporter.close()
    thread.join(SECONDS)
    assert [result.verdict for result in results] == [Verdict.RETRY]
    assert exporter.export(request()) == Result(Verdict.RETRY, message="the exporter is closed")


def test_an_endpoint_without_scheme_is_plain_only_when_insecure(server: OtlpGrpcServer) -> None:
    endpoint = server.url.removeprefix("http://")
    exporter = make_exporter("otlp-grpc", endpoint=endpoint, otlp=OtlpSettings(insecure=True))
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    exporter.close()
    exporter = make_exporter("otlp-grpc", endpoint=endpoint, otlp=OtlpSettings(timeout_seconds=2))
    assert exporter.export(request()).verdict is Verdict.RETRY
    exporter.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("endpoint", "settings", "reason"),
    [
        ("http://host:4317/v1/traces", OtlpSettings(), "must not have a path"),
        ("http://", OtlpSettings(), "is not a URL"),
        ("http://user@host", OtlpSettings(), "OTEL_EXPORTER_OTLP_HEADERS"),
        ("two words", OtlpSettings(), "no gRPC target"),
        ("http://host", OtlpSettings(compression="zstd"), "choose gzip or none"),
        ("http://host", OtlpSettings(headers={"grpc-x": "1"}), "no such metadata key"),
        ("http://host", OtlpSettings(headers={"x-bin": "1"}), "no such metadata key"),
        ("http://host", OtlpSettings(headers={"a": "é"}), "printable ASCII"),
    ],
)
def test_what_cannot_work_is_refused_when_the_exporter_is_made(
    endpoint: str, settings: OtlpSettings, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        make_exporter("otlp-grpc", endpoint=endpoint, otlp=settings)
