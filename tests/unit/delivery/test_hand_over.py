"""What waits for a destination that stays away goes to the others, unless it may be there already."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.delivery.batch import Batch
from drain.delivery.breaker import BreakerState
from drain.delivery.hand_over import Presence
from drain.delivery.queue import Send, Wait, Which
from drain.delivery.retry import RetryPolicy
from drain.exporters.gateways.homes import HandedOver, Homes
from drain.exporters.protocol import Result, Verdict
from drain.otlp.destinations import Rendezvous
from drain.otlp.request import Request
from drain.rings.segment import Segment
from drain.spool.spool import SpoolRefusedError
from ringbuf.layout.layout import SpanLayout
from tests.unit.delivery.world import LANE, RING, World

if TYPE_CHECKING:
    from drain.delivery.dispatch import Hand

LAYOUT = SpanLayout(span_names=["work"], attributes=[])
AFTER = 30.0
NAMES = ("a", "b", "c")
TAKEN = Result(Verdict.DELIVERED)
UNREACHABLE = Result(Verdict.RETRY, message="connection refused", is_not_taken=True)
# The body was sent, and nobody knows: in truth, it was taken.
UNKNOWN = {
    "no answer in time": Result(Verdict.RETRY, message="no complete answer within 10 s", is_timeout=True),
    "reset": Result(Verdict.RETRY, message="connection reset by peer"),
}


class Fleet:
    """Gateways, of which "b" is as a test has it, and a drain that sends each trace to its home."""

    def __init__(self, *, has_spool: bool, after: float = AFTER, policy: RetryPolicy | None = None) -> None:
        self.b = TAKEN
        self.handed_over = HandedOver()
        self.homes = Homes({name: name for name in NAMES}, after, self.handed_over)
        self.world = World(lambda _body, _now: TAKEN, has_spool=has_spool, seed=1, policy=policy)
        self.world.partitioner = self.homes  # type: ignore[attr-defined]
        self.world.export = self.export  # type: ignore[method-assign]
        self.at: defaultdict[bytes, list[str]] = defaultdict(list)  # where each trace has arrived
        self.asked = 0
        self.tried: set[bytes] = set()
        self.sent: list[bytes] = []

    def export(self, request: Request) -> Result:
        if not request.spans:
            assert request.destination == "b", "the others are known to be there"
            self.asked += 1
            return self.b
        result = self.b if request.destination == "b" else TAKEN
        for trace in traces_of(request):
            if result is not UNREACHABLE:
                self.at[trace].append(request.destination)
            if result is not TAKEN:
                self.tried.add(trace)
        return result

    def go_on(self, seconds: float, every: float = 0.5) -> None:
        """Let as many seconds go by, in which batches come."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.dispatch.send(self._batch())
            self.world.run(every)

    def _batch(self) -> Batch:
        by_home: defaultdict[str, TracesData] = defaultdict(TracesData)
        records = np.zeros(20, LAYOUT.dtype)
        records["trace_id"] = np.frombuffer(self.world.random.randbytes(20 * 16), np.uint8).reshape(20, 16)
        for record, home in zip(records, self.homes.assign(records, "shop"), strict=True):
            trace = record["trace_id"].tobytes()
            self.sent.append(trace)
            to = by_home[NAMES[home]]
            resource_spans = to.resource_spans or [to.resource_spans.add()]
            scope_spans = resource_spans[0].scope_spans or [resource_spans[0].scope_spans.add()]
            scope_spans[0].spans.append(Span(trace_id=trace, span_id=bytes(8)))
        requests = []
        for home, traces in by_home.items():
            spans = len(traces.resource_spans[0].scope_spans[0].spans)
            requests.append(Request(traces.SerializeToString(), spans, "protobuf", home, {"shop": spans}))
        return Batch(requests, [Segment(RING, LANE, 20, 0)])

    def all_of_b(self) -> set[bytes]:
        homes = Rendezvous(NAMES)
        return {trace for trace in self.sent if homes.home(trace) == "b"}

    def check(self) -> None:
        """Nothing is lost, and nothing is at two gateways."""
        assert set(self.at) == set(self.sent)
        assert {len(set(destinations)) for destinations in self.at.values()} == {1}
        outcomes = self.world.outcomes
        assert outcomes.delivered == len(self.sent)
        assert not self.world.dispatch.in_flight


