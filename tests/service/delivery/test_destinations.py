"""Spans are sorted by destination before they are encoded: each request has those of one, and nothing is lost."""

from __future__ import annotations

import functools
import itertools
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

import ringbuf
from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.exporters.gateways.discovery import Discovery
from drain.exporters.gateways.gateways import Gateways as Exporters
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.batch_number import BatchNumber
from drain.otlp.destinations import Rendezvous
from drain.otlp.request import Request
from drain.rings.segment import Lane, Segment
from drain.service.limits import Limits
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpHttpServer, refusal, success
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    emit,
    number_of,
    run_once,
    spans_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from drain.exporters.name_resolution import Address
    from drain.settings.balance import Balance

NAMES = ("a", "b", "c")


class Gateways(MemoryBackend):
    """Three of them, each of which gets its traces; those that are down take nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.rendezvous = Rendezvous(NAMES)
        self.names = NAMES
        self.down: set[str] = set()

    @property
    def partitioner(self) -> Gateways:
        return self

    def assign(self, records: np.ndarray, _service: str) -> np.ndarray:
        return self.rendezvous.assign(records)

    def home(self, trace_id: bytes, _service: str) -> str:
        return self.rendezvous.home(trace_id)

    def answer(self, request: Request) -> Result:
        spans = spans_of(TracesData.FromString(request.body))
        assert {self.rendezvous.home(span.trace_id) for span in spans} == {request.destination}
        assert len(spans) == request.spans == sum(request.services.values())
        if request.destination in self.down:
            return Result(Verdict.RETRY, message="down")
        return super().answer(request)


def received(server: OtlpHttpServer) -> list[int]:
    return [number_of(span) for one in server.requests for span in spans_of(TracesData.FromString(one.body))]


def spans_at(server: OtlpHttpServer) -> list[Span]:
    return [span for one in server.requests for span in spans_of(TracesData.FromString(one.body))]


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", layout=LAYOUT, ring_dir=ring_dir, capacity=1024) as made:
        yield made


def test_each_request_has_the_traces_of_one_destination(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    backend = Gateways()
    with SteppedDrain(ring_dir, backend, Limits(100, 4_000_000, 0.0, 4, SECONDS)) as drain:
        emit(emitter, range(500))
        drain.until(lambda: emitter.stats().pending == 0)
        assert sorted(backend.numbers) == list(range(500))
        assert {request.destination for request in backend.requests} == set(NAMES)
        assert drain.sums().delivered == 500
        numbers = {(request.batch.number, request.batch.first) for request in backend.requests if request.batch}
        assert len(numbers) == len(backend.requests), "a reader tells the parts of a batch apart"


def test_records_wait_for_the_last_part_and_only_that_is_sent_again(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    backend = Gateways()
    backend.down.add("b")
    with SteppedDrain(ring_dir, backend, Limits(100, 4_000_000, 0.0, 4, SECONDS)) as drain:
        emit(emitter, range(100))
        drain.until(lambda: {request.destination for request in backend.requests} == {"a", "c"})
        assert emitter.stats().pending == 100
        backend.down.clear()
        drain.until(lambda: emitter.stats().pending == 0)
        numbers = [number_of(s) for r in backend.requests for s in spans_of(TracesData.FromString(r.body))]
        assert sorted(numbers) == list(range(100)), "each once"
        assert drain.sums().delivered == 100


def test_what_is_for_a_destination_that_is_gone_is_cut_again_by_its_traces(ring_dir: Path) -> None:
    backend = Gateways()
    spans = [Span(trace_id=number.to_bytes(16, "big"), span_id=bytes(7) + b"1") for number in range(60)]
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="shop"))])
    body = TracesData(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
    ).SerializeToString()
    ring: Any = SimpleNamespace(service="shop", capacity_slots=1000)
    segments = [Segment(ring, Lane(0), 60, 0) for _ in range(2)]
    with SteppedDrain(ring_dir, backend) as drain:
        for destination, segment in zip(("gone", ""), segments, strict=True):
            request = Request(body, 60, "protobuf", destination, {"shop": 60}, BatchNumber("0" * 16, 7, 0, 60))
            drain.service._delivery.send(Batch([request], [segment]))
            drain.until(lambda: not drain.service._delivery.in_flight)
            assert segment.outcome == Outcome(delivered=60)
        for requests in (backend.requests[:3], backend.requests[3:]):
            assert sorted(request.destination for request in requests) == ["a", "b", "c"]
            places = sorted((request.batch.first, request.spans) for request in requests if request.batch)
            ends = itertools.accumulate(spans for _, spans in places)
            assert [first for first, _ in places] == [0, *ends][:3], "a reader tells the parts apart"


@pytest.mark.parametrize("balance", ["trace", "failover"])
def test_while_an_endpoint_is_away_its_traces_wait_for_it_or_the_other_has_them(
    emitter: ringbuf.Emitter, ring_dir: Path, balance: Balance
) -> None:
    with OtlpHttpServer() as away, OtlpHttpServer() as there:
        otlp = OtlpSettings(timeout_seconds=SECONDS)
        exporters = {one.url: make_exporter("otlp-http", endpoint=one.url, otlp=otlp) for one in (away, there)}
        gateways: Any = Exporters(exporters, balance)
        gateways.let_go = lambda: None  # which the harness calls at its end
        away.otherwise = refusal(503, "away")
        with SteppedDrain(ring_dir, gateways, Limits(20, 4_000_000, 0.0, 4, SECONDS)) as drain:
            emit(emitter, range(100))
            if balance == "trace":
                homes = Rendezvous(list(exporters))
                drain.until(lambda: len(received(there)) > 10)  # of a half, of dice that nobody loads
                assert {homes.home(span.trace_id) for span in spans_at(there)} == {there.url}
                assert emitter.stats().pending > 0
                away.otherwise = success()
            drain.until(lambda: emitter.stats().pending == 0)
            assert drain.sums().delivered == 100
        gateways.close()
        if balance == "failover":
            assert sorted(received(there)) == list(range(100))


def test_what_waits_for_an_address_that_has_left_goes_to_the_others(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    """Pods behind a headless service: one dies, and by and by its address leaves the name."""
    addresses = ["127.0.0.1", "127.0.0.2"]

    def look_up(_host: str, port: int, _seconds: float) -> list[Address]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    with OtlpHttpServer() as stays, OtlpHttpServer(stays.port, host="127.0.0.2") as leaves:
        leaves.otherwise = refusal(503, "away")
        otlp = OtlpSettings(timeout_seconds=SECONDS)
        endpoint = f"http://gateways.test:{stays.port}"
        make = functools.partial(make_exporter, "otlp-http", otlp=otlp)
        discovery = Discovery([endpoint], lambda name, address: make(endpoint=name, address=address), 60.0, look_up)
        exporters = {
            name: make(endpoint=endpoint, address=address) for name, (_, address) in discovery.members().items()
        }
        gateways: Any = Exporters(exporters, "trace")
        gateways.let_go = lambda: None  # which the harness calls at its end
        with SteppedDrain(ring_dir, gateways, Limits(20, 4_000_000, 0.0, 4, SECONDS)) as drain:
            emit(emitter, range(100))
            drain.until(lambda: len(received(stays)) > 10 and leaves.requests)
            assert {Rendezvous(list(exporters)).home(span.trace_id) for span in spans_at(stays)} == {stays.url}
            assert emitter.stats().pending > 0
            addresses.pop()
            discovery.look(gateways)
            assert set(gateways.exporters) == {stays.url, leaves.url}
            discovery.look(gateways)
            drain.until(lambda: emitter.stats().pending == 0)
            assert drain.sums().delivered == 100
        gateways.close()
        assert sorted(received(stays)) == list(range(100))
        assert {request.headers["host"] for request in stays.requests} == {f"gateways.test:{stays.port}"}


def test_parts_that_wait_for_an_endpoint_outlive_a_kill_and_go_to_it(
    emitter: ringbuf.Emitter, ring_dir: Path, tmp_path: Path
) -> None:
    with OtlpHttpServer() as away, OtlpHttpServer() as there:
        away.otherwise = refusal(503, "away")
        homes = Rendezvous([away.url, there.url])
        flags: list[object] = ["--endpoint", away.url, "--endpoint", there.url, "--state-dir", tmp_path / "state"]
        flags += ["--retry-initial", 0.01, "--retry-maximum", 0.05]
        with DrainProcess(tmp_path / "log", ring_dir, *flags) as drain:
            emit(emitter, range(300))
            until(lambda: emitter.stats().pending == 0 and len(set(received(there))) > 100)
            drain.kill()
        assert len(set(received(there))) < 200
        waiting = {span.trace_id for span in spans_at(away)}
        away.requests.clear()
        away.otherwise = success()
        assert run_once(tmp_path / "log", ring_dir, *flags) == 0
        assert {span.trace_id for span in spans_at(away)} >= waiting
        for server in (away, there):
            assert {homes.home(span.trace_id) for span in spans_at(server)} == {server.url}
        assert sorted({*received(away), *received(there)}) == list(range(300))
