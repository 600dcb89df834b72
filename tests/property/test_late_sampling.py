"""Late sampling over random lives of the drain, killed between any two steps: lanes, hold, decisions, deliveries.

Each trace is whole, or wholly out, but for what is counted; both laws hold after each step. A trace whose
spans came in one look has the fate that the plain sampler gives it, whatever was killed when.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, defaultdict, deque
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch, Batcher
from drain.otlp.encoder import to_resource_spans
from drain.rings.segment import Lane
from drain.sampling.hold import chunk, decisions
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.sampler import Sampler
from drain.sampling.seen_span import seen_spans
from drain.sampling.trace_state import stated
from drain.service.lane_holder import LaneHolder
from drain.service.late_sampling import LateSampling
from ringbuf._ringbuf import lib
from ringbuf.sampling import THRESHOLDS
from tests.conftest import SESSION, SHM
from tests.examples import examples
from tests.property.test_hold import KilledError
from tests.service.draining import LAYOUT, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.rings.segment import Segment

SECOND: Final = 10**9
ERROR: Final = 2
QUIET: Final = structlog.wrap_logger(
    structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger("critical")
)
ERRORS: Final = Rule("errors", statuses=frozenset({ERROR}))
SLOW: Final = Rule("slow", longer_than_nano=SECOND, ratio=0.5)
# In the first a trace may be dropped of which one span by itself meets a rule that keeps all.
RULE_SETS: Final = tuple(
    (*rules, Rule(DEFAULT, ratio=default))
    for rules, default in [
        ((SLOW, ERRORS), 0.1),
        ((ERRORS, Rule("servers", kinds=frozenset({2}), ratio=0.5)), 0.25),
        ((Rule("large", trace_spans_at_least=3, ratio=0.25), ERRORS), 0.0),
        ((Rule("work", spans=("w*",), trace_longer_than_nano=SECOND), SLOW), 0.5),
    ]
)
ROOT_THRESHOLDS: Final = (0, 1, 1 + (1 << 55))
FIRST_POSITION: Final = 2**64 - 40  # positions wrap
SERVICES: Final = ("shop", "store")


class Steps:
    """Counts what leaves a trace outside the process, and is the end of it at one of them."""

    def __init__(self) -> None:
        self.left = 10**9
        self.before = False

    def kill_at(self, steps: int, *, before: bool) -> None:
        self.left, self.before = steps, before

    def passed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0 or (self.before and self.left == 0):
                raise KilledError
            result = call(*arguments, **options)
            if self.left == 0:
                raise KilledError
            return result

        return step


class SteppedLib:
    """The C library, whose calls into chunks are steps."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(lib, name)
        is_step = name in ("rb_chunk_begin", "rb_chunk_append", "rb_chunk_settle")
        return self._steps.passed(found) if is_step else found


@pytest.fixture(scope="module")
def steps() -> Iterator[Steps]:
    with pytest.MonkeyPatch.context() as patch:
        made = Steps()
        patch.setattr(chunk, "lib", SteppedLib(made))
        patch.setattr(decisions.Decisions, "append", made.passed(decisions.Decisions.append))
        yield made


class Published:
    """What is in the shared memory of a ring of one lane: it outlives every drain."""

    def __init__(self, number: int, root_threshold: int) -> None:
        self.number, self.root_threshold = number, root_threshold
        self.records = np.zeros(0, LAYOUT.dtype)
        self.head = 0
        self.words = Outcome()

    def check_law(self) -> None:
        assert sum(self.words) == self.head <= len(self.records)


class Attached:
    """A ring as a drain has it, with as much as `LaneHolder` asks of one."""

    def __init__(self, published: Published, steps: Steps) -> None:
        self._published, self._steps = published, steps
        self.layout = LAYOUT
        self.service = SERVICES[published.number]
        self.resource = {"service.name": self.service}
        self.root_threshold = published.root_threshold
        self.owner = 0
        self.file = SimpleNamespace(inode=1000 + published.number)
        self.created_unix_nano = 7 + published.number
        self.capacity_slots = 1 << 16
        self.lanes = [Lane(0)]
        self._read = published.head

    def ready(self, _lane: Lane) -> int:
        return len(self._published.records) - self._read

    def next_count(self, lane: Lane, most: int) -> int:
        return min(most, self.ready(lane))

    def next_position(self, _lane: Lane) -> int:
        return (FIRST_POSITION + self._read) % 2**64

    def copy(self, lane: Lane, most: int) -> np.ndarray[Any, Any]:
        count = self.next_count(lane, most)
        self._read += count
        return self._published.records[self._read - count : self._read].copy()

    def release(self, lane: Lane, *, are_stored: bool = False) -> None:  # noqa: ARG002 - as a ring has it
        self._steps.passed(self._release)(lane)

    def _release(self, lane: Lane) -> None:
        while lane.segments:
            segment: Segment = lane.segments.popleft()
            assert segment.outcome is not None
            self._published.words = Outcome(
                *(word + more for word, more in zip(self._published.words, segment.outcome, strict=True))
            )
            self._published.head += sum(segment.outcome)


