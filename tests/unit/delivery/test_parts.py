"""Each destination has its queue and its breaker: one that is away, or hangs, keeps nothing from the others."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter, deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.delivery import Delivery
from drain.delivery.dispatch import WAITING_BYTES, Dispatch
from drain.delivery.letter_file import SUFFIX, read_letters
from drain.delivery.request_size import ANY_SIZE
from drain.delivery.retry import RetryPolicy
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import GroupExporter, Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from tests.unit.delivery.world import LANE, RING, FakeSpool, World, batch_of_parts
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from drain.otlp.request import Encoding

TAKEN, AWAY = Result(Verdict.DELIVERED), Result(Verdict.RETRY, message="away")
SEED = int(os.environ.get("RINGBUF_TEST_SEED") or 1)


@pytest.fixture(autouse=True)
def tell_seed() -> None:
    print(f"RINGBUF_TEST_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails


def send(world: World, count: int, *destinations: str) -> None:
    """Send so many batches of a part for each destination, ten a second."""
    for number in range(count):
        world.dispatch.send(batch_of_parts(*(f"{name}:{number}".encode() for name in destinations)))
        world.run(0.1)


def delivered_to(world: World) -> Counter[str]:
    return Counter(body.partition(b":")[0].decode() for body in world.delivered)


def test_what_is_for_others_goes_on_while_a_destination_is_away_and_only_its_parts_are_stored() -> None:
    is_away = True
    world = World(lambda body, _now: AWAY if is_away and body.startswith(b"b:") else TAKEN, has_spool=True, seed=SEED)
    send(world, 50, "a", "b", "c")
    world.run(1.0)
    assert delivered_to(world) == {"a": 50, "c": 50}
    assert len(world.settled) == 50, "no batch waits for the destination that is away"
    assert world.spool is not None
    assert (world.spool.puts, world.spool.destinations()) == (50, {"b"}), "delivered parts never enter the spool"
    tried = sum(body.startswith(b"b:") for _, body in world.attempts)
    assert tried < 40, "it is not hammered, though the others answer"
    is_away = False
    world.run(120.0)
    assert delivered_to(world) == {"a": 50, "b": 50, "c": 50}
    assert world.outcomes == Outcome(delivered=150)


def test_without_a_spool_the_parts_that_were_delivered_are_not_sent_again() -> None:
    is_away = True
    world = World(lambda body, _now: AWAY if is_away and body.startswith(b"b:") else TAKEN, has_spool=False, seed=SEED)
    send(world, 30, "a", "b")
    assert delivered_to(world) == {"a": 30}
    assert not world.settled, "the records are released with the last part"
    assert world.dispatch.in_flight == 30
    is_away = False
    world.run(120.0)
    assert delivered_to(world) == {"a": 30, "b": 30}
    assert [batch.segments[0].outcome for batch in world.settled] == [Outcome(delivered=2)] * 30
    assert not world.dispatch.is_backend_down


def test_the_backend_is_down_when_every_destination_is() -> None:
    down = {"a"}
    world = World(lambda body, _now: AWAY if body[:1].decode() in down else TAKEN, has_spool=True, seed=SEED)
    send(world, 30, "a", "b")
    assert not world.dispatch.is_backend_down
    down.add("b")
    send(world, 60, "a", "b")
    assert world.dispatch.is_backend_down


def test_one_that_hangs_makes_no_request_to_another_smaller() -> None:
    """Its requests get no answer in time, and are halved; the others are as large as ever."""
    hung = Result(Verdict.RETRY, message="no answer within 10 s", is_timeout=True)
    world = World(lambda _body, _now: TAKEN, has_spool=True, seed=SEED)
    taken: list[int] = []

    def export(request: Request) -> Result:
        if request.destination == "b":
            return hung
        taken.append(request.spans)
        return TAKEN

    world.export = export  # type: ignore[method-assign]
    for _ in range(40):
        parts = [spans_for(name, 64) for name in ("a", "b")]
        world.dispatch.send(Batch(parts, [Segment(RING, LANE, 128, 0)]))
        world.run(5.0)
    assert taken == [64] * 40
    assert world.dispatch.most_spans == ANY_SIZE, "batches, too"


def test_of_a_spool_for_destinations_that_are_gone_memory_has_little_while_one_is_away() -> None:
    """Each row is cut anew: what one takes of it is not sent again, while the rest waits for the other."""
    is_away = True
    world = World(lambda _body, _now: TAKEN, has_spool=True, seed=SEED)
    taken: Counter[bytes] = Counter()

    def export(request: Request) -> Result:
        if request.destination == "b" and is_away:
            return AWAY
        taken.update(trace_ids_of(request))
        return TAKEN

    world.export = export  # type: ignore[method-assign]
    partitioner = SimpleNamespace(names=("a", "b"), home=lambda trace_id, _service: "ab"[trace_id[0] % 2])
    world.partitioner = partitioner  # type: ignore[attr-defined]
    assert world.spool is not None
    for _ in range(100):
        world.spool.back(world.spool.put(spans_for("gone", 8)).result())
    world.run(60.0)
    in_memory = sum(len(route.waiting) for route in world.dispatch._routes.known())
    assert in_memory <= 2 * 4, "as many as there are threads, of each destination"
    is_away = False
    world.run(600.0)
    assert (len(taken), set(taken.values())) == (800, {1}), "each once"
    assert world.spool.entries == {}


def test_what_is_delivered_of_a_part_that_was_cut_is_released_and_the_rest_is_spooled() -> None:
    world = World(lambda _body, _now: TAKEN, has_spool=True, seed=SEED)
    taken: list[int] = []

    def export(request: Request) -> Result:
        if request.spans > 32:
            return Result(Verdict.TOO_LARGE)
        if taken:
            return AWAY
        taken.append(request.spans)
        return TAKEN

    world.export = export  # type: ignore[method-assign]
    world.dispatch.send(Batch([spans_for("a", 64)], [Segment(RING, LANE, 64, 0)]))
    world.run(5.0)
    assert world.spool is not None
    assert [entry.request.spans for entry in world.spool.entries.values()] == [32], "the other half was delivered"
    assert world.outcomes == Outcome(delivered=32, spooled=1)
    taken.clear()
    world.run(60.0)
    assert world.outcomes == Outcome(delivered=64)


def test_of_a_spooled_part_that_was_cut_memory_has_what_is_left() -> None:
    world = World(lambda _body, _now: TAKEN, has_spool=True, seed=SEED)
    request, taken = spans_for("", 64), []

    def export(request: Request) -> Result:
        if request.spans > 16:
            return Result(Verdict.TOO_LARGE, is_about_size=True)
        taken.append(request.spans)
        return TAKEN if len(taken) < 4 else AWAY

    world.export = export  # type: ignore[method-assign]
    assert world.spool is not None
    world.spool.back(world.spool.put(request).result())
    world.run(1.0)
    (job,) = (job for route in world.dispatch._routes.known() for job in route.waiting)
    assert job.entry is not None
    kept = {id(one): one.memory_bytes for one in (*job.left, job.request, job.entry.request)}
    assert sum(kept.values()) < request.body_bytes / 3
    assert job.memory_bytes == job.left[0].memory_bytes
    taken.clear()
    world.run(60.0)
    assert world.outcomes == Outcome(delivered=64)


def test_a_dead_letter_says_which_of_several_endpoints_refused_it(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
    world = World(lambda _body, _now: TAKEN, has_spool=False, seed=SEED, dead_letters=letters)
    world.endpoint = "http://a/v1/traces, http://b/v1/traces"
    world.export = lambda request: (  # type: ignore[method-assign]
        Result(Verdict.REFUSED, message="no") if request.destination == "http://b" else TAKEN
    )
    parts = [spans_for(name, 4) for name in ("http://a", "http://b")]
    world.dispatch.send(Batch(parts, [Segment(RING, LANE, 8, 0)]))
    world.run(1.0)
    (path,) = (tmp_path / "letters").glob(f"*{SUFFIX}")
    with path.open("rb") as file:
        assert [letter.endpoint for letter in read_letters(file)] == ["http://b"]


def spans_for(destination: str, count: int) -> Request:
    """Return a request of so many spans, every second of which has its home at "b"."""
    traces = TracesData()
    spans = traces.resource_spans.add().scope_spans.add().spans
    spans.extend(Span(trace_id=bytes([number]) + os.urandom(15), span_id=bytes(8)) for number in range(count))
    return Request(traces.SerializeToString(), count, "protobuf", destination, {"shop": count})


def trace_ids_of(request: Request) -> list[bytes]:
    (resource_spans,) = TracesData.FromString(request.body).resource_spans
    return [span.trace_id for span in resource_spans.scope_spans[0].spans]


class Together:
    """Takes requests for several destinations at once; each is judged for itself."""

    encoding: Encoding = "protobuf"
    endpoint = "together"
    most_together = 3

    def __init__(self, judge: Callable[[str], Result]) -> None:
        self.calls: list[list[str]] = []
        self._judge = judge

    def export(self, request: Request) -> Result:
        return self.export_together([request])[0]

    def export_together(self, requests: Sequence[Request]) -> Sequence[Result]:
        self.calls.append([request.destination for request in requests])
        return [self._judge(request.destination) for request in requests]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("is_measured", [False, True])
def test_an_exporter_takes_those_that_are_ready_together(*, is_measured: bool) -> None:
    together = Together(lambda destination: AWAY if destination == "2" else TAKEN)
    measured = MeasuredExporter(together)
    exporter: GroupExporter = measured if is_measured else together
    assert isinstance(exporter, GroupExporter)
    dispatch = dispatch_of(exporter)
    hand = dispatch.hand()
    sent = [batch_of_parts(b"0:", b"1:", b"2:", b"3:"), batch_of_parts(b"3:x")]
    for batch in sent:
        dispatch.send(batch)
    assert dispatch.advance(hand) is None
    assert dispatch.settled() == []
    assert dispatch.advance(hand) is None
    assert together.calls == [["0", "1", "2"], ["3"]], "of each destination one, and no more than it takes"
    assert dispatch.advance(hand) is None
    assert dispatch.settled() == [sent[1]], "the first has a part that failed"
    if is_measured:
        assert measured.state().attempts == {"delivered": 4, "retry": 1, "refused": 0, "too large": 0}


def dispatch_of(exporter: Any, spool: Any = None, clock: Callable[[], float] = lambda: 0.0) -> Dispatch:
    return Dispatch(
        exporter,
        RetryPolicy(initial=60, maximum=60),
        1,
        done=lambda: None,
        log=structlog.get_logger(),
        clock=clock,
        spool=spool,
        spool_after=0.0,
        dead_letters=None,
    )


class Hanging:
    """One destination never answers until the test says so."""

    encoding: Encoding = "protobuf"
    endpoint = "hanging"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.hanging = 0

    def export(self, request: Request) -> Result:
        if request.destination == "hole":
            self.hanging += 1
            assert self.go.wait(SECONDS)
        return TAKEN

    def close(self) -> None:
        pass


@pytest.fixture
def hanging() -> Iterator[tuple[Hanging, Delivery]]:
    exporter = Hanging()
    delivery = Delivery(exporter, RetryPolicy(), 4, done=lambda: None, log=structlog.get_logger())
    yield exporter, delivery
    exporter.go.set()
    assert delivery.stop(SECONDS)


def test_a_destination_that_hangs_takes_no_thread_that_another_needs(hanging: tuple[Hanging, Delivery]) -> None:
    exporter, delivery = hanging
    settled: list[Batch] = []
    delivery.send(batch_of_parts(b"well:first"))  # it is known from then on
    until(lambda: settled, lambda: settled.extend(delivery.settled()))
    for number in range(8):
        delivery.send(batch_of_parts(b"hole:%d" % number))
    until(lambda: exporter.hanging == 3)
    delivery.send(batch_of_parts(b"well:second"))
    until(lambda: len(settled) == 2, lambda: settled.extend(delivery.settled()))
    assert exporter.hanging == 3, "of four threads, one is kept"
    exporter.go.set()
    until(lambda: len(settled) == 10, lambda: settled.extend(delivery.settled()))


class Fleet:
    """Destinations that are away at times, refuse, or answer so that nobody hears it; and a drain that is killed."""

    encoding: Encoding = "protobuf"
    endpoint = "fleet"

    def __init__(self, seed: int, *, has_spool: bool) -> None:
        self.random = random.Random(seed)  # noqa: S311 - it guards nothing
        self.most_together = self.random.choice((1, 2, 5))
        self.destinations = [str(number) for number in range(self.random.randint(1, 6))]
        self.now = 0.0
        self.spool = FakeSpool(lambda: self.now) if has_spool else None
        self.taken: Counter[bytes] = Counter()
        self.refused: set[bytes] = set()
        self.down: set[str] = set()
        self.rings: deque[tuple[bytes, ...]] = deque()
        self.under_way: dict[int, tuple[Batch, tuple[bytes, ...]]] = {}
        self.released: Counter[bytes] = Counter()
        self.sums = Outcome()
        self.stored_in_vain = 0  # in the spool, and in the rings: a kill came in between
        self.start()

    def start(self) -> None:
        self.dispatch = Dispatch(
            self,
            RetryPolicy(random=self.random.random),
            3,
            done=lambda: None,
            log=structlog.get_logger(),
            clock=lambda: self.now,
            spool=self.spool,  # type: ignore[arg-type]  # a fake
            spool_after=0.3,
            dead_letters=None,
        )
        self.hands = [self.dispatch.hand() for _ in range(3)]

    def kill(self) -> None:
        """End the drain as SIGKILL does: what is not released is in the rings, what is stored is in the spool."""
        for batch, bodies in self.under_way.values():
            self.rings.append(bodies)
            self.stored_in_vain += sum(verdict is not None and verdict.spooled for verdict in batch._verdicts)
        self.under_way.clear()
        if self.spool is not None:
            self.spool._not_before = dict.fromkeys(self.spool._not_before, 0.0)
        self.start()

    def export(self, request: Request) -> Result:
        return self.export_together([request])[0]

    def export_together(self, requests: Sequence[Request]) -> Sequence[Result]:
        assert len({request.destination for request in requests}) == len(requests) <= self.most_together
        return [self._judged(request) for request in requests]

    def _judged(self, request: Request) -> Result:
        assert request.body.startswith(request.destination.encode() + b":")
        if request.destination in self.down:
            return AWAY
        chance = self.random.random()
        if chance < 0.05:
            self.refused.add(request.body)
            return Result(Verdict.REFUSED)
        self.taken[request.body] += 1
        return AWAY if chance < 0.1 else TAKEN  # taken, and nobody hears it

    def close(self) -> None:
        pass

    def step(self) -> None:
        self.now += self.random.choice((0.01, 0.1, 1.0))
        for destination in self.destinations:
            if self.random.random() < 0.05:
                self.down ^= {destination}
        while self.rings and self.dispatch.has_room:
            bodies = self.rings.popleft()
            batch = batch_of_parts(*bodies)
            self.under_way[id(batch)] = (batch, bodies)
            self.dispatch.send(batch)
        self.dispatch.spool_late()
        for hand in self.hands:
            self.dispatch.advance(hand)
        self.settle()

    def settle(self) -> None:
        for batch in self.dispatch.settled():
            _, bodies = self.under_way.pop(id(batch))  # raises for one that is settled twice
            self.released.update(bodies)
            outcome = batch.segments[0].outcome
            assert outcome is not None
            assert sum(outcome) == len(bodies)
            self.sums = Outcome(*map(sum, zip(self.sums, outcome, strict=True)))


@pytest.mark.parametrize("has_spool", [False, True])
@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 80), marks=pytest.mark.prove)], ids=["few", "many"])
def test_whatever_becomes_of_the_parts_every_span_is_accounted_once(seeds: range, *, has_spool: bool) -> None:
    for seed in (SEED + number for number in seeds):
        fleet = Fleet(seed, has_spool=has_spool)
        sent = [
            tuple(
                f"{name}:{number}".encode()
                for name in fleet.random.sample(fleet.destinations, fleet.random.randint(1, len(fleet.destinations)))
            )
            for number in range(60)
        ]
        fleet.rings.extend(sent)
        for _ in range(150):
            fleet.step()
            if fleet.random.random() < 0.02:
                fleet.kill()
        fleet.down.clear()
        for _ in range(5000):
            if len(fleet.released) == sum(map(len, sent)) and not (fleet.spool and fleet.spool.entries):
                break
            fleet.step()
            fleet.down.clear()
        bodies = [body for one in sent for body in one]
        assert fleet.released == Counter(bodies), f"seed {seed}: each is released once"
        assert set(bodies) == fleet.taken.keys() | fleet.refused, f"seed {seed}: nothing is lost"
        assert sum(fleet.sums) == len(bodies), f"seed {seed}"
        if fleet.spool is not None:
            became = Outcome(*map(sum, zip(Outcome(), *fleet.spool.outcomes, strict=True)))
            assert sum(became) == fleet.sums.spooled + fleet.stored_in_vain, f"seed {seed}: the spool's law"


def test_parts_that_wait_in_memory_are_bounded_without_a_spool() -> None:
    world = World(lambda body, _now: AWAY if body.startswith(b"b:") else TAKEN, has_spool=False, seed=SEED)
    share = bytes(WAITING_BYTES // 8)
    for number in range(20):
        if world.dispatch.has_room:
            world.dispatch.send(batch_of_parts(b"a:%d" % number, b"b:%d" % number + share))
        world.run(2.0)
    assert 8 <= world.dispatch.in_flight <= 9, "what is behind it stays in the rings"
    assert delivered_to(world)["a"] == world.dispatch.in_flight
