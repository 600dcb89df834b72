"""OTLP/HTTP against a backend that plays every answer of the specification, and worse."""

from __future__ import annotations

import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringbuf
from drain.exporters.make import make_exporter
from drain.exporters.measured import MeasuredExporter
from drain.exporters.otlp_http import LONGEST_REPLY, OtlpHttpExporter
from drain.exporters.otlp_reply import delivered, error_text, one_line, retry_after, retry_info
from drain.exporters.protocol import Result, Verdict
from drain.otlp.json_lines import to_json_line
from drain.otlp.request import Request
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import (
    OtlpHttpServer,
    disconnect,
    drip,
    endless,
    garbage,
    half_close,
    refusal,
    reply,
    reset,
    silent,
    success,
    truncated,
)
from tests.ports import free_ports
from tests.waiting import until

from .batches import request, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.otlp.request import Encoding

NOW = datetime(2026, 11, 22, 15, 0, 0, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}
# What is of interest to nobody but the authors of this: classes, tuples, addresses of objects.
INTERNAL = re.compile(r"Watched|Connection\(|Pool\(|^\(|object at|0x[0-9a-f]{6}")


@pytest.fixture
def server() -> Iterator[OtlpHttpServer]:
    with OtlpHttpServer() as running:
        yield running


def exporter_to(url: str, settings: OtlpSettings | None = None, encoding: Encoding = "protobuf") -> OtlpHttpExporter:
    return OtlpHttpExporter(url + "/v1/traces", encoding, settings or OtlpSettings(timeout_seconds=10))


def outcome(
    server: OtlpHttpServer, play: Callable[..., None], settings: OtlpSettings | None = None, *, spans: int = 3
) -> Result:
    """Return what one attempt against this play comes to, at a backend that has taken a batch before.

    No attempt may cause a second request.
    """
    exporter = exporter_to(server.url, settings)
    server.play(success(), play)
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    before = len(server.requests)
    try:
        return exporter.export(request(spans))
    finally:
        exporter.close()
        assert len(server.requests) == before + 1


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_batch_arrives_with_every_span_in_each_encoding_and_compression(
    server: OtlpHttpServer, encoding: Encoding, compression: str
) -> None:
    exporter = exporter_to(server.url, OtlpSettings(compression=compression), encoding)
    assert exporter.export(request(5, encoding)) == Result(Verdict.DELIVERED)
    exporter.close()
    (received,) = server.requests
    assert list(received.message.resource_spans) == list(traces(5).resource_spans)
    assert received.path == "/v1/traces"
    assert received.headers["content-type"] == f"application/{'x-protobuf' if encoding == 'protobuf' else 'json'}"
    assert received.headers.get("content-encoding") == {"none": None}.get(compression, compression)
    assert received.headers["user-agent"] == f"OTel-OTLP-Exporter-ringbuf/{ringbuf.__version__} (Python)"


@pytest.mark.parametrize(("sent", "spoken"), [("json", "protobuf"), ("protobuf", "json")])
def test_a_batch_of_the_other_encoding_is_translated(server: OtlpHttpServer, sent: Encoding, spoken: Encoding) -> None:
    exporter = exporter_to(server.url, encoding=spoken)
    assert exporter.export(request(4, sent)).verdict is Verdict.DELIVERED
    exporter.close()
    assert list(server.requests[0].message.resource_spans) == list(traces(4).resource_spans)


def test_compression_is_gzip_unless_said_otherwise(server: OtlpHttpServer) -> None:
    outcome(server, success())
    assert server.requests[0].headers["content-encoding"] == "gzip"


def test_batches_share_a_kept_alive_connection(server: OtlpHttpServer) -> None:
    exporter = exporter_to(server.url)
    server.play(success(), refusal(405, "bad"), reply(503), success())
    verdicts = [exporter.export(request()).verdict for _ in range(4)]
    exporter.close()
    assert verdicts == [Verdict.DELIVERED, Verdict.REFUSED, Verdict.RETRY, Verdict.DELIVERED]
    assert len(server.connections) == 1


def test_headers_of_the_user_are_sent_and_hide_from_logs(server: OtlpHttpServer) -> None:
    settings = OtlpSettings(headers={"api-key": "s3cret", "user-agent": "mine/1"})
    assert "s3cret" not in repr(settings)
    outcome(server, success(), settings)
    assert server.requests[0].headers["api-key"] == "s3cret"
    assert server.requests[0].headers["user-agent"] == "mine/1"


