"""The delivery tries again until each batch has its final verdict, and says in full what became of it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.delivery.delivery import Delivery
from drain.delivery.dispatch import Dispatch
from drain.delivery.retry import RetryPolicy
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import GroupExporter, Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from tests.fakes import keeps_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.delivery.route import Route
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding

NOBODY: Any = None
RING: Any = SimpleNamespace(service="shop")
DELIVERED = Result(Verdict.DELIVERED)
AT_ONCE = RetryPolicy(initial=1e-6, maximum=1e-6)
NEVER = RetryPolicy(initial=3600, maximum=3600)
SECONDS = 120.0  # bounds a wait that goes wrong


class PlayedExporter:
    """Answers with the results that are lined up, then with success."""

    encoding: Encoding = "protobuf"
    endpoint = "played"

    def __init__(self, *results: Result) -> None:
        self.results = deque(results)
        self.requests: list[Request] = []

    def export(self, request: Request) -> Result:
        self.requests.append(request)
        return self.results.popleft() if self.results else DELIVERED

    def close(self) -> None:
        pass


class GatedExporter(PlayedExporter):
    """Answers a request when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    @keeps_faults
    def export(self, request: Request) -> Result:
        self.entered.release()
        assert self.gate.acquire(timeout=SECONDS)
        return super().export(request)


def batch_of(spans: int) -> Batch:
    traces = TracesData()
    scope_spans = traces.resource_spans.add().scope_spans.add()
    scope_spans.spans.extend(Span(name=str(number)) for number in range(spans))
    return Batch(
        [Request(traces.SerializeToString(), spans, "protobuf", services={"shop": spans})],
        [Segment(RING, NOBODY, spans, 0)],
    )


class Harness:
    def __init__(self, exporter: PlayedExporter, policy: RetryPolicy, concurrency: int) -> None:
        self.done = threading.Semaphore(0)
        self.delivery = Delivery(exporter, policy, concurrency, done=self.done.release, log=structlog.get_logger())

    def deliver(self, batch: Batch) -> Outcome | None:
        self.delivery.send(batch)
        assert self.done.acquire(timeout=SECONDS)
        assert self.delivery.settled() == [batch]
        return batch.segments[0].outcome


@pytest.fixture
def harnesses() -> Iterator[list[Harness]]:
    made: list[Harness] = []
    yield made
    for harness in made:
        harness.delivery.stop(SECONDS)


def start(
    harnesses: list[Harness], exporter: PlayedExporter, policy: RetryPolicy = AT_ONCE, threads: int = 1
) -> Harness:
    harness = Harness(exporter, policy, threads)
    harnesses.append(harness)
    return harness


@pytest.mark.parametrize(
    ("results", "outcome", "attempts"),
    [
        ([], Outcome(delivered=5), 1),
        ([Result(Verdict.DELIVERED, rejected=2)], Outcome(delivered=3, rejected=2), 1),
        ([Result(Verdict.DELIVERED, rejected=99)], Outcome(rejected=5), 1),
        ([Result(Verdict.REFUSED)], Outcome(rejected=5), 1),
        ([Result(Verdict.RETRY)] * 3, Outcome(delivered=5), 4),
        ([Result(Verdict.RETRY, retry_after=1e-6), Result(Verdict.REFUSED)], Outcome(rejected=5), 2),
    ],
)
def test_each_verdict_has_its_outcome(
    results: list[Result], outcome: Outcome, attempts: int, harnesses: list[Harness]
) -> None:
    exporter = PlayedExporter(*results)
    assert start(harnesses, exporter).deliver(batch_of(5)) == outcome
    assert len(exporter.requests) == attempts