def traces_of(request: Request) -> list[bytes]:
    traces = TracesData.FromString(request.body)
    return [span.trace_id for one in traces.resource_spans for two in one.scope_spans for span in two.spans]


@pytest.mark.parametrize("has_spool", [False, True])
def test_what_waits_for_one_that_is_away_goes_to_the_others_and_comes_back_with_hysteresis(*, has_spool: bool) -> None:
    with structlog.testing.capture_logs() as lines:
        fleet = Fleet(has_spool=has_spool)
        fleet.b = UNREACHABLE
        fleet.go_on(AFTER - 5)
        assert not {trace for trace in fleet.all_of_b() if fleet.at[trace]}, "it holds"
        for trace in [trace for trace, at in fleet.at.items() if not at]:
            del fleet.at[trace]
        fleet.go_on(10)
        assert set(fleet.at) == set(fleet.sent), "all are at the others, though attempts were in vain"
        assert [fleet.handed_over.of(name) for name in NAMES] == [0, len(fleet.all_of_b()), 0]
        fleet.go_on(60)
        assert 2 <= fleet.asked < 20
        assert (list(fleet.homes.open), list(fleet.homes.left_out)) == (["b"], ["b"])
        fleet.b = TAKEN
        asked, there_again = fleet.asked, fleet.world.now
        while not any("b" in at for at in fleet.at.values()):
            fleet.go_on(1.0)
        assert fleet.world.now - there_again >= AFTER, "it has to be there for a while"
        assert fleet.asked - asked >= 3
        handed_over = fleet.handed_over.of("b")
        fleet.go_on(20)
        fleet.world.run(60)
        fleet.check()
    assert fleet.handed_over.of("b") == handed_over
    assert (list(fleet.homes.open), list(fleet.homes.left_out)) == ([], [])
    events = [line["event"] for line in lines if line["event"].startswith("endpoint")]
    assert events == ["endpoint is away, others get its spans", "endpoint is back and gets its spans again"]


@pytest.mark.parametrize(
    ("has_spool", "unknown"),
    [
        pytest.param(has_spool, UNKNOWN[name], id=f"{has_spool}-{name}", marks=marks)
        for has_spool, name, marks in (  # in `make test` each of these values meets one
            (False, "no answer in time", []),
            (False, "reset", [pytest.mark.prove]),
            (True, "no answer in time", [pytest.mark.prove]),
            (True, "reset", []),
        )
    ],
)
def test_a_part_that_may_be_there_already_never_moves(unknown: Result, *, has_spool: bool) -> None:
    fleet = Fleet(has_spool=has_spool)
    fleet.b = unknown
    fleet.go_on(15)
    fleet.b = UNREACHABLE  # of later attempts it is known: that says nothing of those
    fleet.go_on(AFTER + 20)
    doubtful = {trace for trace, at in fleet.at.items() if at[-1] == "b"}
    assert doubtful
    moved = {trace for trace in fleet.all_of_b() if set(fleet.at[trace]) & {"a", "c"}}
    assert moved
    assert not moved & doubtful
    fleet.go_on(60)
    assert all(set(fleet.at[trace]) == {"b"} for trace in doubtful)
    fleet.b = TAKEN
    fleet.go_on(AFTER + 20)
    fleet.world.run(120)
    fleet.check()
    assert all(len(fleet.at[trace]) > 1 for trace in doubtful), "it was sent again, to its home"


