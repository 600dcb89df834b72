"""Metrics arrive over wrong answers, outages and lost replies, and whatever comes to them holds up nobody."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from drain.accounting.snapshot import Snapshot
from drain.accounting.sums import Sums
from drain.exporters.measured import MeasuredExporter
from drain.exporters.otlp_grpc import METHODS, OtlpGrpcExporter
from drain.exporters.otlp_http import OtlpHttpExporter
from drain.exporters.protocol import Result, Verdict
from drain.settings.otlp_environment import OtlpSettings
from drain.telemetry.otlp_metrics import POINTS_A_REQUEST, OtlpMetrics
from drain.telemetry.periodic_export import PeriodicMetricExport
from drain.telemetry.streams import Streams, TemporalityPreference
from tests.clocks import Clock
from tests.otlp_server import (
    GrpcAnswer,
    OtlpGrpcServer,
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
from tests.waiting import SECONDS, until

from .full_drain import Backend, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request
    from drain.telemetry.metric import Reading
    from drain.telemetry.sources import Sources
    from tests.otlp_server import OtlpHandler

WRONG: dict[str, Callable[[OtlpHandler], None]] = {
    "503": reply(503),
    "throttled": reply(429, headers={"Retry-After": "0"}),
    "refused": refusal(400, "no metrics here"),
    "no credentials": reply(401),
    "no such path": reply(404),
    "a redirect": reply(307, headers={"Location": "http://127.0.0.1:1/"}),
    "a login page": reply(200, b"<!doctype html><title>Login</title>", {"Content-Type": "text/html"}),
    "too large": reply(413),
    "nothing": disconnect,
    "a reset": reset,
    "half a status line": half_close,
    "a reply that breaks off": truncated(),
    "no HTTP": garbage,
    "a reply that never ends, of an error": endless(500),
    "a drip": drip(b"HTTP/1.1 200 OK\r\n"),
    "silence": silent,
}


class Counting:
    """A drain whose service `shop` has received so many spans."""

    def __init__(self) -> None:
        self.received = 0
        self.gate = threading.Lock()
        self.waits = False
        self._clock = Clock()
        self._exporter = MeasuredExporter(Backend(self._clock), self._clock)

    def read(self) -> Reading:
        snapshot = Snapshot(services={"shop": Sums(rings=1, published=self.received, delivered=self.received)})
        of: Sources = sources(snapshot, self._exporter, self._clock)
        return of.read()

    def read_in_turn(self) -> Reading:
        """Wait at the gate: who holds it while this waits knows that the export before has ended."""
        self.waits = True
        with self.gate:
            self.waits = False
            return self.read()


@contextmanager
def exporting(
    url: str, read: Callable[[], Reading], preference: TemporalityPreference, *, timeout: float = SECONDS
) -> Iterator[PeriodicMetricExport]:
    settings = OtlpSettings(hold=False, timeout_seconds=timeout, compression="none")
    exporter = OtlpHttpExporter(f"{url}/v1/metrics", "protobuf", settings, connections=1, content="metrics")
    with exporting_by(exporter, read, preference) as export:
        yield export


@contextmanager
def exporting_by(
    exporter: Exporter,
    read: Callable[[], Reading],
    preference: TemporalityPreference,
    *,
    timeout: float = SECONDS,
    points_a_request: int = POINTS_A_REQUEST,
) -> Iterator[PeriodicMetricExport]:
    metrics = OtlpMetrics(Streams(time.time_ns(), preference), points_a_request=points_a_request)
    export = PeriodicMetricExport(exporter, metrics, read, 0.01, timeout=timeout, log=structlog.get_logger())
    try:
        yield export
    finally:
        assert export.close(SECONDS)


def received(body: bytes) -> list[tuple[int, int, float]]:
    """Return start, time and value of the spans that shop has received."""
    return [
        (point.start_time_unix_nano, point.time_unix_nano, point.as_int)
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in of_resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "ringbuf.drain.spans_received"
        for point in metric.sum.data_points
    ]


@pytest.mark.parametrize("wrong", WRONG)
def test_after_a_wrong_answer_the_next_export_has_what_that_one_had(wrong: str) -> None:
    counting = Counting()
    counting.received = 5
    with OtlpHttpServer() as server:
        with exporting(server.url, counting.read_in_turn, "delta") as export:
            until(lambda: export.exports().delivered)
            with counting.gate:
                until(lambda: counting.waits)
                before = len(server.requests)
                server.play(WRONG[wrong])
                counting.received = 12
                if wrong in {"a drip", "silence"}:
                    export._exporter._timeout = 1.0  # type: ignore[attr-defined]  # of the next
            until(lambda: len(server.requests) > before)
            export._exporter._timeout = SECONDS  # type: ignore[attr-defined]  # an attempt that is held up is no failure
            until(lambda: export.exports().failed)
            delivered = export.exports().delivered
            until(lambda: export.exports().delivered > delivered)
        every = [received(request.body) for request in server.requests]
    lost, after = every[before : before + 2]
    assert sum(points[0][2] for points in every[:before]) == 5
    [(_, taken, _)], [(start, _, _)], [(next_start, until_then, told)] = every[before - 1], lost, after
    assert start == next_start == taken, "both count from what was acknowledged"
    assert until_then > taken
    assert told == 7
    # Of those that begin at the same time the last was acknowledged: a server that is held up reads more that were not.
    since = {start: number for points in sorted(every[before:]) for start, _, number in points}
    assert sum(since.values()) == 7
    # One that is held up for so long that it fails before it is sent is one more.
    assert export.exports().failed == 1 or wrong in {"a drip", "silence"}
    assert export.exports().points_rejected == 0


def test_deltas_add_up_over_an_outage_and_a_restart_of_the_receiver() -> None:
    counting = Counting()
    read = counting.read_in_turn
    server = OtlpHttpServer(free_ports(1)[0])
    with server, exporting(server.url, read, "delta") as export, ExitStack() as later:
        counting.received = 3
        until(lambda: export.exports().delivered)
        with counting.gate:
            until(lambda: counting.waits)
            server.stop()  # it has answered all that it got: no request is under way
            counting.received = 40
        until(lambda: export.exports().failed > 1)
        again = later.enter_context(OtlpHttpServer(server.port))
        delivered = export.exports().delivered
        until(lambda: export.exports().delivered > delivered)
        counting.received = 41
        assert export.close(SECONDS), "and once more at the end"
        both = [received(request.body) for request in (*server.requests, *again.requests)]
    told = [point for points in both for point in points]
    assert sum(number for _, _, number in told) == 41
    starts, ends = [start for start, _, _ in told], [end for _, end, _ in told]
    assert starts[1:] == ends[:-1], "each begins where the one before it has ended"


def test_metrics_over_grpc_have_a_method_of_their_own_and_a_refusal_is_told_again() -> None:
    counting = Counting()
    counting.received = 5
    with OtlpGrpcServer() as server:
        server.play(GrpcAnswer(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down"))
        settings = OtlpSettings(hold=False, timeout_seconds=SECONDS, compression="gzip")
        exporter = OtlpGrpcExporter(server.url, settings, content="metrics")
        with exporting_by(exporter, counting.read, "delta") as export:
            until(lambda: export.exports().delivered)
        lost, told = (received(request.body)[0] for request in server.requests[:2])
    assert {request.path for request in server.requests} == {METHODS["metrics"]}
    assert (lost[0], lost[2]) == (told[0], told[2]) == (told[0], 5)


def test_an_export_begins_no_request_after_its_time() -> None:
    class Slow:
        encoding, endpoint = "protobuf", "nowhere"
        requests = 0

        def export(self, _request: Request) -> Result:
            self.requests += 1
            time.sleep(0.02)
            return Result(Verdict.DELIVERED)

        def close(self) -> None:
            pass

    slow: Any = Slow()
    with exporting_by(slow, Counting().read, "cumulative", timeout=0.001, points_a_request=1) as export:
        until(lambda: export.exports().failed > 1)
        assert export.exports().delivered == 0
    assert slow.requests == export.exports().failed, "one of each export, whose others are left to the next"


def test_what_is_rejected_of_an_export_that_was_taken_is_counted_and_not_sent_again() -> None:
    counting = Counting()
    counting.received = 5
    with OtlpHttpServer() as server:
        server.play(success(rejected=2, message="too old"))
        with exporting(server.url, counting.read, "delta") as export:
            until(lambda: export.exports().delivered > 1)
        assert export.exports().points_rejected == 2
        numbers = [number for request in server.requests for _, _, number in received(request.body)]
    assert numbers[:2] == [5, 0]


def test_a_reading_that_fails_is_counted_and_the_next_is_sent() -> None:
    counting, failures = Counting(), iter([ValueError("no numbers"), OSError("no disk")])

    def read() -> Reading:
        for failure in failures:
            raise failure
        return counting.read()

    with OtlpHttpServer() as server, exporting(server.url, read, "cumulative") as export:
        until(lambda: export.exports().delivered)
        assert export.exports().failed == 2


def test_the_end_does_not_wait_for_a_receiver_that_does_not_answer() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def read() -> Reading:
        asked.set()
        let_go.wait()
        return Counting().read()

    with OtlpHttpServer() as server, exporting(server.url, read, "cumulative") as export:
        asked.wait()
        assert not export.close(seconds=0.0)
        let_go.set()


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    counting = Counting()
    with OtlpHttpServer() as server:
        server.play(reply(503, headers={"Retry-After": "100"}))
        with exporting(server.url, counting.read, "cumulative") as export:
            until(lambda: export.exports().failed)
            assert not export._is_closing.wait(0.1)
            assert len(server.requests) == 1
        assert len(server.requests) == 2, "the last one is sent in any case"


def test_points_have_times_that_never_go_back() -> None:
    times = iter([100, 90, 80, 120])
    export = PeriodicMetricExport.__new__(PeriodicMetricExport)
    export._clock_unix_nano = lambda: next(times)
    export._last_unix_nano = 0
    assert [export._now() for _ in range(4)] == [100, 101, 102, 120]
