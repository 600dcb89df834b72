"""A status that gRPC's core made up is no word of the server: the batch is sent again, or in halves, never refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from drain.exporters.otlp_grpc import OtlpGrpcExporter
from drain.exporters.protocol import Verdict
from drain.settings.otlp_environment import OtlpSettings

from .batches import request
from .raw_http2 import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RawHttp2Server,
    frame,
    headers,
    page,
    reset,
    trailers_only,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.exporters.protocol import Result

GRPC = ((":status", "200"), ("content-type", "application/grpc"))
MADE_UP = {
    **{f"reset {code}": reset(code) for code in range(14)},
    **{f"headers, then reset {code}": reset(code, behind_headers=True) for code in (0, 1, 2, 11)},
    **{f"HTTP {status}": page(status) for status in (400, 405, 408, 429, 500, 502, 503, 504, 511, 520)},
    "a page of 200": page(200),
    "a page of 200 that says it is gRPC": page(200, "application/grpc"),
    "a page without body": trailers_only((":status", "200"), ("content-type", "text/html")),
    "trailers without grpc-status": lambda stream: (
        frame(HEADERS, END_HEADERS, stream, headers(*GRPC))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, headers(("x", "y")))
    ),
    "a grpc-status that is no number": trailers_only(*GRPC, ("grpc-status", "abc"), ("grpc-message", "odd")),
    "goaway": lambda _stream: frame(GOAWAY, 0, 0, struct.pack(">II", 0, 2) + b"bye"),
}


def attempt(answer: Callable[[int], bytes], spans: int = 3) -> Result:
    settings = OtlpSettings(hold=False, timeout_seconds=60)
    with RawHttp2Server(answer) as server:
        exporter = OtlpGrpcExporter(server.url, settings)
        try:
            return exporter.export(request(spans))
        finally:
            exporter.close()


@pytest.mark.parametrize("answer", MADE_UP.values(), ids=MADE_UP.keys())
def test_what_the_core_made_up_is_retried(answer: Callable[[int], bytes]) -> None:
    result = attempt(answer)
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, False)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 407])
def test_what_a_proxy_says_that_an_operator_has_to_mend_is_held(status: int) -> None:
    result = attempt(page(status))
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)


def test_a_proxy_that_finds_the_request_too_large_is_sent_halves() -> None:
    assert attempt(page(413)).verdict is Verdict.TOO_LARGE


REFUSALS = {
    "INVALID_ARGUMENT": trailers_only(*GRPC, ("grpc-status", "3"), ("grpc-message", "bad")),
    "INTERNAL": trailers_only(*GRPC, ("grpc-status", "13"), ("grpc-message", "my own words")),
    "UNKNOWN": trailers_only(*GRPC, ("grpc-status", "2")),
    "INTERNAL in trailers": lambda stream: (
        frame(HEADERS, END_HEADERS, stream, headers(*GRPC))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, headers(("grpc-status", "13"), ("grpc-message", "panic")))
    ),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_the_server_said_is_a_refusal(answer: Callable[[int], bytes]) -> None:
    assert attempt(answer, spans=1).verdict is Verdict.REFUSED


def test_ok_without_a_reply_is_delivered() -> None:
    assert attempt(trailers_only(*GRPC, ("grpc-status", "0"))).verdict is Verdict.DELIVERED