@pytest.mark.parametrize("has_spool", [False, True])
def test_with_hold_all_wait(*, has_spool: bool) -> None:
    fleet = Fleet(has_spool=has_spool, after=0.0)
    fleet.b = UNREACHABLE
    fleet.go_on(AFTER + 20)
    assert not any("b" not in fleet.at[trace] and fleet.at[trace] for trace in fleet.all_of_b())
    for trace in [trace for trace, at in fleet.at.items() if not at]:
        del fleet.at[trace]
    fleet.b = TAKEN
    fleet.world.run(60)
    fleet.check()
    assert fleet.asked == 0


def test_what_an_earlier_process_has_left_in_the_spool_waits() -> None:
    """Nobody knows what it had tried when it was killed."""
    fleet = Fleet(has_spool=True)
    spool = fleet.world.spool
    assert spool is not None
    (part,) = (part for part in fleet._batch().parts if part.destination == "b")
    spool.back(spool.put(part).result())
    fleet.sent = traces_of(part)
    fleet.b = UNREACHABLE
    fleet.world.run(AFTER + 60)
    assert not fleet.at
    fleet.go_on(AFTER + 60)
    assert not set(traces_of(part)) & set(fleet.at)
    fleet.b = TAKEN
    fleet.world.run(60)
    assert {tuple(fleet.at[trace]) for trace in traces_of(part)} == {("b",)}


def test_whether_one_is_back_is_asked_however_much_waits_for_it() -> None:
    fleet = Fleet(has_spool=True)
    spool = fleet.world.spool
    assert spool is not None
    fleet.b = UNREACHABLE
    for _ in range(200):  # which never move, and have not been tried by this process
        for part in fleet._batch().parts:
            if part.destination == "b":
                spool.back(spool.put(part).result())
                fleet.sent += traces_of(part)
    fleet.world.run(AFTER + 30)
    assert list(fleet.homes.left_out) == ["b"]
    asked = fleet.asked
    fleet.world.run(300)
    assert fleet.asked - asked > 5


def test_a_question_goes_before_all_that_is_to_be_moved() -> None:
    fleet = Fleet(has_spool=True)
    fleet.b = UNREACHABLE
    fleet.go_on(AFTER + 30)
    dispatch = fleet.world.dispatch
    route = dispatch._routes.to("b")
    question = route.question
    assert question is not None
    fleet.world.now += 600
    dispatch.send(Batch([Request(b"", 1, "protobuf", "b", {"shop": 1})], [Segment(RING, LANE, 1, 0)]))
    assert dispatch._routes.next_step(route, {}) == Send(question)


def test_where_the_disk_takes_nothing_what_is_handed_over_is_sent_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(has_spool=True)
    assert fleet.world.spool is not None

    def refuse(_entry: object, _requests: object) -> list[object]:
        raise SpoolRefusedError("the disk is full")

    monkeypatch.setattr(fleet.world.spool, "divide", refuse)
    fleet.b = UNREACHABLE
    fleet.go_on(AFTER - 5)
    fleet.go_on(10)
    fleet.world.run(20)
    assert fleet.world.spool.entries == {}
    assert {len(set(at)) for at in fleet.at.values()} == {1}
    assert fleet.world.dispatch._routes.to("b").breaker.is_open, "what others take says nothing of it"
    fleet.check()


def test_where_the_disk_takes_nothing_and_an_other_is_away_too_it_is_not_tried_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(has_spool=True)
    assert fleet.world.spool is not None
    export, tries = fleet.export, 0

    def refuse(_entry: object, _requests: object) -> list[object]:
        raise SpoolRefusedError("the disk is full")

    def export_but_to_a(request: Request) -> Result:
        nonlocal tries
        tries += request.destination == "a"
        return UNREACHABLE if request.destination == "a" else export(request)

    fleet.b = UNREACHABLE
    fleet.go_on(AFTER - 3)
    monkeypatch.setattr(fleet.world.spool, "divide", refuse)
    fleet.world.export = export_but_to_a  # type: ignore[method-assign]
    fleet.go_on(AFTER - 3)  # "a" is away, and not yet for long enough
    assert 10 < tries < 6 * AFTER