def test_a_request_that_is_too_large_is_sent_in_halves_until_they_fit(harnesses: list[Harness]) -> None:
    too_large = Result(Verdict.TOO_LARGE)
    exporter = PlayedExporter(too_large, too_large, DELIVERED, DELIVERED, DELIVERED)
    assert start(harnesses, exporter).deliver(batch_of(4)) == Outcome(delivered=4)
    assert [request.spans for request in exporter.requests] == [4, 2, 1, 1, 2]
    arrived = [TracesData.FromString(request.body).resource_spans[0] for request in exporter.requests[2:]]
    assert [span.name for part in arrived for span in part.scope_spans[0].spans] == ["0", "1", "2", "3"]


def test_a_single_span_that_is_too_large_is_rejected(harnesses: list[Harness]) -> None:
    exporter = PlayedExporter(Result(Verdict.TOO_LARGE), Result(Verdict.TOO_LARGE))
    assert start(harnesses, exporter).deliver(batch_of(2)) == Outcome(delivered=1, rejected=1)


def dispatch_without_spool(
    exporter: Exporter, policy: RetryPolicy, concurrency: int, done: Callable[[], None] = lambda: None
) -> Dispatch:
    return Dispatch(
        *(exporter, policy, concurrency),
        done=done,
        log=structlog.get_logger(),
        clock=time.monotonic,
        spool=None,
        spool_after=0.0,
        dead_letters=None,
    )


def test_threads_wake_up_where_something_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = MeasuredExporter(PlayedExporter())
    is_instance = type(GroupExporter).__instancecheck__

    def asks_for_all_names(protocol: Any, it: Any) -> bool:
        # 0.1 ms each time: nobody asks for it with each batch. Those of others may be asked for in other threads.
        assert not protocol.__module__.startswith("drain."), "asked for all names of a protocol"
        return is_instance(protocol, it)

    monkeypatch.setattr(type(GroupExporter), "__instancecheck__", asks_for_all_names)
    settled: list[str] = []
    dispatch = dispatch_without_spool(exporter, AT_ONCE, 4, done=lambda: settled.append("settled"))
    monkeypatch.setattr(dispatch._changes, "notify_all", lambda: settled.append("woken"))
    hand = dispatch.hand()
    dispatch.send(batch_of(1))
    dispatch.advance(hand)
    assert settled == ["settled"], "there is nothing for the others"
    dispatch.send(batch_of(1))
    dispatch.send(batch_of(1))
    dispatch.advance(hand)
    assert settled == ["settled", "settled", "woken"], "another batch waits"
    dispatch.begin_stop()
    assert settled[3:] == ["woken"]