class World:
    """Rings, a folder, a receiver, a clock; and one drain after the other."""

    def __init__(self, folder: Path, steps: Steps, root_threshold: int, *, is_head_open: bool) -> None:
        self.folder, self.steps, self.is_head_open = folder, steps, is_head_open
        self.now_nano = 1_000 * SECOND
        self.published = [Published(number, root_threshold) for number in range(len(SERVICES))]
        self.delivered: dict[int, Any] = {}
        self.copies: Counter[int] = Counter()
        self.counted: Counter[int] = Counter()  # in the span metrics, of all drains
        self.kills = 0
        self.rule_set = 0

    def rules(self, rule_set: int) -> Rules:
        return Rules(RULE_SETS[rule_set], is_head_open=self.is_head_open)

    def open(self, rule_set: int) -> None:
        self.rule_set = rule_set
        log = QUIET
        self.hold = Hold(self.folder, 1 << 20, chunk_bytes=1 << 16, log=log, clock_nano=lambda: self.now_nano)
        self.batcher = Batcher("protobuf", 50, 1 << 20)
        self.late = LateSampling(
            self.hold,
            self.rules(rule_set),
            self.batcher,
            "protobuf",
            batch_bytes=1 << 20,
            log=log,
            clock=lambda: self.now_nano / SECOND,
            clock_nano=lambda: self.now_nano,
        )
        self.lanes = LaneHolder(self.late, self._count)
        self.counted_here: Counter[int] = Counter()
        self.rings: list[Any] = [Attached(one, self.steps) for one in self.published]
        self.sent: deque[Batch] = deque()

    def look(self, number: int) -> None:
        ring = self.rings[number]
        (lane,) = ring.lanes
        while ring.ready(lane):
            assert self.lanes.read(ring, lane, 10_000) is not None

    def _count(self, _ring: Any, spans: np.ndarray[Any, Any]) -> None:
        numbers = spans["number"].tolist()
        self.counted_here.update(numbers)
        self.counted.update(numbers)
        assert set(self.counted_here.values()) <= {1}, "a drain has counted a span twice"

    def decide(self) -> None:
        self.late.decide(self.now_nano)

    def export(self) -> None:
        """Let the receiver have what is in batches; the drain does not know of it yet."""
        self.batcher.close()
        while self.batcher.full:
            batch = self.batcher.full.popleft()
            for number, part in enumerate(batch.parts):
                self.steps.passed(self._receive)(part.body)
                batch.decide(number, Outcome(delivered=part.spans))
            self.sent.append(batch)

    def settle(self) -> None:
        self.late.settle(self.sent)
        self.sent.clear()

    def _receive(self, body: bytes) -> None:
        for message in TracesData.FromString(body).resource_spans:
            for span in message.scope_spans[0].spans:
                number = number_of(span)
                before = self.delivered.setdefault(number, span)
                assert before.trace_state == span.trace_state, "another time it stands for another number"
                self.copies[number] += 1

    def check_laws(self) -> None:
        sums = self.hold.sums().values()
        assert [one.unaccounted for one in sums] == [0] * len(sums)
        assert sum(one.waiting for one in sums) == self.late.waiting
        assert sum(one.lost + one.invalid for one in sums) == 0
        for published in self.published:
            published.check_law()

    def finish(self) -> None:
        for number in range(len(self.rings)):
            self.look(number)
        while self.late.waiting:
            self.now_nano += SECOND
            self.decide()
            self.export()
            self.settle()
            self.check_laws()
        assert all(one.head == len(one.records) for one in self.published)
        self.late.close()


