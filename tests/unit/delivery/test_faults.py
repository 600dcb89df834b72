"""Every function of the delivery and of the spool raises once, at each of its calls: nothing is lost, counted twice, or
left behind, and no thread ends."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.accounting.outcome import Outcome
from drain.delivery import (
    attempts,
    batch,
    breaker,
    changes,
    dead_letters,
    delivery,
    dispatch,
    halves,
    hand_over,
    job,
    letter_file,
    load,
    queue,
    request_size,
    retry,
    route,
    routes,
    settlement,
    storing,
)
from drain.delivery.batch import Batch
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.delivery import Delivery
from drain.delivery.retry import RetryPolicy
from drain.exporters.gateways.homes import HandedOver, Homes
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from drain.spool import (
    database,
    holds,
    limits,
    open_files,
    reserve,
    room,
    schema,
    spool,
    spool_time,
    sqlite_errors,
    store,
)
from drain.spool.spool import Spool, SpoolLimits
from tests.sampled import every
from tests.service.draining import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drain.otlp.request import Encoding

MODULES = (
    attempts, batch, breaker, changes, dead_letters, delivery, dispatch, halves, hand_over, job, letter_file, load,
    queue, request_size, retry, route, routes, settlement, storing, database, holds, limits, open_files, reserve, room,
    schema, spool, spool_time, sqlite_errors, store,
)  # fmt: skip
# Called by whoever makes or ends the delivery, or asks it something, who is told of the error.
CALLERS = {
    "Spool.__init__", "Spool.close", "Spool.status", "SpoolStore.__init__", "SpoolStore.close", "SpoolStore._open",
    "SpoolDatabase.__init__", "open_connection", "_set_up", "make_or_migrate", "SpoolDatabase._read_sums",
    "SpoolDatabase.close", "OpenFiles.__init__", "Reserve.__init__", "Room.__init__", "SpoolTime.__init__",
    "SpoolTime.age_seconds", "SpoolTime.known_age_seconds", "this_moment", "Holds.__init__",
    "SpoolLimits.__post_init__", "_make_file", "Spool.is_broken",
    "DeadLetters.__init__", "DeadLetters._look", "DeadLetters._look_again", "DeadLetters._stock_of",
    "DeadLetters._mend", "DeadLetters.status", "DeadLetters._now",
    "take_stock", "read_letters",
    "Breaker.__init__", "Attempts.__init__", "Storing.__init__", "RequestSize.__init__", "TimelySpans.__init__",
    "HandOver.__init__", "RetryPolicy.__post_init__",
    "Job.__post_init__", "Route.__init__", "Routes.__init__", "Routes.to", "where", "Routes.known",
    "Routes.seconds_until_attempt", "Routes._seconds_of", "Routes.try_now",
    "Dispatch.__init__", "Dispatch.hand", "Dispatch.begin_stop", "Delivery.__init__", "Delivery.stop",
    "Delivery.why_broken", "Dispatch.why_not_stored", "Dispatch.has_settled", "Dispatch.in_flight", "Dispatch.has_room",
    "Dispatch.is_idle", "Dispatch._load_now", "Dispatch.settled", "Dispatch.send", "Dispatch.is_backend_down",
    "Dispatch.seconds_until_attempt", "seconds_until_attempt", "Holds.earliest", "Spool.seconds_until_take",
    "Storing.seconds_until_take", "Delivery._work",
    "Spool._work", "Dispatch.spool_late", "Settlement.spool_late", "Settlement.begin", "Settlement.__init__",
    "Changes.__init__",
}  # fmt: skip
LONGEST_AWAY_SECONDS = 1.0
AT_ONCE = RetryPolicy(initial=1e-3, maximum=1e-3)
RING: Any = SimpleNamespace(service="shop", capacity_slots=1 << 20)
LANE: Any = SimpleNamespace(unreleased=0)


def batch_of(name: str, *parts: int) -> Batch:
    """Return a batch with a part for each number of spans."""
    return Batch(
        [part_of(f"{name} {number}", spans, str(number)) for number, spans in enumerate(parts)],
        [Segment(RING, LANE, sum(parts), 0)],
    )


def part_of(name: str, spans: int, destination: str) -> Request:
    traces = TracesData()
    scope_spans = traces.resource_spans.add().scope_spans.add()
    names = [f"{name} {number}" for number in range(spans)]
    ids = [hashlib.sha256(one.encode()).digest()[:16] for one in names]
    scope_spans.spans.extend(Span(name=one, trace_id=trace_id) for one, trace_id in zip(names, ids, strict=True))
    return Request(traces.SerializeToString(), spans, "protobuf", destination, {"shop": spans})


def names_of(request: Request) -> list[str]:
    return [
        span.name
        for resource_spans in TracesData.FromString(request.body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


class Backend:
    """Takes at most two spans a request, refuses "bad" ones, and fails a few attempts at first."""

    encoding: Encoding = "protobuf"
    endpoint = "test"

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()
        self.fails = 3

    def export(self, request: Request) -> Result:
        names = names_of(request)
        with self.lock:
            if len(names) > 2:
                return Result(Verdict.TOO_LARGE)
            if self.fails:
                self.fails -= 1
                return Result(Verdict.RETRY, message="later", is_timeout=self.fails == 1)
            if any(name.startswith("bad") for name in names):
                return Result(Verdict.REFUSED, message="bad")
            self.names += names
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        pass


class LeavingBackend(Backend):
    """Knows no destination "2"; "1" is away until others have got some of its spans, or for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_over = HandedOver()
        self.partitioner = Homes({name: name for name in ("0", "1", "3")}, 0.1, self.handed_over)
        self.since = time.monotonic()

    def export(self, request: Request) -> Result:
        is_away = not self.handed_over.of("1") and time.monotonic() - self.since < LONGEST_AWAY_SECONDS
        if request.destination == "1" and is_away:
            return Result(Verdict.RETRY, message="connection refused", is_not_taken=True)
        assert request.destination != "2", "that has gone"
        return super().export(request)