def test_what_was_refused_and_cannot_be_kept_waits_in_the_spool_though_its_destination_goes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(has_spool=True)
    spool = fleet.world.spool
    assert spool is not None
    letters = SimpleNamespace(keep=lambda *_: False)
    monkeypatch.setattr(fleet.world.dispatch._attempts, "_dead_letters", letters)
    fleet.b = Result(Verdict.REFUSED, message="not these")
    fleet.go_on(5)
    assert spool.entries
    fleet.b = UNREACHABLE
    fleet.go_on(AFTER + 20)
    take, takes = spool.take, Counter[int]()

    def counted(**which: Any) -> list[Any]:
        taken = take(**which)
        takes.update(entry.stored.id for entry in taken)
        return taken

    monkeypatch.setattr(spool, "take", counted)
    assert list(fleet.homes.left_out) == ["b"]
    fleet.go_on(20)
    assert max(takes.values(), default=0) < 20


def test_while_one_is_away_it_is_asked_for_ever_and_the_question_is_no_dead_letter() -> None:
    fleet = Fleet(has_spool=True, policy=RetryPolicy(elapsed_limit=20.0, random=lambda: 0.5))
    kept: list[int] = []

    def keep(request: Request, *_: object) -> bool:
        kept.append(request.spans)
        return True

    letters: Any = SimpleNamespace(keep=keep)
    fleet.world.dispatch._attempts._dead_letters = letters
    fleet.b = UNREACHABLE
    fleet.go_on(AFTER + 120)
    assert fleet.asked
    assert 0 not in kept


@pytest.mark.parametrize("has_spool", [False, True])
def test_of_an_attempt_in_which_something_broke_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, *, has_spool: bool
) -> None:
    fleet = Fleet(has_spool=has_spool)
    dispatch = fleet.world.dispatch
    goes_on = dispatch._attempts._goes_on
    (part,) = (part for part in fleet._batch().parts if part.destination == "b")

    def break_once(*_: object) -> bool:
        monkeypatch.setattr(dispatch._attempts, "_goes_on", goes_on)
        raise MemoryError

    monkeypatch.setattr(dispatch._attempts, "_goes_on", break_once)
    dispatch.send(Batch([part], [Segment(RING, LANE, part.spans, 0)]))
    hand = dispatch.hand()
    with pytest.raises(MemoryError) as broke:
        dispatch.advance(hand)
    assert set(fleet.at) == set(traces_of(part)), "it was sent"
    hand.error = MemoryError(broke.value)
    fleet.b = UNREACHABLE
    dispatch.advance(hand)
    fleet.world.run(AFTER + 60)
    fleet.go_on(10)
    fleet.world.run(10)
    assert {tuple(fleet.at[trace]) for trace in traces_of(part)} == {("b",)}, "at no other"


@pytest.mark.parametrize("name", ["_forget", "_note_sure"])
def test_what_breaks_when_the_disk_has_the_pieces_sends_none_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(has_spool=True)
    dispatch, spool = fleet.world.dispatch, fleet.world.spool
    storing = dispatch._storing
    assert spool is not None
    assert storing is not None
    advance, divide, is_armed, strikes = dispatch.advance, spool.divide, False, 0

    def striking(of_storing: Any) -> Any:
        def strike(*arguments: Any) -> Any:
            nonlocal is_armed, strikes
            if is_armed:
                is_armed, strikes = False, strikes + 1
                raise MemoryError
            return of_storing(*arguments)

        return strike

    def divide_and_arm(entry: Any, requests: Any) -> Any:
        nonlocal is_armed
        made = divide(entry, requests)
        is_armed = strikes < 3
        return made

    def advance_as_a_thread(hand: Hand) -> Wait | None:
        try:
            return advance(hand)
        except MemoryError as error:
            hand.error = error
            return Wait(0.05)

    fleet.b = UNREACHABLE
    fleet.go_on(AFTER - 3)
    monkeypatch.setattr(storing, name, striking(getattr(storing, name)))
    monkeypatch.setattr(spool, "divide", divide_and_arm)
    monkeypatch.setattr(dispatch, "advance", advance_as_a_thread)
    fleet.go_on(10)
    fleet.b = TAKEN
    fleet.world.run(AFTER + 30)
    assert strikes == 3
    assert {len(fleet.at[trace]) for trace in fleet.all_of_b()} == {1}, "each is sent once"
    fleet.check()


