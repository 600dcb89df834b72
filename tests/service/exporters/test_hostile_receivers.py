"""Receivers that speak no HTTP, too much of it, or half of it, and send clients elsewhere: an attempt ends, in time."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Self

import pytest

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpHttpServer, reply, success
from tests.service.exporters.batches import request
from tests.waiting import comes_true

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 0.5  # seconds, of an attempt that only its timeout ends
PATIENCE = 60.0  # seconds; then an endless server ends after all, so that a client without a timeout fails the test
MEBIBYTE = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"
NEITHER_DELIVERED_NOR_REFUSED = {
    "HTTP/0.9": b"delivered\n",
    "no bytes at all": b"",
    "a status line without end": b"HTTP/1.1 2" + b"0" * MEBIBYTE,
    "a header line of 1 MiB": OK + b"X: " + b"x" * MEBIBYTE + b"\r\nContent-Length: 0\r\n\r\n",
    "10,000 header lines": OK + b"X: x\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "chunks that are none": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk of negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "zeros": bytes(100_000),
    "a status that is no number": b"HTTP/1.1 OK 200\r\n\r\n",
    # The server has died: nobody knows whether it has kept the batch.
    "a status line and no more": OK,
    "headers that break off in a line": OK + b"Content-Le",
    "headers that break off behind a line": OK + b"Content-Type: text/plain\r\n",
}


class RawServer:
    """Takes a request's first bytes, sends what it has to send, again and again if it is to, and hangs up."""

    def __init__(self, answer: bytes, *, is_endless: bool = False) -> None:
        self.answer = answer
        self.is_endless = is_endless
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.02)
        self.stopping = threading.Event()
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self.serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(OSError):  # nobody has come yet, or it has gone already
                connection, _ = self.listener.accept()
                with connection:
                    self.connections.append(connection)
                    connection.settimeout(PATIENCE)
                    connection.recv(100_000)
                    connection.sendall(self.answer)
                    until = time.monotonic() + PATIENCE
                    while self.is_endless and not self.stopping.is_set() and time.monotonic() < until:
                        connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(100_000):  # so that what was sent is not taken back by a reset
                        pass

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stopping.set()
        for connection in self.connections if self.is_endless else ():
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)  # a client that has gone may leave it open for a while
        self.thread.join()
        self.listener.close()


def attempt(kind: str, url: str, timeout: float = PATIENCE) -> Result:
    settings = OtlpSettings(timeout_seconds=timeout, headers={"authorization": "Bearer secret"})
    exporter = make_exporter(kind, endpoint=url, otlp=settings)
    try:
        return exporter.export(request())
    finally:
        exporter.close()


def is_ended_as(message: str, kind: str, url: str) -> bool:
    """Return whether the timeout ends an attempt so; one that was held up before it was connected does not count."""
    results: list[Result] = []
    expected = Result(Verdict.RETRY, message=message)
    is_so = comes_true(lambda: expected in results, lambda: results.append(attempt(kind, url, TIMEOUT)))
    return is_so and {result.verdict for result in results} == {Verdict.RETRY}


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("answer", NEITHER_DELIVERED_NOR_REFUSED.values(), ids=NEITHER_DELIVERED_NOR_REFUSED.keys())
def test_what_is_no_answer_is_retried_and_told_in_one_line(answer: bytes) -> None:
    with RawServer(answer) as server:
        result = attempt("otlp-http", server.url)
    assert result.verdict is Verdict.RETRY
    assert result.message
    assert result.message.isprintable()
    assert len(result.message) <= 256


INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    "103 with a body": b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    "a code of tomorrow": b"HTTP/1.1 199 Later\r\nContent-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM.keys())
@pytest.mark.parametrize("times", [1, 3])
def test_an_interim_answer_is_not_the_answer(interim: bytes, times: int) -> None:
    """A proxy says 103 of itself; whether the backend has the batch is said behind it."""
    with RawServer(times * interim + b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as server:
        result = attempt("otlp-http", server.url)
    assert (result.verdict, result.message) == (Verdict.RETRY, "HTTP 503")
    with RawServer(times * interim + OK + b"Content-Length: 0\r\n\r\n") as server:
        assert attempt("otlp-http", server.url).verdict is Verdict.DELIVERED
    with RawServer(times * interim) as server:
        assert attempt("otlp-http", server.url).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    "interim",
    [
        pytest.param(interim, id=name, marks=[] if name == "103" else [pytest.mark.prove])
        for name, interim in INTERIM.items()
    ],
)
def test_interim_answers_without_end_are_ended_by_the_timeout(interim: bytes, traced: None) -> None:
    with RawServer(interim, is_endless=True) as server:
        assert is_ended_as(f"no complete answer within {TIMEOUT:g} s", "otlp-http", server.url)
    assert tracemalloc.get_traced_memory()[1] < 20 * MEBIBYTE


def test_a_compressed_reply_is_not_unpacked(traced: None) -> None:
    answer = b'{"partialSuccess": {"rejectedSpans": 2}}'
    bomb = gzip.compress(answer + b" " * (64 * MEBIBYTE), 1)
    tracemalloc.reset_peak()
    with OtlpHttpServer() as server:
        server.play(reply(200, bomb, {"Content-Type": "application/json", "Content-Encoding": "gzip"}))
        result = attempt("otlp-http", server.url)
    assert (result.verdict, result.rejected) == (Verdict.DELIVERED, 0)
    assert "not OTLP" in result.message
    assert tracemalloc.get_traced_memory()[1] < 20 * MEBIBYTE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_where_a_redirect_leads_nothing_is_sent(status: int) -> None:
    with OtlpHttpServer() as elsewhere, OtlpHttpServer() as server:
        server.play(reply(status, headers={"Location": f"{elsewhere.url}/v1/traces"}))
        attempt("otlp-http", server.url)
        assert len(server.requests) == 1
        assert server.requests[0].headers["authorization"] == "Bearer secret"
        assert elsewhere.requests == []
        assert elsewhere.connections == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "image/png", "x" * 5000, "application/json; \xff"]
)
def test_a_body_that_is_not_what_it_says_leaves_the_batch_delivered(content_type: str) -> None:
    with OtlpHttpServer() as server:
        server.play(reply(200, b"\x00\xff<html>" * 100, {"Content-Type": content_type}), success())
        result = attempt("otlp-http", server.url)
    assert result.verdict is Verdict.DELIVERED
    assert len(result.message) <= 256 + 60


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 0\r\n\r\n",
        b"",
        bytes(100_000),
        b"\x00\x00\x12\x04" + b"\xff" * 50_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 100_000,
    ],
    ids=["HTTP/1.1", "nothing", "zeros", "broken settings", "a client's preface", "a frame of 16 MiB"],
)
def test_a_server_that_speaks_no_grpc_is_retried(answer: bytes) -> None:
    with RawServer(answer) as server:
        result = attempt("otlp-grpc", server.url)
    assert result.verdict is Verdict.RETRY
    assert result.message.isprintable()


def test_a_grpc_server_that_sends_settings_for_ever_is_ended_by_the_timeout() -> None:
    with RawServer(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 100, is_endless=True) as server:
        assert is_ended_as("gRPC DEADLINE_EXCEEDED: Deadline Exceeded", "otlp-grpc", server.url)