def functions() -> Iterator[tuple[str, Any]]:
    """Name the functions and methods that are written in `MODULES`."""
    for module in MODULES:
        for owner in (module, *(cls for _, cls in inspect.getmembers(module, inspect.isclass))):
            if getattr(owner, "__module__", module.__name__) != module.__name__:
                continue
            for value in vars(owner).values():
                function = value.fget if isinstance(value, property) else value
                if inspect.isfunction(function) and function.__code__.co_filename == module.__file__:
                    yield function.__qualname__, function.__code__


CODES = dict(functions())
# What is called where destinations leave, and parts go to others.
HANDING_OVER = sorted({
    *(name for name in CODES if name.startswith(("HandOver.", "Presence.")) and name not in CALLERS),
    "_rehomed", "by_destination", "_shared_out", "is_question_due", "Job.may_move", "Job.piece", "Batch.divide",
    "Settlement.divide", "Settlement._divide_in_memory", "Storing.divide", "Storing._note_divided",
    "Storing._note_sure", "Storing._take_sure", "Storing.has_sure", "Spool.divide", "SpoolStore.divide",
    "SpoolDatabase.divide", "SpoolDatabase._insert", "SpoolDatabase.batch", "Routes.next_step", "Routes._breaker_of",
})  # fmt: skip


