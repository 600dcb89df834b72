"""What an operator has to mend is held and told, over both protocols: no span is lost for a wrong password or path."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.delivery.halves import halves
from drain.exporters.judge import Judge
from drain.exporters.make import make_exporter
from drain.exporters.otlp_reply import says_too_large
from drain.exporters.protocol import Result, Verdict
from drain.settings.otlp_environment import OtlpSettings, parse_codes
from tests.otlp_server import GrpcAnswer, OtlpGrpcServer, OtlpHandler, OtlpHttpServer, refusal, reply, success

from .batches import request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request

HTTP_OPERATORS = [301, 308, 401, 403, 404, 407]
GRPC_OPERATORS = ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"]


@pytest.fixture
def http() -> Iterator[OtlpHttpServer]:
    with OtlpHttpServer() as server:
        yield server


def exporter_to(server: OtlpHttpServer | OtlpGrpcServer, **settings: Any) -> Exporter:
    kind = "otlp-grpc" if isinstance(server, OtlpGrpcServer) else "otlp-http"
    return make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(**settings))


def attempts(server: OtlpHttpServer | OtlpGrpcServer, times: int, **settings: Any) -> list[Result]:
    exporter = exporter_to(server, **settings)
    try:
        return [exporter.export(request()) for _ in range(times)]
    finally:
        exporter.close()


@pytest.mark.parametrize("status", HTTP_OPERATORS)
def test_over_http_it_is_held_before_and_after_the_first_delivery(http: OtlpHttpServer, status: int) -> None:
    http.play(refusal(status, "no"), success(), refusal(status, "no"))
    before, taken, after = attempts(http, 3)
    assert taken.verdict is Verdict.DELIVERED
    for held in (before, after):
        assert (held.verdict, held.needs_operator) == (Verdict.RETRY, True)


@pytest.mark.parametrize("name", GRPC_OPERATORS)
def test_over_grpc_it_is_held_before_and_after_the_first_delivery(name: str) -> None:
    with OtlpGrpcServer() as server:
        answer = GrpcAnswer(grpc.StatusCode[name], "no")
        server.play(answer, GrpcAnswer(), answer)
        before, taken, after = attempts(server, 3)
    assert taken.verdict is Verdict.DELIVERED
    for held in (before, after):
        assert (held.verdict, held.needs_operator) == (Verdict.RETRY, True)
        assert "; " in held.message  # with what to do


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_without_hold_it_is_refused(http: OtlpHttpServer, status: int) -> None:
    http.play(refusal(status, "no"))
    assert attempts(http, 1, hold=False)[0].verdict is Verdict.REFUSED


def test_a_proxys_407_is_never_final(http: OtlpHttpServer) -> None:
    http.play(reply(407))
    settings = {"hold": False, "refuse_codes": parse_codes("407")}
    assert attempts(http, 1, **settings)[0].verdict is Verdict.RETRY


@pytest.mark.parametrize("status", [400, 405, 415, 422, 500])
def test_before_the_first_delivery_a_refusal_is_held(http: OtlpHttpServer, status: int) -> None:
    http.play(refusal(status, "no"), success(), refusal(status, "no"))
    before, _, after = attempts(http, 3)
    assert (before.verdict, before.needs_operator) == (Verdict.RETRY, True)
    assert after.verdict is (Verdict.TOO_LARGE if status in {400, 422} else Verdict.REFUSED)


def test_a_batch_that_is_refused_before_the_first_delivery_is_tried_in_halves(http: OtlpHttpServer) -> None:
    http.play(*[refusal(400, "span 1: bad attribute")] * 3)
    results = attempts(http, 3)
    assert {result.verdict for result in results} == {Verdict.RETRY}
    assert [result.may_be_too_large for result in results] == [False, False, True]
    assert all(result.needs_operator for result in results)


def test_codes_can_be_made_retryable_and_final(http: OtlpHttpServer) -> None:
    http.play(success(), refusal(500, "no"), refusal(503, "no"))
    settings = {"retry_codes": parse_codes("500"), "refuse_codes": parse_codes("503")}
    verdicts = [result.verdict for result in attempts(http, 3, **settings)]
    assert verdicts == [Verdict.DELIVERED, Verdict.RETRY, Verdict.REFUSED]
    with OtlpGrpcServer() as server:
        server.play(GrpcAnswer(), GrpcAnswer(grpc.StatusCode.INTERNAL), GrpcAnswer(grpc.StatusCode.RESOURCE_EXHAUSTED))
        settings = {"retry_codes": parse_codes("internal"), "refuse_codes": parse_codes("RESOURCE_EXHAUSTED")}
        verdicts = [result.verdict for result in attempts(server, 3, **settings)]
    assert verdicts == [Verdict.DELIVERED, Verdict.RETRY, Verdict.REFUSED]


@pytest.mark.parametrize("text", ["6000", "200", "TIMEOUT", "503;504"])
def test_a_code_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is neither"):
        parse_codes(text)


PAGE = b"<!DOCTYPE html><html><title>Please log in</title></html>"
PAGES = [(PAGE, ""), (b"hi", "text/html; charset=utf-8"), (PAGE, "text/plain")]


@pytest.mark.parametrize(
    ("body", "content_type"), [(PAGE, ""), (b"hi", "text/html; charset=utf-8"), (PAGE, "text/plain")]
)
def test_a_page_for_people_is_no_delivery(http: OtlpHttpServer, body: bytes, content_type: str) -> None:
    http.play(reply(200, body, {"Content-Type": content_type} if content_type else {}))
    (result,) = attempts(http, 1)
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)
    assert "no OTLP backend says so" in result.message


@pytest.mark.parametrize(
    ("status", "settings", "hint"),
    [
        (415, {}, "try --compression none"),
        (415, {"compression": "none"}, "HTTP 415: no"),
        (404, {}, "/v1/traces"),
        (401, {}, "OTEL_EXPORTER_OTLP_HEADERS"),
        (407, {}, "http://USER:PASSWORD@HOST:PORT"),
        (302, {}, "--endpoint"),
    ],
)
def test_the_log_says_what_to_do(http: OtlpHttpServer, status: int, settings: dict[str, Any], hint: str) -> None:
    http.play(refusal(status, "no"))
    message = attempts(http, 1, **settings)[0].message
    assert hint in message
    assert ("; " in message) is (hint != "HTTP 415: no")


def test_http_to_a_tls_port_says_so(http: OtlpHttpServer) -> None:
    http.play(reply(400, b"Client sent an HTTP request to an HTTPS server.\n"))
    assert attempts(http, 1)[0].message.endswith("write the endpoint with https://")


def test_tls_to_a_plain_port_says_so(http: OtlpHttpServer) -> None:
    exporter = make_exporter("otlp-http", endpoint=http.url.replace("http:", "https:"), otlp=OtlpSettings())
    result = exporter.export(request())
    exporter.close()
    assert result.verdict is Verdict.RETRY
    assert "http://" in result.message


def test_http_to_a_server_that_answers_with_a_tls_alert_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def alert() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # a socket closed with unread data takes the alert back by a reset
                    pass

        thread = threading.Thread(target=alert)
        thread.start()
        exporter = make_exporter(
            "otlp-http", endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", otlp=OtlpSettings()
        )
        result = exporter.export(request())
        thread.join(120)
        exporter.close()
    assert "https://" in result.message


def test_grpc_to_a_port_of_http_says_so(http: OtlpHttpServer) -> None:
    exporter = make_exporter("otlp-grpc", endpoint=http.url, otlp=OtlpSettings(timeout_seconds=60))
    result = exporter.export(request())
    exporter.close()
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)
    assert "otlp-http" in result.message


TOO_LARGE = [
    "grpc: received message larger than max (5 vs. 4)",
    "grpc: received message after decompression larger than max 4194304",
    "CLIENT: Received message larger than max (5 vs. 4)",
    "gRPC message exceeds maximum size 4: 5",
    "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
    "http: request body too large",
    "413 Request Entity Too Large",
    "batch size exceeds ingestion limit",
    "Request body size exceeds the limit",
    "payload size of 12345678 bytes exceeded",
    "message size 5 exceeds 4",
    "the request is too large",
    "Content Too Large",
    "too many spans in request",
]
NOT_TOO_LARGE = [
    "rate limit exceeded",
    "request rate exceeds limit",
    "ingestion rate limit (local: 15000000 bytes) exhausted while adding 9999 bytes",
    "quota exceeded for project",
    "too many requests",
    "data refused due to high memory usage",
    "max size of trace (5000000) exceeded",
    "attribute exceeds",
    "",
]


@pytest.mark.parametrize("code", ["400", "413", "429", "500", "503", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "UNKNOWN"])
@pytest.mark.parametrize("text", TOO_LARGE)
def test_too_large_is_heard_in_many_words_under_any_code(code: str, text: str) -> None:
    judge = Judge(OtlpSettings(), "none")
    assert judge.refused(code, text, f"{code}: {text}", request()).verdict is Verdict.TOO_LARGE


@pytest.mark.parametrize("text", NOT_TOO_LARGE)
def test_what_is_about_a_rate_is_not_about_a_size(text: str) -> None:
    assert not says_too_large(text)


@pytest.mark.parametrize("code", ["429", "RESOURCE_EXHAUSTED"])
def test_a_batch_that_is_throttled_again_and_again_in_the_same_words_is_tried_in_halves(code: str) -> None:
    judge = Judge(OtlpSettings(), "none")
    results = [judge.refused(code, "no", "no", request()) for _ in range(3)]
    assert {result.verdict for result in results} == {Verdict.RETRY}, "it may as well be throttling"
    assert [result.may_be_too_large for result in results] == [False, False, True]
    for times in range(6):
        assert not judge.refused(code, "no", "no", request(1)).may_be_too_large
        assert not judge.refused(code, "no", f"no {times}", request(4)).may_be_too_large
        assert not judge.refused(code, "no", "no", request(5), retry_after=1.0).may_be_too_large


def spans_in(request: Request) -> list[Span]:
    (resource,) = TracesData.FromString(request.body).resource_spans
    return list(resource.scope_spans[0].spans)


def test_one_span_that_is_refused_costs_no_other_its_delivery(http: OtlpHttpServer) -> None:
    def refuse_seven(handler: OtlpHandler) -> None:
        poison = any(span.trace_id == (7).to_bytes(16, "big") for span in http.requests[-1].spans)
        (refusal(400, "span 7: bad double") if poison else success())(handler)

    http.play(success(), *[refuse_seven] * 100)
    exporter = exporter_to(http)
    exporter.export(request(1))
    waiting, refused, attempts_made = [request(1000)], [], 0
    while waiting:
        part = waiting.pop()
        attempts_made += 1
        match exporter.export(part).verdict:
            case Verdict.TOO_LARGE:
                waiting += halves(part)
            case Verdict.REFUSED:
                refused += spans_in(part)
            case verdict:
                assert verdict is Verdict.DELIVERED
    exporter.close()
    assert [span.trace_id for span in refused] == [(7).to_bytes(16, "big")]
    assert attempts_made <= 2 * 10 + 1


def test_halvings_have_a_bound_in_a_minute() -> None:
    now = 0.0
    judge = Judge(OtlpSettings(hold=False), "none", lambda: now)
    for _ in range(2):
        verdicts = [judge.refused("400", "no", f"no {number}", request()).verdict for number in range(300)]
        assert verdicts == [Verdict.TOO_LARGE] * 200 + [Verdict.REFUSED] * 100
        now += 60


@pytest.mark.parametrize("code", ["405", "500", "INTERNAL"])
def test_a_refusal_that_is_not_about_spans_is_not_tried_in_halves(code: str) -> None:
    judge = Judge(OtlpSettings(hold=False), "none")
    assert judge.refused(code, "no", "no", request()).verdict is Verdict.REFUSED