def test_the_query_of_an_endpoint_is_sent_and_hides_from_logs(server: OtlpHttpServer) -> None:
    exporter = OtlpHttpExporter(f"{server.url}/in?key=s3cret", "protobuf", OtlpSettings())
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    exporter.close()
    assert server.requests[0].path == "/in?key=s3cret"
    assert exporter.endpoint == f"{server.url}/in"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_the_four_retryable_codes_are_retried(server: OtlpHttpServer, status: int) -> None:
    assert outcome(server, refusal(status, "busy")) == Result(Verdict.RETRY, message=f"HTTP {status}: busy")


@pytest.mark.parametrize("status", [400, 402, 405, 408, 409, 415, 418, 422, 425, 500, 501, 505, 507, 599])
def test_every_other_error_is_final(server: OtlpHttpServer, status: int) -> None:
    assert outcome(server, refusal(status, "no"), spans=1) == Result(Verdict.REFUSED, message=f"HTTP {status}: no")


def test_413_and_the_collectors_400_for_it_ask_for_smaller_requests(server: OtlpHttpServer) -> None:
    assert outcome(server, reply(413)).verdict is Verdict.TOO_LARGE
    assert outcome(server, refusal(400, "http: request body too large")).verdict is Verdict.TOO_LARGE


def test_a_413_that_comes_before_the_request_was_read_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse_early() -> None:
            connection, _ = listener.accept()
            with connection:  # closed with unread data: the kernel resets it
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse_early, daemon=True)
        thread.start()
        exporter = exporter_to(f"http://127.0.0.1:{listener.getsockname()[1]}", OtlpSettings(compression="none"))
        result = exporter.export(Request(bytes(8 << 20), 1, "protobuf"))
        thread.join(120)
        exporter.close()
    assert result.verdict is Verdict.TOO_LARGE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: OtlpHttpServer, status: int) -> None:
    result = outcome(server, reply(status, headers={"Location": f"{server.url}/elsewhere"}))
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)
    assert f"HTTP {status}, a redirect to {server.url}/elsewhere" in result.message


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b'{"code": 3, "message": "bad json"}', JSON, ": bad json"),
        (b"plain words\nand more", {"Content-Type": "text/plain; charset=utf-8"}, ": plain words and more"),
        (b"\x1b[2J", {"Content-Type": "text/plain"}, ": [2J"),
        (b"<html>", {"Content-Type": "text/html"}, ""),
        (b"<html><head><title>413 Too\nbig</title></head>", {"Content-Type": "text/html"}, ": 413 Too"),
        (b"\r\n  \nClient sent an HTTP request\nx", {}, ": Client sent an HTTP request"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', JSON, ": field required"),
        (b'{"error": {"code": 16, "message": "no token"}}', {"Content-Type": "application/problem+json"}, ": no token"),
        (b'{"message": ', JSON, ': {"message":'),
        (b"say so in text", {"Content-Type": "application/x-protobuf"}, ": say so in text"),
        (b"\x00\x01\x02\xfe", {}, ""),
        (b"\xff\xff", {"Content-Type": "application/x-protobuf"}, ""),
        (b"[" * 60000, JSON, ": " + "[" * 245 + "…"),
        (b"[]", JSON, ""),
        (b"", {}, ""),
    ],
)
def test_the_reason_of_a_refusal_is_told_in_one_printable_line(
    server: OtlpHttpServer, body: bytes, headers: dict[str, str], text: str
) -> None:
    assert outcome(server, reply(400, body, headers), spans=1) == Result(Verdict.REFUSED, message=f"HTTP 400{text}")


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_handed_on(server: OtlpHttpServer, status: int) -> None:
    assert outcome(server, reply(status, headers={"Retry-After": "17"})).retry_after == 17.0


def test_retry_after_as_a_date_is_handed_on(server: OtlpHttpServer) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    wait = outcome(server, reply(503, headers={"Retry-After": date})).retry_after
    assert wait is not None
    assert 1800 < wait <= 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 5 ", 5.0),
        ("Sun, 22 Nov 2026 14:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 15:01:00 GMT", 60.0),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Sun, 22 Nov 2026 15:01:00", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_strictly(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_partial_success_is_delivered_with_its_count_and_message(server: OtlpHttpServer) -> None:
    assert outcome(server, success(2, "too old")) == Result(Verdict.DELIVERED, rejected=2, message="too old")