def test_when_all_are_away_nobody_takes_over() -> None:
    fleet = Fleet(has_spool=True)
    is_away = True
    export = fleet.export

    def away(request: Request) -> Result:
        return UNREACHABLE if is_away else export(request)

    fleet.world.export = away  # type: ignore[method-assign]
    fleet.go_on(AFTER + 30)
    assert [fleet.handed_over.of(name) for name in NAMES] == [0, 0, 0]
    is_away = False
    fleet.world.export = lambda request: TAKEN if not request.spans else export(request)  # type: ignore[method-assign]
    fleet.world.run(120)
    assert {at[0] == Rendezvous(NAMES).home(trace) for trace, at in fleet.at.items()} == {True}
    fleet.check()


def test_what_an_error_came_between_is_not_forgotten_with_its_destination_that_has_gone() -> None:
    fleet = Fleet(has_spool=False)
    dispatch = fleet.world.dispatch
    (part,) = (part for part in fleet._batch().parts if part.destination == "b")
    fleet.sent = traces_of(part)
    dispatch.send(Batch([part], [Segment(RING, LANE, part.spans, 0)]))
    hand = dispatch.hand()
    dispatch._take_up(hand)
    fleet.world.partitioner = Homes({name: name for name in ("a", "c")}, AFTER)  # type: ignore[attr-defined]
    fleet.world.run(2)
    hand.error = MemoryError()
    dispatch.advance(hand)
    fleet.world.run(60)
    fleet.check()


def test_of_addresses_that_have_gone_nothing_stays_but_the_count_of_answers() -> None:
    fleet = Fleet(has_spool=True)
    fleet.go_on(5)
    answers = fleet.world.dispatch.answers
    for number in range(5):
        fleet.world.partitioner = Homes(  # type: ignore[attr-defined]
            {name: name for name in ("a", f"new {number}")}, AFTER
        )
        fleet.world.run(2)
    assert {route.destination for route in fleet.world.dispatch._routes.known()} == {"a"}
    assert fleet.world.dispatch.answers == answers
    storing = fleet.world.dispatch._storing
    assert storing is not None
    storing._look_at["b", Which.ANY] = 0.0
    storing._sure["b"] = {}
    fleet.world.dispatch._routes.to("b")
    fleet.world.run(2)
    assert "b" not in {destination for destination, _ in storing._look_at} | storing._sure.keys()


@pytest.mark.parametrize(
    ("states", "counts_as_away"),
    [
        ([(0, BreakerState())], False),
        ([(29, BreakerState(is_open=True, open_since=0))], False),
        ([(30, BreakerState(is_open=True, open_since=0))], True),
        ([(30, BreakerState(is_open=True, open_since=0)), (59, BreakerState(back_at=30))], True),
        ([(30, BreakerState(is_open=True, open_since=0)), (60, BreakerState(back_at=30))], False),
        ([(30, BreakerState(is_open=True, open_since=0)), (60, BreakerState(back_at=30, failed_at=40))], True),
        ([(30, BreakerState(is_open=True, open_since=0)), (70, BreakerState(back_at=30, failed_at=40))], False),
    ],
)
def test_away_is_who_is_so_for_long_and_back_is_who_is_so_for_as_long(
    states: list[tuple[float, BreakerState]], *, counts_as_away: bool
) -> None:
    presence = Presence(AFTER)
    for now, breaker in states:
        changes_in = presence.seconds_until_change(breaker, now)
        assert presence.look(breaker, now) == (changes_in == 0)
    assert presence.is_away == counts_as_away