class Fault:
    """Raises in the n-th call of a function, wherever that is called from.

    Args:
        code: of the function.
        nth: which of its calls, from 1.
    """

    def __init__(self, code: Any, nth: int) -> None:
        self._code = code
        self._calls = itertools.count(1)
        self._nth = nth
        self.is_armed = False
        self.has_struck = False

    def __call__(self, frame: Any, event: str, _argument: object) -> None:
        if event == "call" and self.is_armed and frame.f_code is self._code and next(self._calls) == self._nth:
            self.has_struck = True
            raise MemoryError(f"planted in {self._code.co_qualname}")

    def __enter__(self) -> Self:
        threading.settrace(self)
        sys.settrace(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        sys.settrace(None)
        threading.settrace(None)


def deliver(folder: Path, code: Any, nth: int, make: Callable[[], Backend] = Backend) -> bool:
    """Deliver a few batches while a fault strikes; return whether it did."""
    backend = make()
    log = structlog.get_logger()
    with Fault(code, nth) as fault:
        kept = Spool(folder / "spool", SpoolLimits(64 << 20), log=log)
        letters = DeadLetters(folder / "letters", max_files=10, max_bytes=1 << 20, log=log)
        made = Delivery(
            backend, AT_ONCE, 2, done=lambda: None, log=log, spool=kept, spool_after=0.0, dead_letters=letters
        )
        sent = [batch_of("good", 5), batch_of("bad", 1, 2), batch_of("fine", 2, 1, 1), batch_of("well", 3)]
        names = {name for one in sent for part in one.parts for name in names_of(part)}
        fault.is_armed = True
        for one in sent:
            made.send(one)
        settled: list[Batch] = []

        def go_on() -> None:
            made.spool_late()
            settled.extend(made.settled())

        def is_done() -> bool:
            is_told = made._storing is not None and not made._storing._untold
            return len(settled) == len(sent) and is_told and not kept.status().batches

        until(is_done, go_on)
    assert made.why_broken == ""
    assert not kept.is_broken
    assert made.stop(SECONDS)
    assert kept.close(SECONDS)
    assert sorted(map(id, settled)) == sorted(map(id, sent)), "each is settled once"
    outcomes = [one.segments[0].outcome or Outcome() for one in sent]
    assert [sum(outcome) for outcome in outcomes] == [one.spans for one in sent]
    sums = kept.status().services.get("shop")
    spooled = sum(outcome.spooled for outcome in outcomes)
    assert spooled == (sums.spooled if sums else 0), "nothing is spooled twice"
    if sums is not None:
        assert sums.spooled == sums.delivered + sums.dead_lettered + sums.rejected
    assert set(backend.names) == {name for name in names if not name.startswith("bad")}
    assert letters.status().batches_kept >= 1
    assert letters.status().sums.unaccounted == 0
    return fault.has_struck


def worth_a_fault() -> list[str]:
    return sorted(name for name in CODES if name not in CALLERS and "<" not in name)


@pytest.mark.parametrize("name", every(20, worth_a_fault()))
def test_a_function_that_raises_once_costs_another_attempt(name: str, tmp_path: Path) -> None:
    for nth in (1, 2, 5):
        folder = tmp_path / str(nth)
        folder.mkdir()
        if not deliver(folder, CODES[name], nth):
            break


@pytest.mark.parametrize("name", every(15, HANDING_OVER))
def test_a_function_that_raises_once_while_others_take_over_costs_another_attempt(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_SILENT_SECONDS", 0.0)
    for nth in (1, 2, 5):
        folder = tmp_path / str(nth)
        folder.mkdir()
        deliver(folder, CODES[name], nth, LeavingBackend)


def test_the_functions_that_are_left_out_are_there() -> None:
    assert CALLERS - CODES.keys() == set()
    assert {"Attempts.run", "halves", "Spool._gather", "Spool.take", "Settlement._settle"} <= set(worth_a_fault())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], Delivery]:
    def start(error: BaseException) -> Delivery:
        def advance(_dispatch: object, _hand: object) -> None:
            raise error

        monkeypatch.setattr(dispatch.Dispatch, "advance", advance)
        monkeypatch.setattr(delivery, "_PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
        return Delivery(Backend(), AT_ONCE, 1, done=lambda: None, log=structlog.get_logger())

    return start


@pytest.mark.parametrize("error", [MemoryError("no end of it"), SystemExit(3)], ids=["error", "exit"])
def test_a_thread_that_ends_all_the_same_is_told(
    broken: Callable[[BaseException], Delivery], error: BaseException
) -> None:
    made = broken(error)
    until(lambda: made.why_broken)
    assert repr(error) in made.why_broken
    assert made.stop(SECONDS)