def test_a_batch_for_hundreds_of_destinations_goes_over_them_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 partitions of a topic each put down went over all: 240 ms a batch, under the lock."""

    class Group(PlayedExporter):
        most_together = 300

        def export_together(self, requests: list[Request]) -> list[Result]:
            return [self.export(request) for request in requests]

    exporter = Group()
    dispatch = dispatch_without_spool(exporter, AT_ONCE, 2)
    woken: list[int] = []
    monkeypatch.setattr(dispatch._changes, "notify_all", lambda: woken.append(len(exporter.requests)))
    by_turn, looks = dispatch._routes.by_turn, Counter[str]()

    def counted_by_turn() -> list[Route]:
        looks["by_turn"] += 1
        return by_turn()

    monkeypatch.setattr(dispatch._routes, "by_turn", counted_by_turn)
    parts = [Request(b"", 1, "protobuf", str(number), {"shop": 1}) for number in range(300)]
    hand = dispatch.hand()
    dispatch.send(Batch(parts, [Segment(RING, NOBODY, 300, 0)]))
    dispatch.send(Batch([parts[7]], [Segment(RING, NOBODY, 1, 0)]))
    assert dispatch.advance(hand) is None
    assert len(exporter.requests) == 300
    assert looks["by_turn"] <= 3
    assert woken, "a part waits for one of them"
    dispatch.advance(hand)
    assert len(dispatch.settled()) == 2


def test_an_error_as_a_batch_is_put_down_leaves_no_thread_that_seems_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Down(PlayedExporter):
        def export(self, request: Request) -> Result:
            assert not dispatch.is_idle
            super().export(request)
            return Result(Verdict.RETRY)

    dispatch = dispatch_without_spool(Down(), RetryPolicy(initial=60.0, maximum=60.0), 1)
    hand = dispatch.hand()
    dispatch.send(batch_of(1))
    has_more, errors = dispatch._routes.has_more, [MemoryError()]

    def fails_once(route: Route) -> bool:
        if errors:
            raise errors.pop()
        return has_more(route)

    monkeypatch.setattr(dispatch._routes, "has_more", fails_once)
    with pytest.raises(MemoryError) as raised:
        dispatch.advance(hand)
    hand.error = raised.value
    assert dispatch.advance(hand) is not None, "it waits for its next attempt"
    assert dispatch.is_idle, "the open batch would wait for that, too"


def test_there_is_room_for_one_batch_more_than_threads(harnesses: list[Harness]) -> None:
    exporter = GatedExporter()
    harness = start(harnesses, exporter, threads=2)
    for _ in range(3):
        assert harness.delivery.has_room
        harness.delivery.send(batch_of(1))
    assert not harness.delivery.has_room
    assert not harness.delivery.is_idle
    exporter.gate.release(3)
    for _ in range(3):
        assert harness.done.acquire(timeout=SECONDS)
    assert len(harness.delivery.settled()) == 3
    assert harness.delivery.is_idle


def test_a_stop_cuts_the_wait_for_a_retry_short_and_leaves_the_batch_without_outcome(harnesses: list[Harness]) -> None:
    exporter = GatedExporter()
    exporter.results.append(Result(Verdict.RETRY))
    harness = start(harnesses, exporter, NEVER)
    batch = batch_of(1)
    harness.delivery.send(batch)
    assert exporter.entered.acquire(timeout=SECONDS)
    exporter.gate.release()
    assert harness.delivery.stop(SECONDS)
    assert harness.delivery.settled() == []
    assert batch.segments[0].outcome is None


def test_one_half_that_did_not_arrive_leaves_the_whole_batch_without_outcome(harnesses: list[Harness]) -> None:
    exporter = GatedExporter()
    exporter.results.extend([Result(Verdict.TOO_LARGE), DELIVERED, Result(Verdict.RETRY)])
    harness = start(harnesses, exporter, NEVER)
    batch = batch_of(2)
    harness.delivery.send(batch)
    for _ in range(3):
        assert exporter.entered.acquire(timeout=SECONDS)
        exporter.gate.release()
    assert harness.delivery.stop(SECONDS)
    assert [request.spans for request in exporter.requests] == [2, 1, 1]
    assert harness.delivery.settled() == []
    assert batch.segments[0].outcome is None


def test_a_backend_that_goes_and_comes_back_makes_one_line_each(harnesses: list[Harness]) -> None:
    exporter = PlayedExporter(*[Result(Verdict.RETRY, message="no route")] * 5)
    with structlog.testing.capture_logs() as lines:
        harness = start(harnesses, exporter)
        harness.deliver(batch_of(1))
        harness.deliver(batch_of(1))
    assert [line["event"] for line in lines] == [
        "backend did not take a batch, it is sent again",
        "backend is unavailable, spans wait",
        "backend is back",
    ]
    assert [line.get("reason") for line in lines] == ["no route", "no route", None]
    assert lines[1]["next_attempt_seconds"] >= 0


def test_refusals_are_logged_once_a_minute_and_counted(harnesses: list[Harness]) -> None:
    exporter = PlayedExporter(*[Result(Verdict.REFUSED, message="bad key")] * 3)
    with structlog.testing.capture_logs() as lines:
        harness = start(harnesses, exporter)
        for _ in range(3):
            harness.deliver(batch_of(1))
    assert [(line["event"], line["reason"]) for line in lines] == [("backend refused spans for good", "bad key")]