spans_of_traces = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, ERROR]),  # status
        st.sampled_from([1, 2, 3]),  # kind
        st.sampled_from([0, 0, 2 * SECOND]),  # duration
    ),
    min_size=1,
    max_size=5,
)
traces = st.tuples(
    st.integers(0, THRESHOLDS - 1) | st.sampled_from([0, 1 << 55, (1 << 55) - 1, THRESHOLDS - 1]),  # R
    st.integers(0, 1),  # whose root
    st.booleans(),  # all at once, in one ring; else one look each, in both
    st.booleans(),  # the root's ring's sampler decided
    spans_of_traces,
)
walks = st.lists(
    st.sampled_from(
        ["emit", "emit", "look", "look", "look", "decide", "export", "settle", "tend", "time", "kill", "renew"]
    ),
    min_size=10,
    max_size=60,
)


class Producers:
    """Emit traces, some of them bit by bit, and know which spans are of which."""

    def __init__(self, world: World, drawn: list[Any]) -> None:
        self.world = world
        self.by_trace: dict[int, list[int]] = defaultdict(list)
        self.records: dict[int, np.ndarray[Any, Any]] = {}
        self.is_whole: dict[int, bool] = {}
        self.pieces: deque[tuple[int, int, list[np.ndarray[Any, Any]]]] = deque()
        for trace, (random, ring, at_once, is_consistent, spans) in enumerate(drawn):
            made = [self._record(trace, random, at, span, is_consistent=is_consistent) for at, span in enumerate(spans)]
            self.is_whole[trace] = at_once
            if at_once:
                self.pieces.append((trace, ring, made))
            else:
                self.pieces += [(trace, (ring + at) % 2, [one]) for at, one in enumerate(made)]

    def _record(self, trace: int, random: int, at: int, span: Any, *, is_consistent: bool) -> np.ndarray[Any, Any]:
        record = np.zeros(1, LAYOUT.dtype)
        number = len(self.records)
        status, kind, duration = span
        identity = (1 + trace).to_bytes(9, "big") + random.to_bytes(7, "big")
        record["trace_id"] = np.frombuffer(identity, np.uint8)
        record["span_id"] = np.frombuffer((1 + number).to_bytes(8, "big"), np.uint8)
        record["parent_span_id"] = 0 if at == 0 else 1
        record["status"], record["kind"] = status, kind
        record["start_unix_nano"], record["end_unix_nano"] = 5, 5 + duration
        record["flags"] = 0x101 | lib.RB_SPAN_RANDOM * is_consistent
        record["number"], record["present"] = number, 1
        if is_consistent and at > 0 and number % 2:  # the others are of another process, or of a producer of before
            record["present"] |= np.uint32(lib.RB_PRESENT_ROOT_THRESHOLD)
        self.by_trace[trace].append(number)
        self.records[number] = record
        return record

    def emit(self, most: int = 3) -> None:
        for _ in range(min(most, len(self.pieces))):
            _, ring, records = self.pieces.popleft()
            published = self.world.published[ring]
            published.records = np.concatenate([part.view(np.uint8) for part in (published.records, *records)]).view(
                LAYOUT.dtype
            )

    def kept_by(self, trace: int, rules: Rules, root_threshold: int) -> dict[int, int | None]:
        """Return what the plain sampler keeps of a trace whose spans come at once, and what each states."""
        sampler = Sampler(rules)
        numbers: dict[int, int] = {}
        fates: list[tuple[Any, Any]] = []
        for number in self.by_trace[trace]:
            message = to_resource_spans(self.records[number], LAYOUT, {"service.name": "shop"}, root_threshold)
            (span,) = seen_spans(TracesData(resource_spans=[message]))
            numbers[id(span)] = number
            fates += [(span, fate) for fate in sampler.take(span, 0)]  # which keeps the span, and so its id
        fates += [(None, fate) for fate in sampler.decide_due()]
        return {numbers[id(fate.span)]: fate.threshold for _, fate in fates if fate.is_kept}


