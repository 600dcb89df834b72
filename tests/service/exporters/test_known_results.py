"""Of a batch that is to be sent again: whether it is known that the backend has nothing of it."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import pytest

from drain.exporters.otlp_grpc import OtlpGrpcExporter
from drain.exporters.otlp_http import OtlpHttpExporter
from drain.exporters.protocol import Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import (
    GrpcAnswer,
    OtlpGrpcServer,
    OtlpHttpServer,
    disconnect,
    garbage,
    half_close,
    refusal,
    reset,
    silent,
    truncated,
    with_retry_info,
)
from tests.ports import free_ports
from tests.waiting import until

from .batches import request
from .raw_http2 import RawHttp2Server
from .raw_http2 import reset as reset_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.exporters.protocol import Result
    from tests.otlp_server import OtlpHandler

SETTINGS = OtlpSettings(timeout_seconds=10)
IMPATIENT = OtlpSettings(timeout_seconds=0.5)
ENVOY = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
Code = grpc.StatusCode


def http(url: str, settings: OtlpSettings = SETTINGS) -> Result:
    with closing(OtlpHttpExporter(f"{url}/v1/traces", "protobuf", settings)) as exporter:
        result = exporter.export(request(2))
    assert result.verdict is Verdict.RETRY
    return result


def over_grpc(url: str, settings: OtlpSettings = SETTINGS) -> Result:
    with closing(OtlpGrpcExporter(url, settings)) as exporter:
        result = exporter.export(request(2))
    assert result.verdict is Verdict.RETRY
    return result


@pytest.mark.parametrize(
    ("play", "settings"),
    [
        (disconnect, SETTINGS),
        (reset, SETTINGS),
        (half_close, SETTINGS),
        (garbage, SETTINGS),
        (truncated(), SETTINGS),
        (silent, IMPATIENT),
        (refusal(408, "slow"), SETTINGS),
        (refusal(500, "broken"), SETTINGS),
        (refusal(502, "bad gateway"), SETTINGS),
        (refusal(503, ENVOY), SETTINGS),
        (refusal(504, "gateway timed out"), SETTINGS),
    ],
)
def test_of_a_lost_answer_over_http_it_is_not(play: Callable[[OtlpHandler], None], settings: OtlpSettings) -> None:
    with OtlpHttpServer() as server:
        server.otherwise = play
        results: list[Result] = []
        until(lambda: server.requests, lambda: results.append(http(server.url, settings)))  # the body was sent
        assert not all(result.is_not_taken for result in results)  # the last, unless who answers was held up


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503])
def test_of_a_clear_answer_over_http_it_is(status: int) -> None:
    with OtlpHttpServer() as server:
        server.otherwise = refusal(status, "not now")
        assert http(server.url).is_not_taken


@pytest.mark.parametrize("export", [http, over_grpc])
def test_without_a_connection_it_is(export: Callable[[str, OtlpSettings], Result]) -> None:
    assert export(f"http://127.0.0.1:{free_ports(1)[0]}", SETTINGS).is_not_taken


def test_where_no_connection_comes_about_in_time_it_is() -> None:
    """A listener whose queue is full answers nobody."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        assert http(f"http://127.0.0.1:{listener.getsockname()[1]}", IMPATIENT).is_not_taken


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (GrpcAnswer(Code.UNAVAILABLE, "it may have been the core that says so"), SETTINGS),
        (GrpcAnswer(Code.UNAVAILABLE, "1 of 2 exporters: failed to connect to all addresses"), SETTINGS),
        (GrpcAnswer(Code.DEADLINE_EXCEEDED, "late"), SETTINGS),
        (GrpcAnswer(Code.INTERNAL, "broken"), SETTINGS),
        (GrpcAnswer(silent=True), IMPATIENT),
    ],
)
def test_of_a_lost_answer_over_grpc_it_is_not(answer: GrpcAnswer, settings: OtlpSettings) -> None:
    with OtlpGrpcServer() as server:
        server.play(*[answer] * 100)
        results: list[Result] = []
        until(lambda: server.requests, lambda: results.append(over_grpc(server.url, settings)))
        assert not all(result.is_not_taken for result in results)  # the last, unless who answers was held up


def test_of_a_stream_that_is_reset_it_is_not() -> None:
    with RawHttp2Server(reset_stream(2)) as server:
        assert not over_grpc(server.url).is_not_taken


@pytest.mark.parametrize(
    "answer",
    [
        GrpcAnswer(Code.RESOURCE_EXHAUSTED, "not now"),
        with_retry_info(Code.UNAVAILABLE, 1.0),
        GrpcAnswer(Code.UNAUTHENTICATED, "who is there"),
    ],
)
def test_of_a_clear_answer_over_grpc_it_is(answer: GrpcAnswer) -> None:
    with OtlpGrpcServer() as server:
        server.play(answer)
        assert over_grpc(server.url).is_not_taken
