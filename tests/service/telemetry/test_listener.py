"""The listener answers Prometheus and probes, whatever slow, many or foolish clients do."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from drain.telemetry import listener as listener_module
from drain.telemetry.listener import Bounds, Listener
from tests.ports import free_ports
from tests.python import ROOT
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPResponse

LOOPBACK = ("127.0.0.1", 0)
BOUNDS = Bounds(connections=8, request_bytes=1024, patience_seconds=0.0)


class Page(Collector):
    """Large enough that no socket's buffers hold it; counts how often it was made."""

    def __init__(self) -> None:
        self.made = 0
        self.series = 1

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.made += 1
        family = GaugeMetricFamily("made", "How often this page was made.", labels=["number"])
        for number in range(self.series):
            family.add_metric([str(number)], self.made)
        yield family


class Patient:
    """Health that is what a test says."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.unready: list[str] = []
        self.last_error = ""

    def not_alive(self) -> list[str]:
        return self.dead

    def not_ready(self) -> list[str]:
        return self.unready

    def backend(self) -> dict[str, object]:
        return {"last_error": self.last_error}


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def health() -> Patient:
    return Patient()


@pytest.fixture
def listening(page: Page, health: Patient) -> Iterator[Callable[..., Listener]]:
    with ExitStack() as cleanup:

        def listen(bounds: Bounds | None = None) -> Listener:
            registry = CollectorRegistry()
            registry.register(page)
            listener = Listener(*LOOPBACK, registry, health, log=structlog.get_logger(), bounds=bounds)  # type: ignore[arg-type]  # all that it asks is there
            cleanup.callback(listener.close)
            return listener

        yield listen


def get(address: tuple[str, int], path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(*address, timeout=120)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def raw(address: tuple[str, int], data: bytes) -> bytes:
    """Return all that comes back for these bytes, until the listener closes."""
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_metrics_are_text_and_openmetrics_by_accept(listening: Callable[..., Listener]) -> None:
    address = listening().address
    response, body = get(address, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'made{number="0"} 1.0\n' in body
    asked = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    response, body = get(address, "/metrics?x=y", Accept=asked)
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert [family.name for family in text_string_to_metric_families(body.decode())] == ["made"]  # type: ignore[no-untyped-call]  # it has no types


def test_metrics_are_compressed_when_asked_for(listening: Callable[..., Listener]) -> None:
    response, body = get(listening().address, "/metrics", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert b"made{" in gzip.decompress(body)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_say_503_with_the_reason(listening: Callable[..., Listener], health: Patient, path: str) -> None:
    address = listening().address
    word = {"/healthz": "alive", "/readyz": "ready"}[path]
    response, body = get(address, path)
    more = {"/healthz": {}, "/readyz": {"pid": os.getpid(), "backend": {"last_error": ""}}}[path]
    assert (response.status, json.loads(body)) == (200, {word: True, "reasons": [], **more})
    (health.dead if path == "/healthz" else health.unready).append("for a reason")
    response, body = get(address, path)
    assert (response.status, json.loads(body)) == (503, {word: False, "reasons": ["for a reason"], **more})


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 405), ("HEAD", "/metrics", 200)]
)
def test_other_pages_and_methods(listening: Callable[..., Listener], method: str, path: str, status: int) -> None:
    response, body = get(listening().address, path, method)
    assert response.status == status
    assert bool(body) == (method != "HEAD")
    assert int(response.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + 200 * b"A: b\r\n" + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\n" + 20 * b"A: b\r\n" + b"\r\n", b"200"),
        (b"GET /" + 10_000 * b"x", b"431"),
    ],
)
def test_foolish_requests_are_refused(listening: Callable[..., Listener], request_bytes: bytes, status: bytes) -> None:
    assert raw(listening(BOUNDS).address, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_more_header_lines_than_the_parser_takes_are_refused(listening: Callable[..., Listener]) -> None:
    request = b"GET /metrics HTTP/1.1\r\n" + 150 * b"A: b\r\n" + b"\r\n"
    assert raw(listening(Bounds(request_bytes=8192)).address, request).startswith(b"HTTP/1.1 400")


def test_two_hundred_scrapes_at_once_are_answered_with_one_page(
    listening: Callable[..., Listener], page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_FRESH_SECONDS", 3600.0)
    page.series = 5000
    address = listening(Bounds(request_seconds=120, answer_seconds=120)).address
    with ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(lambda _: get(address, "/metrics"), range(200)))
    assert {response.status for response, _ in answers} == {200}
    assert all(body.count(b"\n") == 5002 for _, body in answers)
    assert page.made == 1, "while it is fresh, however many ask"


def test_clients_that_send_their_request_byte_by_byte_keep_nobody_out(listening: Callable[..., Listener]) -> None:
    listener = listening(BOUNDS)
    with ExitStack() as open_ones:
        for _ in range(3 * BOUNDS.connections):
            slow = open_ones.enter_context(socket.create_connection(listener.address, timeout=120))
            slow.sendall(b"GET /metrics HTT")
        assert get(listener.address, "/healthz")[0].status == 200
        until(lambda: listener.connections_refused >= 2 * BOUNDS.connections)


def test_a_connection_that_never_asks_is_closed(listening: Callable[..., Listener]) -> None:
    listener = listening(replace(BOUNDS, request_seconds=0.5))
    with socket.create_connection(listener.address, timeout=120) as connection:
        with suppress(OSError):  # who comes too late to say it is hung up on, too
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
            assert connection.recv(1) == b""
        until(lambda: listener.connections_refused == 1)


def test_a_client_that_does_not_read_is_dropped(listening: Callable[..., Listener], page: Page) -> None:
    page.series = 200_000
    listener = listening(replace(BOUNDS, answer_seconds=0.5))
    with socket.create_connection(listener.address, timeout=120) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: listener.connections_refused == 1)
    page.series = 1

    def is_answered() -> bool:
        with suppress(OSError):  # one that is held up has no time left, either
            return get(listener.address, "/healthz")[0].status == 200
        return False

    until(is_answered)


def test_beyond_the_bound_new_connections_are_closed_while_those_before_are_young(
    listening: Callable[..., Listener],
) -> None:
    listener = listening(Bounds(connections=3, request_seconds=30, patience_seconds=30))
    with ExitStack() as open_ones:
        for _ in range(3):
            open_ones.enter_context(socket.create_connection(listener.address, timeout=120))
        until(lambda: len(listener._tasks) == 3)
        assert raw(listener.address, b"") == b""
        assert listener.connections_refused == 1


def test_without_a_host_it_listens_on_both_families(page: Page, health: Patient) -> None:
    (port,) = free_ports(1)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    registry = CollectorRegistry()
    registry.register(page)
    listener = Listener("", port, registry, health, log=structlog.get_logger())  # type: ignore[arg-type]  # as above
    try:
        for host in ("127.0.0.1", "::1"):
            response, _ = get((host, port), "/healthz")
            assert response.status == 200
    finally:
        listener.close()


def test_close_ends_connections_and_frees_the_port(listening: Callable[..., Listener], page: Page) -> None:
    registry = CollectorRegistry()
    registry.register(page)
    (port,) = free_ports(1)
    address = "127.0.0.1", port
    listener = Listener(*address, registry, Patient(), log=structlog.get_logger())  # type: ignore[arg-type]  # as above
    with socket.create_connection(address, timeout=120) as connection:
        until(lambda: len(listener._tasks) == 1)
        listener.close()
        assert connection.recv(1) == b""
    again = Listener(*address, registry, Patient(), log=structlog.get_logger())  # type: ignore[arg-type]  # as above
    again.close()


def test_an_address_in_use_is_an_error(listening: Callable[..., Listener]) -> None:
    taken = listening().address
    with pytest.raises(OSError, match="address already in use"):
        Listener(*taken, CollectorRegistry(), Patient(), log=structlog.get_logger())  # type: ignore[arg-type]  # as above


def test_clients_may_take_what_the_page_says() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (found,) = re.finditer(r"There may be (\d+) connections; a client has\s+(\d+) s for its request", page)
    bounds = Bounds()
    assert (bounds.connections, bounds.request_seconds) == tuple(map(int, found.groups()))
    assert (bounds.request_bytes, bounds.answer_seconds, bounds.patience_seconds) == (8192, 30.0, 1.0)