def test_partial_success_without_rejected_spans_is_a_warning(server: OtlpHttpServer) -> None:
    assert outcome(server, success(0, "deprecated field")) == Result(Verdict.DELIVERED, message="deprecated field")


def test_partial_success_in_json_is_read(server: OtlpHttpServer) -> None:
    body = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "no"}, "new": 1}'
    assert outcome(server, reply(200, body, JSON)) == Result(Verdict.DELIVERED, rejected=1, message="no")


@pytest.mark.parametrize(("told", "counted"), [(2**62, 3), (-5, 0)])
def test_no_more_spans_are_rejected_than_were_sent(server: OtlpHttpServer, told: int, counted: int) -> None:
    assert outcome(server, success(told, "?")).rejected == counted


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_empty_reply_is_full_success(server: OtlpHttpServer, status: int) -> None:
    assert outcome(server, reply(status)) == Result(Verdict.DELIVERED)


def test_a_reply_that_is_not_otlp_leaves_the_batch_delivered(server: OtlpHttpServer) -> None:
    result = outcome(server, reply(200, b"\xff\xff", {"Content-Type": "text/plain; charset=utf-8"}))
    assert result == Result(Verdict.DELIVERED, message="accepted, with a reply that is not OTLP (text/plain)")


@pytest.mark.parametrize("play", [disconnect, reset, half_close, garbage, truncated(200)])
def test_an_answer_that_breaks_off_is_retried(server: OtlpHttpServer, play: Callable[..., None]) -> None:
    result = outcome(server, play)
    assert result.verdict is Verdict.RETRY
    assert result.message
    assert not INTERNAL.search(result.message)


def test_a_refusal_that_breaks_off_is_a_refusal(server: OtlpHttpServer) -> None:
    assert outcome(server, truncated(400), spans=1) == Result(Verdict.REFUSED, message="HTTP 400")


def test_a_backend_that_is_down_is_retried_and_found_again_when_it_is_back() -> None:
    with OtlpHttpServer(free_ports(1)[0]) as first:
        exporter = exporter_to(first.url)
        assert exporter.export(request()).verdict is Verdict.DELIVERED
    result = exporter.export(request())
    assert result.verdict is Verdict.RETRY
    assert f"127.0.0.1:{first.port}: " in result.message
    assert not INTERNAL.search(result.message)
    with OtlpHttpServer(first.port) as second:
        assert exporter.export(request()).verdict is Verdict.DELIVERED
        assert len(second.requests) == 1
    exporter.close()


def test_a_host_name_that_does_not_resolve_is_retried() -> None:
    exporter = exporter_to("http://no-such-host.invalid:4318")
    assert exporter.export(request()).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    "play",
    [
        silent,
        drip(b"HTTP/1.1 200 OK\r\nX-Drip: "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"),
        drip(b"HTTP/1.0 200 OK\r\n\r\n"),  # whose connection the client lets go before it reads the body
    ],
    ids=["silent", "dripping header", "dripping body", "dripping body without length"],
)
def test_the_timeout_ends_the_whole_attempt_however_the_server_drips(
    server: OtlpHttpServer, play: Callable[..., None]
) -> None:
    server.otherwise = play
    exporter = exporter_to(server.url, OtlpSettings(timeout_seconds=0.5))
    results: list[Result] = []
    expected = Result(Verdict.RETRY, message="no complete answer within 0.5 s")
    until(lambda: expected in results, lambda: results.append(exporter.export(request())))  # it is to be sent in time
    exporter.close()
    assert {result.verdict for result in results} == {Verdict.RETRY}
    assert len(server.requests) <= len(results)


def test_a_server_that_does_not_read_is_ended_by_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel takes the connection and some of the bytes
        settings = OtlpSettings(timeout_seconds=0.3, compression="none")
        exporter = exporter_to(f"http://127.0.0.1:{deaf.getsockname()[1]}", settings)
        result = exporter.export(Request(bytes(64 << 20), 1, "protobuf"))
        exporter.close()
    assert result.verdict is Verdict.RETRY


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, Verdict.DELIVERED), (400, Verdict.REFUSED), (503, Verdict.RETRY)]
)
def test_an_endless_reply_is_read_to_its_bound_only(server: OtlpHttpServer, status: int, verdict: Verdict) -> None:
    assert outcome(server, endless(status), spans=1).verdict is verdict


def test_a_reply_of_just_the_bound_is_read_whole(server: OtlpHttpServer) -> None:
    body = b'{"partialSuccess": {"errorMessage": "seen"}}'.ljust(LONGEST_REPLY)
    assert outcome(server, reply(200, body, JSON)).message == "seen"