@settings(max_examples=examples(60))
@given(
    drawn=st.lists(traces, min_size=1, max_size=12),
    walk=walks,
    rule_sets=st.lists(st.integers(0, len(RULE_SETS) - 1), min_size=1, max_size=4),
    kills=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=8),
    root_threshold=st.sampled_from(ROOT_THRESHOLDS),
    is_head_open=st.booleans(),
)
@example(  # nothing is killed, and the walk ends with what is delivered and not settled
    drawn=[(0, 0, False, False, [(ERROR, 1, 0)])],
    walk=["emit", "look", "look", "time", "decide", "export"],
    rule_sets=[1],
    kills=[],
    root_threshold=0,
    is_head_open=False,
)
def test_a_kill_between_any_two_steps_tears_no_trace_and_changes_no_decision(
    drawn: list[Any],
    walk: list[str],
    rule_sets: list[int],
    kills: list[tuple[int, bool]],
    root_threshold: int,
    is_head_open: bool,
    steps: Steps,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    try:
        world = World(folder / "hold", steps, root_threshold, is_head_open=is_head_open)
        producers = Producers(world, drawn)
        lives(world, producers, walk, rule_sets, kills)
        check(world, producers, rule_sets, root_threshold)
    finally:
        steps.kill_at(10**9, before=False)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("rule_sets", "is_at_once"),
    [
        ([0, 3], True),
        *(pytest.param(*case, marks=pytest.mark.prove) for case in [([0], True), ([1, 0], True), ([2, 0, 3], True)]),
        *(pytest.param(rule_sets, False, marks=pytest.mark.prove) for rule_sets in [[0], [0, 3], [2, 0, 3]]),
    ],
)
def test_a_kill_at_each_step_of_a_trace_that_is_dropped_with_an_error(
    rule_sets: list[int],
    is_at_once: bool,
    steps: Steps,
    tmp_path: Path,
) -> None:
    slow, error, both = (0, 1, 2 * SECOND), (ERROR, 1, 0), (ERROR, 1, 2 * SECOND)
    drawn = [
        (random, 0, is_at_once, False, spans)
        for random in (0, THRESHOLDS - 1)
        for spans in ([slow, error], [both], [(0, 1, 0), both], [error, slow, (0, 1, 0)])
    ]
    for at in range(1, 14):
        for before in (False, True):
            world = World(tmp_path / f"{at}{before}", steps, 0, is_head_open=True)
            producers = Producers(world, drawn)
            walk = ["emit", "look", "look", "time", "emit", "look", "look", "decide", "export", "settle"] * 3
            lives(world, producers, walk, rule_sets, [(at, before)] * 3)
            check(world, producers, rule_sets, 0)


def lives(
    world: World, producers: Producers, walk: list[str], rule_sets: list[int], kills: list[tuple[int, bool]]
) -> None:
    """Walk through lives of drains, each killed at a step or where the walk says so; then let one come to its end."""
    todo, to_kill, rules = deque(walk), deque(kills), deque(rule_sets * (len(walk) + len(kills) + 2))
    while todo:
        at, before = to_kill.popleft() if to_kill else (10**9, False)
        world.steps.kill_at(10**9, before=False)
        try:
            world.steps.kill_at(at, before=before)
            world.open(rules.popleft())
            walk_on(world, producers, todo, rules)
            world.settle()  # it ends in order: what it has delivered is not delivered again
        except KilledError:
            world.kills += 1
    world.steps.kill_at(10**9, before=False)
    world.open(rules.popleft())
    while producers.pieces:
        producers.emit(1)
        for number in range(len(SERVICES)):
            world.look(number)
    world.finish()


def walk_on(world: World, producers: Producers, todo: deque[str], rules: deque[int]) -> None:
    def look() -> None:
        world.look(len(todo) % len(SERVICES))

    def time() -> None:
        world.now_nano += SECOND // 3

    def renew() -> None:
        world.late.renew(world.rules(rules.popleft()))

    def kill() -> None:
        raise KilledError

    steps: dict[str, Callable[[], object]] = {
        "emit": producers.emit,
        "look": look,
        "decide": world.decide,
        "export": world.export,
        "settle": world.settle,
        "tend": world.late.tend,
        "time": time,
        "renew": renew,
        "kill": kill,
    }
    while todo:
        steps[todo.popleft()]()
        world.check_laws()


def check(world: World, producers: Producers, rule_sets: list[int], root_threshold: int) -> None:
    for trace, numbers in producers.by_trace.items():
        found = {number: world.delivered[number] for number in numbers if number in world.delivered}
        states = {number: stated(span.trace_state).threshold for number, span in found.items()}
        if producers.is_whole[trace]:
            may_be = [producers.kept_by(trace, world.rules(rule_set), root_threshold) for rule_set in set(rule_sets)]
            assert states in may_be, f"trace {trace}"
            continue
        for_themselves = {
            number
            for number, span in found.items()
            if any(attribute.key == "ringbuf.sampling.late" for attribute in span.attributes)
        }
        kept = found.keys() - for_themselves
        assert not kept or kept == set(numbers), f"trace {trace} is torn"
        for number in for_themselves:
            assert producers.records[number]["status"][0] == ERROR or 3 in rule_sets, "no rule keeps all such"
    assert world.counted.keys() == producers.records.keys(), "the span metrics are of all spans"
    assert max(world.counted.values()) <= 1 + world.kills
    if not world.kills:
        assert set(world.copies.values()) <= {1}