def test_a_closed_exporter_still_answers(server: OtlpHttpServer) -> None:
    exporter = exporter_to(server.url)
    exporter.close()
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    exporter.close()


def test_several_threads_export_at_once(server: OtlpHttpServer) -> None:
    exporter = exporter_to(server.url)
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda: results.extend(exporter.export(request()) for _ in range(20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    exporter.close()
    assert results == [Result(Verdict.DELIVERED)] * 80
    assert len(server.requests) == 80


def test_the_proxy_of_the_environment_is_used(server: OtlpHttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    exporter = exporter_to("http://collector.invalid:4318")
    assert exporter.export(request()).verdict is Verdict.DELIVERED
    exporter.close()
    assert server.requests[0].path == "http://collector.invalid:4318/v1/traces"
    monkeypatch.setenv("no_proxy", "collector.invalid")
    direct = exporter_to("http://collector.invalid:4318")
    assert direct.export(request()).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    ("endpoint", "settings", "reason"),
    [
        ("localhost:4318", OtlpSettings(), "needs the scheme"),
        ("ftp://localhost", OtlpSettings(), "needs the scheme"),
        ("http://", OtlpSettings(), "is not a URL"),
        ("http://host:99999", OtlpSettings(), "is not a URL"),
        ("http://ho st", OtlpSettings(), "is not a URL"),
        ("http://user:pass@host", OtlpSettings(), "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://host", OtlpSettings(compression="lz4"), "choose one of none, gzip, zstd"),
        ("http://host", OtlpSettings(headers={"a b": "c"}), "is not a token"),
        ("http://host", OtlpSettings(headers={"a": "b\r\nc: d"}), "printable ASCII"),
        ("http://host", OtlpSettings(headers={"Content-Length": "1"}), "sets it itself"),
    ],
)
def test_what_cannot_work_is_refused_when_the_exporter_is_made(
    endpoint: str, settings: OtlpSettings, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        make_exporter("otlp-http", endpoint=endpoint, otlp=settings)


def test_values_that_are_left_out_of_json_are_counted_once_they_are_delivered(server: OtlpHttpServer) -> None:
    message = traces(4)
    spans = message.resource_spans[0].scope_spans[0].spans
    spans[0].attributes.add(key="nan").value.double_value = float("nan")
    elements = spans[1].attributes.add(key="list").value.array_value.values
    for number in (1.0, float("inf")):
        elements.add().double_value = number
    left_out = Request(to_json_line(message), 4, "json")
    server.play(reply(503), success(), success())
    settings = OtlpSettings(json_non_finite="omit")
    exporter = MeasuredExporter(make_exporter("otlp-http-json", endpoint=server.url, otlp=settings))
    assert exporter.export(left_out).verdict is Verdict.RETRY
    assert exporter.state().values_left_out == 0
    for _ in range(2):
        assert exporter.export(left_out).verdict is Verdict.DELIVERED
        assert exporter.export(request(4, "json")).verdict is Verdict.DELIVERED
    assert exporter.state().values_left_out == 2 * 2
    exporter.close()


def test_a_proxy_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(ValueError, match="http_proxy"):
        exporter_to("http://collector.invalid:4318")


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="file, console, otlp, otlp-http, otlp-http-json, otlp-grpc"):
        make_exporter("zipkin", otlp=OtlpSettings())


@pytest.mark.parametrize(
    ("protocol", "encoding"), [("http/protobuf", "protobuf"), ("http/json", "json"), ("grpc", "protobuf")]
)
def test_kind_otlp_is_what_the_protocol_says(protocol: str, encoding: str) -> None:
    otlp = OtlpSettings.from_environment({"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    exporter = make_exporter("otlp", otlp=otlp)
    exporter.close()
    port = 4317 if protocol == "grpc" else 4318
    assert exporter.encoding == encoding
    assert exporter.endpoint == f"http://localhost:{port}" + ("" if protocol == "grpc" else "/v1/traces")


@given(st.binary(), st.sampled_from(["application/json", "application/x-protobuf", "text/plain", "application/grpc"]))
def test_no_reply_raises(body: bytes, content_type: str) -> None:
    assert delivered(body, content_type, 3).verdict is Verdict.DELIVERED
    assert isinstance(error_text(body, content_type), str)
    wait = retry_info(body)
    assert wait is None or wait >= 0


@given(st.text())
def test_messages_are_one_bounded_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 256
