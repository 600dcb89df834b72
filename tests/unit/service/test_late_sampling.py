"""Late sampling over a real hold: what is delivered is what the plain sampler keeps, and the hold's law is exact."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import structlog
import structlog.testing
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batcher
from drain.otlp.encoder import to_resource_spans
from drain.sampling.decision_words import packed_spans
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.decisions import Decisions
from drain.sampling.hold.hold import Hold, HoldFullError
from drain.sampling.hold.picture import read_picture
from drain.sampling.rules import DEFAULT, Rule, Rules, of_ratio
from drain.sampling.sampler import Sampler, Why
from drain.sampling.seen_records import RecordLooker
from drain.sampling.seen_span import SeenSpan, seen_spans
from drain.sampling.trace_state import stated
from drain.sampling.traces import Traces
from drain.service.held_batches import GATHERING_SECONDS, HeldSegment
from drain.service.late_sampling import LateSampling
from ringbuf.dataplane import DATAPLANE_LAYOUT as LAYOUT
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.attribute import Attribute
from ringbuf.layout.layout import SpanLayout
from tests.seeds import drawn_seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 10**9
ERRORS = Rule("errors", statuses=frozenset({2}))
RULES = Rules((ERRORS, Rule("half", ratio=0.5, kinds=frozenset({3})), Rule(DEFAULT, ratio=0.1)), is_head_open=True)


class Bench:
    """Late sampling in a folder, its clock, and what was delivered."""

    def __init__(
        self, folder: Path, rules: Rules = RULES, capacity_bytes: int = 1 << 20, *, counts_unsampled: bool = False
    ) -> None:
        self.folder, self.rules, self.capacity_bytes = folder, rules, capacity_bytes
        self.counts_unsampled = counts_unsampled
        self.now_nano = 1_000 * SECOND
        self.delivered: dict[bytes, Any] = {}
        self.partitioner: Any = None
        self.open()

    def open(self) -> None:
        log = structlog.get_logger()
        self.hold = Hold(
            self.folder / "hold", self.capacity_bytes, chunk_bytes=1 << 16, log=log, clock_nano=lambda: self.now_nano
        )
        self.batcher = Batcher("protobuf", 100, 1 << 20)
        self.late = LateSampling(
            self.hold,
            self.rules,
            self.batcher,
            "protobuf",
            batch_bytes=1 << 20,
            partitioner=lambda: self.partitioner,
            counts_unsampled=self.counts_unsampled,
            log=log,
            clock=lambda: self.now_nano / SECOND,
            clock_nano=lambda: self.now_nano,
        )

    def ring(self, number: int, layout: SpanLayout = LAYOUT) -> Any:
        ring: Any = SimpleNamespace(
            name=f"{number}.ring",
            layout=layout,
            owner=0,
            resource={"service.name": f"service {number}"},
            root_threshold=0,
            file=SimpleNamespace(inode=number),
            created_unix_nano=number,
        )
        self.late.join(ring)
        return ring

    def deliver(self, outcome: str = "delivered") -> int:
        """Send all that is in batches; return how many spans that were."""
        self.batcher.close()
        batches = list(self.batcher.full)
        self.batcher.full.clear()
        for batch in batches:
            if outcome == "delivered":
                for message in TracesData.FromString(batch.parts[0].body).resource_spans:
                    for span in message.scope_spans[0].spans:
                        assert span.span_id not in self.delivered
                        self.delivered[span.span_id] = span
            batch.decide(0, Outcome(**{outcome: batch.spans}))
        self.late.settle(batches)
        return sum(batch.spans for batch in batches)

    def check_law(self) -> None:
        sums = self.hold.sums().values()
        assert [one.unaccounted for one in sums] == [0] * len(sums)
        assert sum(one.waiting for one in sums) == self.late.waiting


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.late.close()


def drawn(source: np.random.Generator, count: int, traces: int, first: int) -> np.ndarray[Any, Any]:
    records = np.zeros(count, LAYOUT.dtype)
    ids = np.zeros((count, 16), np.uint8)
    trace = source.integers(first, first + traces, count)
    for at, number in enumerate(trace.tolist()):
        ids[at] = np.frombuffer(np.random.default_rng(number).bytes(16), np.uint8)
    records["trace_id"] = ids
    records["span_id"] = source.integers(1, 256, (count, 8))
    records["parent_span_id"] = np.where(source.random((count, 1)) < 0.2, 0, 1)
    records["kind"], records["flags"] = source.integers(1, 5, count), 0x101
    records["status"] = np.where(source.random(count) < 0.05, 2, 0)
    records["start_unix_nano"], records["end_unix_nano"] = 1, 5
    return records


def seen(records: np.ndarray[Any, Any], service: str) -> list[SeenSpan]:
    message = to_resource_spans(records, LAYOUT, {"service.name": service})
    return list(seen_spans(TracesData(resource_spans=[message])))


@pytest.mark.parametrize("restarts", [False, True])
def test_what_is_delivered_is_what_the_sampler_keeps(bench: Bench, *, restarts: bool) -> None:
    seed = drawn_seed()
    source, sampler = np.random.default_rng(seed), Sampler(RULES)
    expected: dict[bytes, tuple[str, int | None]] = {}
    came: dict[int, bytes] = {}
    fates = []
    rings: dict[int, Any] = {}
    for look in range(60):
        if restarts and look in (20, 40):  # as a kill leaves it: nothing was said to the hold but what is in it
            bench.late.close()
            bench.open()
            rings.clear()
        ring = rings.get(look % 2) or rings.setdefault(look % 2, bench.ring(1 + look % 2))
        bench.now_nano += int(source.integers(0, SECOND // 2))
        records = drawn(source, int(source.integers(1, 40)), 8, look)
        records["trace_id"][0], records["status"][0] = 1 + look, 0  # waits, so that it says when the last look was
        spans = seen(records, ring.resource["service.name"])
        came |= {id(span): bytes(record["span_id"]) for span, record in zip(spans, records, strict=True)}
        for span in spans:
            fates += list(sampler.take(span, bench.now_nano))
        assert bench.late.has_room(ring, len(records))
        taken = bench.late.read(ring, 0, records, look * 100, look * 100 + len(records), 0)
        assert sum(taken) == len(records)
        bench.check_law()
        bench.late.decide(bench.now_nano)
        if not restarts or look % 20 != 19:
            bench.deliver()
        bench.check_law()
    bench.now_nano += 10 * SECOND
    fates += list(sampler.decide_due())
    while bench.late.waiting:
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.check_law()
    assert bench.late.waiting == 0
    names = [rule.name for rule in RULES.rules]
    expected = {
        came[id(fate.span)]: (names[fate.decision.rule], fate.threshold)
        for fate in fates
        if fate.is_kept and fate.decision is not None
    }
    found = {
        span_id: (
            next(item.value.string_value for item in span.attributes if item.key == "ringbuf.sampling.rule"),
            stated(span.trace_state).threshold,
        )
        for span_id, span in bench.delivered.items()
    }
    assert found == expected, f"seed {seed}"


def test_what_became_of_a_batch_is_said_in_the_hold(bench: Bench) -> None:
    source = np.random.default_rng(1)
    ring = bench.ring(1)
    for outcome in ("delivered", "spooled", "rejected", "dead_lettered"):
        records = drawn(source, 20, 5, 10)
        records["status"] = 2
        bench.late.read(ring, 0, records, 0, 20, 0)
        assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(GATHERING_SECONDS)  # more may come
        assert not bench.late.decide(bench.now_nano)
        bench.now_nano += int(2 * GATHERING_SECONDS * SECOND)
        assert bench.late.decide(bench.now_nano)
        assert bench.late.on_their_way == 20
        assert bench.deliver(outcome) == 20
        sums = bench.hold.sums()["service 1"]
        assert getattr(sums, outcome) == 20
        bench.check_law()
    assert (bench.late.on_their_way, bench.late.not_delivered) == (0, 40)


def test_without_room_the_oldest_traces_are_decided_early_and_nothing_is_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Rules((ERRORS, Rule(DEFAULT, ratio=0.0))), capacity_bytes=4 << 16)
    source, ring, count = np.random.default_rng(2), bench.ring(1), 0
    for look in range(60):
        records = drawn(source, 100, 50, 50 * look)
        records["status"] = 0
        bench.now_nano += 1
        assert bench.late.has_room(ring, len(records))
        bench.late.read(ring, 0, records, count, count + len(records), 0)
        count += len(records)
        bench.check_law()
    counts = bench.late.counts()
    assert sum(rule.traces[Why.HOLD] for rule in counts.rules) > 0
    assert bench.late.decide_all(bench.now_nano) is False  # nothing is kept
    assert bench.hold.sums()["service 1"].sampled_out == count
    bench.check_law()
    bench.late.close()


def test_when_the_table_is_full_the_ring_with_most_spans_gives_way() -> None:
    table = Traces(Rules((ERRORS, Rule(DEFAULT))), bytes(16), traces=512, spans=256, decided=512, look=512)

    def look(origin: int, trace: int, count: int) -> None:
        records = np.repeat(span_of(1), count)
        records["trace_id"] = [np.frombuffer(n.to_bytes(16, "little"), np.uint8) for n in range(trace, trace + count)]
        looked = table.look(origin, records, np.zeros(count, np.uint64), 1)
        table.place(looked, np.arange(trace, trace + count, dtype=np.uint64))

    def given_way() -> list[int]:
        settled = table.take()
        return [] if settled is None else settled.places.tolist()

    large = table.join()
    look(large, 1, 200)
    small = table.join()
    look(small, 301, 56)
    assert table.decide_early(1, Why.HOLD, 1) == 1
    assert given_way() == [1]
    look(small, 401, 1)
    look(small, 402, 1)
    assert set(given_way()) < set(range(2, 201)), "there was no room for the last"


LARGE = SpanLayout(span_names=["read"], attributes=[Attribute("text", "str", size=2000)])


def test_a_ring_that_floods_the_hold_has_its_own_traces_decided_and_no_other_s(tmp_path: Path) -> None:
    """By bytes: of the larger records there are fewer."""
    bench = Bench(tmp_path, Rules((ERRORS, Rule(DEFAULT, ratio=0.0))), capacity_bytes=16 << 16)
    good, flooding = bench.ring(1), bench.ring(2, LARGE)
    source = np.random.default_rng(2)
    for look in range(10):
        records = drawn(source, 100, 400, 0)
        records["status"] = 0
        assert bench.late.has_room(good, 100)
        bench.late.read(good, 0, records, look * 100, look * 100 + 100, 0)
    waiting = bench.late.waiting
    flood = np.zeros(10, LARGE.dtype)
    flood["kind"], flood["flags"], flood["parent_span_id"] = 1, 0x101, 1
    for look in range(200):
        flood["span_id"] = 1
        numbers = range(look * 10, look * 10 + 10)
        flood["trace_id"] = [np.frombuffer(number.to_bytes(16, "little"), np.uint8) for number in numbers]
        bench.now_nano += 1
        assert bench.late.has_room(flooding, len(flood))
        bench.late.read(flooding, 0, flood, look * 10, look * 10 + 10, 0)
        bench.check_law()
    sums = bench.hold.sums()
    assert sums["service 1"].waiting == waiting
    assert sums["service 2"].sampled_out > 1000
    assert bench.hold.waiting_bytes(RingKey(2, 2)) <= bench.hold.capacity_bytes // 2
    bench.late.close()


class Crowd:
    """Rings that share a hold of 4 MiB: what fails is kept at once, and is on its way; all else waits."""

    LOOK: Final = 200  # records: 0.6 % of the hold
    TRACE: Final = 4  # spans: of single ones as many as there is room for are more than the table takes

    def __init__(self, folder: Path, rings: int) -> None:
        self.bench = Bench(folder, Rules((ERRORS, Rule(DEFAULT, ratio=0.0))), capacity_bytes=64 << 16)
        self.rings = [self.bench.ring(number) for number in range(rings)]
        self.room = self.bench.hold.capacity_bytes
        self.count = 0
        self._source = np.random.default_rng(3)

    def read(self, number: int, *, failing: bool) -> bool:
        """Let a look of a ring come; return whether there was room for it."""
        if not self.bench.late.has_room(self.rings[number], self.LOOK):
            return False
        records = np.zeros(self.LOOK, LAYOUT.dtype)
        ids = np.frombuffer(self._source.bytes(16 * self.LOOK // self.TRACE), np.uint8).reshape(-1, 16)
        records["trace_id"] = ids.repeat(self.TRACE, axis=0)
        records["span_id"] = np.frombuffer(self._source.bytes(8 * self.LOOK), np.uint8).reshape(-1, 8)
        records["parent_span_id"], records["kind"], records["flags"] = 1, 1, 0x101
        records["status"] = 2 * failing
        self.bench.late.read(self.rings[number], 0, records, self.count, self.count + self.LOOK, 0)
        self.count += self.LOOK
        return True

    def share(self, number: int) -> float:
        """Return which part of the hold a ring has."""
        return self.bench.hold.waiting_bytes(RingKey(number, number)) / self.room

    def early(self) -> dict[str, int]:
        """Return how many traces were decided early, by why."""
        reasons = [why.value for why in (Why.HOLD, Why.SHARE, Why.LIMIT)]
        rules = self.bench.late.status().rules.values()
        return {why: count for why in reasons if (count := sum(rule.traces[why] for rule in rules))}

    def close(self) -> None:
        self.bench.check_law()
        self.bench.late.close()


@pytest.mark.parametrize(("rings", "greedy"), [(2, 1), (3, 1), (20, 1), (20, 2)])
def test_what_rings_have_on_their_way_in_an_outage_leaves_room_for_the_others(
    rings: int, greedy: int, tmp_path: Path
) -> None:
    """One has as much as is left then, the next as much as is left of that: no trace of the others is decided early."""
    crowd = Crowd(tmp_path, rings)
    for number in range(greedy):
        while crowd.read(number, failing=True):
            assert crowd.share(number) <= 0.5 ** (number + 1)
        assert crowd.share(number) > max(1 / rings, 1 / 8) - 0.05
    for number in range(greedy, rings):
        assert crowd.read(number, failing=False)
    assert crowd.early() == {}
    assert crowd.bench.late.waiting == crowd.count
    crowd.close()


def test_a_ring_may_have_an_eighth_while_there_is_room_and_then_its_part_of_all(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, 20)

    def is_short() -> bool:
        return crowd.bench.hold.used_bytes > crowd.room * 7 // 8

    for number in range(8):
        while crowd.share(number) < 1 / 8 - 0.01 and not is_short():
            assert crowd.read(number, failing=False)
            assert crowd.early() == {}
    assert is_short()
    assert crowd.read(0, failing=False)
    assert crowd.share(0) <= 1 / 20
    assert crowd.early().keys() == {"share"}
    assert crowd.share(1) > 1 / 10, "it has not asked for more"
    crowd.close()


@pytest.mark.parametrize("bound", ["traces_per_second", "kept_spans_per_second"])
def test_while_a_reload_is_under_way_both_rules_keep_no_more_than_one_may(tmp_path: Path, bound: str) -> None:
    errors: dict[str, Any] = {"statuses": frozenset({2})}
    of_all: dict[str, Any] = {}
    (errors if bound == "traces_per_second" else of_all)[bound] = 10
    never, rest = Rule("never", spans=("no such",), ratio=0.5), Rule(DEFAULT, ratio=0.0)
    waits = Rules((never, Rule("errors", **errors), rest), **of_all)  # decides after 5 s
    at_once = Rules((Rule("errors", **errors), rest), **of_all)
    bench = Bench(tmp_path, waits)
    ring, source, numbers = bench.ring(1), np.random.default_rng(5), iter(range(10**6))
    kept = []
    for second in range(25):
        if second == 15:
            bench.late.renew(at_once)
        before = bench.late.on_their_way + len(bench.delivered)
        for _ in range(10):
            records = drawn(source, 10, 1, 0)
            records["trace_id"] = [np.frombuffer(source.bytes(16), np.uint8) for _ in range(10)]
            records["span_id"] = [np.frombuffer(next(numbers).to_bytes(8, "little"), np.uint8) for _ in range(10)]
            records["status"], records["parent_span_id"] = 2, 1
            bench.late.read(ring, 0, records, 0, 10, 0)
            bench.now_nano += SECOND // 10
            bench.late.decide(bench.now_nano)
        kept.append(bench.late.on_their_way + len(bench.delivered) - before)
        bench.deliver()
    assert sum(kept[10:15]) < 80, kept
    assert sum(kept[17:20]) < 48, f"twice 30 is what two bounds would keep: {kept}"
    bench.late.close()


def test_records_that_rules_cannot_look_at_meet_no_condition_and_stop_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = bench.ring(1)
    look = RecordLooker.look

    def planted(self: RecordLooker, records: Any) -> Any:
        if (records["span_id"][:, 0] == 7).any():
            raise ValueError("planted")
        return look(self, records)

    monkeypatch.setattr(RecordLooker, "look", planted)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["span_id"] = 1 + np.arange(40)[:, None]
    records["status"], records["parent_span_id"] = 2, 1
    bench.late.read(ring, 0, records, 0, 40, 0)
    assert bench.late.on_their_way == 39, "errors are kept at once"
    assert bench.late.waiting == 40, "of the one nobody knows that it is an error"
    bench.check_law()
    bench.late.close()
    bench.open()  # what waits is looked at again
    assert bench.late.waiting == 40
    bench.check_law()


def test_a_layout_that_rules_cannot_look_at_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("drain.service.rules_in_effect.RecordLooker", fail)
        ring = bench.ring(1)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["status"], records["parent_span_id"] = 2, 1
    bench.late.read(ring, 0, records, 0, 40, 0)
    assert bench.late.waiting == 40
    records["trace_id"] += 1
    bench.late.read(bench.ring(2), 0, records, 0, 40, 0)
    assert bench.late.on_their_way == 40
    bench.check_law()


def test_a_record_that_has_no_destination_holds_up_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, of_ratio(1.0))

    def assign(records: Any, _: str) -> Any:
        if (records["span_id"][:, 0] == 7).any():
            raise ValueError("planted")
        return np.zeros(len(records), np.uint16)

    bench.partitioner = SimpleNamespace(names=("a",), assign=assign)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["span_id"] = 1 + np.arange(40)[:, None]
    bench.late.read(bench.ring(1), 0, records, 0, 40, 0)
    bench.late.decide_all(bench.now_nano)
    assert bench.late.on_their_way == 39
    assert bench.hold.sums()["service 1"].invalid == 1
    assert bench.deliver() == 39
    bench.check_law()
    bench.late.close()


def test_where_all_that_is_held_is_on_its_way_there_is_no_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path, of_ratio(1.0), capacity_bytes=4 << 16)
    source, ring, count = np.random.default_rng(3), bench.ring(1), 0
    while bench.late.has_room(ring, 100):
        bench.late.read(ring, 0, drawn(source, 100, 50, count), count, count + 100, 0)
        count += 100
    bench.check_law()
    while bench.late.on_their_way:
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    assert len(bench.delivered) == count
    assert bench.late.has_room(ring, 100)
    bench.late.close()


def test_rates_go_on_with_the_next_drain(tmp_path: Path) -> None:
    rules = Rules((Rule("errors", statuses=frozenset({2}), traces_per_second=10.0), Rule(DEFAULT, ratio=0.0)))
    bench = Bench(tmp_path, rules)
    source, ring = np.random.default_rng(5), bench.ring(1)
    for second in range(3):
        records = drawn(source, 100, 10**9, 1000 * second)
        records["status"] = 2
        bench.late.read(ring, 0, records, 0, 100, 0)
        bench.now_nano += SECOND
        bench.late.tend()
    kept = bench.late.on_their_way
    bench.hold.close()  # a kill: nothing is said at the end
    bench.open()
    records = drawn(source, 100, 10**9, 9000)
    records["status"] = 2
    before = bench.late.on_their_way
    bench.late.read(bench.ring(1), 0, records, 0, 100, 0)
    assert before == kept  # taken up
    assert bench.late.on_their_way - before < 40  # about 10, where a drain that begins anew would keep all
    bench.late.close()


def test_a_downtime_is_no_part_of_a_wait(bench: Bench) -> None:
    ring, records = bench.ring(1), drawn(np.random.default_rng(6), 1, 1, 1)
    records["status"], records["parent_span_id"] = 0, 1
    bench.late.read(ring, 0, records, 0, 1, 0)
    bench.late.close()
    bench.now_nano += 3600 * SECOND
    bench.open()
    assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(5.0)
    bench.late.decide(bench.now_nano)
    assert bench.late.counts().waiting_traces == 1  # its other spans may be in rings still


def test_while_a_batch_is_full_there_is_nothing_to_do(bench: Bench) -> None:
    ring = bench.ring(1)
    records = drawn(np.random.default_rng(7), 300, 50, 10)
    records["status"] = 2
    bench.late.read(ring, 0, records, 0, 300, 0)
    bench.now_nano += SECOND
    assert bench.late.decide(bench.now_nano)  # the first hundred fill a batch, which nobody takes: an outage
    for _ in range(3):  # a loop that were told otherwise would not sleep
        bench.now_nano += SECOND
        assert not bench.late.decide(bench.now_nano)
        assert bench.late.seconds_until_due(bench.now_nano) != 0.0
    while bench.late.waiting:
        assert bench.deliver() > 0
        bench.late.decide(bench.now_nano)
    assert len(bench.delivered) == 300


def test_no_ring_waits_for_what_is_held() -> None:
    assert not HeldSegment("shop", np.zeros(1, np.uint64), 1).is_pressing


def test_it_says_when_it_is_to_be_asked_next(bench: Bench) -> None:
    assert bench.late.seconds_until_due(bench.now_nano) is None
    ring, records = bench.ring(1), drawn(np.random.default_rng(4), 1, 1, 1)
    records["status"], records["parent_span_id"] = 0, 1
    bench.late.read(ring, 0, records, 0, 1, 0)
    assert bench.late.seconds_until_due(bench.now_nano + SECOND) == pytest.approx(4.0)
    assert bench.late.seconds_until_due(bench.now_nano + 9 * SECOND) == 0.0
    bench.late.leave(ring)
    assert bench.late.waiting == 1
    assert bench.late.rule_names == ["errors", "half", DEFAULT]
    bench.late.tend()


OTHERS = Rules((ERRORS, Rule("half", ratio=0.02, kinds=frozenset({3})), Rule(DEFAULT, ratio=0.9)), is_head_open=True)


def name_and_threshold(span: Any) -> tuple[str, int | None]:
    rule = next(item.value.string_value for item in span.attributes if item.key == "ringbuf.sampling.rule")
    return rule, stated(span.trace_state).threshold


def test_traces_that_have_begun_stay_under_their_rules(bench: Bench) -> None:
    """Late spans too, in which the rules that decided are long gone."""
    seed = drawn_seed()
    source, samplers = np.random.default_rng(seed), (Sampler(RULES), Sampler(OTHERS))
    under: dict[bytes, int] = {}
    came: dict[int, bytes] = {}
    fates = []
    rings = [bench.ring(1), bench.ring(2)]
    for look in range(90):
        at = 0 if look < 30 or look >= 60 else 1  # with as much time between as the longest wait
        bench.late.renew((RULES, OTHERS)[at])
        bench.now_nano += int(source.integers(0, SECOND // 2))
        records = drawn(source, int(source.integers(1, 40)), 25, look)
        spans = seen(records, f"service {1 + look % 2}")
        came |= {id(span): bytes(record["span_id"]) for span, record in zip(spans, records, strict=True)}
        for span in spans:
            fates += list(samplers[under.setdefault(span.trace_id, at)].take(span, bench.now_nano))
        bench.late.read(rings[look % 2], 0, records, look * 100, look * 100 + len(records), 0)
        bench.late.decide(bench.now_nano)
        bench.deliver()
        bench.check_law()
    bench.now_nano += 10 * SECOND
    for sampler in samplers:
        fates += list(sampler.decide_due())
    while bench.late.waiting:
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.check_law()
    names = [rule.name for rule in RULES.rules]
    expected = {
        came[id(fate.span)]: (names[fate.decision.rule], fate.threshold)
        for fate in fates
        if fate.is_kept and fate.decision is not None
    }
    assert {span_id: name_and_threshold(span) for span_id, span in bench.delivered.items()} == expected, f"seed {seed}"
    status = bench.late.status()
    assert list(status.rules) == names
    assert sum(sum(rule.traces.values()) for rule in status.rules.values()) == len(under), f"seed {seed}"
    assert sum(rule.kept_spans for rule in status.rules.values()) == len(expected)
    assert sum(rule.sampled_out_spans for rule in status.rules.values()) == len(came) - len(expected)
    assert (status.waiting_spans, status.waiting_traces, status.oldest_wait_seconds) == (0, 0, 0.0)


def test_it_says_how_long_the_oldest_trace_waits_and_what_each_rule_keeps_now(bench: Bench) -> None:
    assert [rule.probability for rule in bench.late.status().rules.values()] == [1.0, 0.5, 0.1]  # before any look
    for _ in range(2):
        bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
        bench.now_nano += SECOND
    status = bench.late.status()
    assert (status.waiting_spans, status.waiting_traces, status.oldest_wait_seconds) == (2, 1, 2.0)
    assert [round(rule.probability, 4) for rule in status.rules.values()] == [1.0, 0.5, 0.1]


def test_what_it_does_is_shown_to_those_who_look_at_the_directory(bench: Bench) -> None:
    source, ring = np.random.default_rng(11), bench.ring(1)
    for look in range(5):
        bench.late.read(ring, 0, drawn(source, 100, 100, 0), 100 * look, 100 * look + 100, 0)
    bench.now_nano += SECOND
    for _ in range(3):
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.late.tend()
    picture = read_picture(bench.hold.folder)
    assert picture is not None
    of_service = picture.services["service 1"]
    assert picture.rings == {RingKey(1, 1): of_service.waiting}
    assert of_service.waiting == bench.late.waiting > 0
    assert of_service.kept == len(bench.delivered) > 0
    assert sum((of_service.waiting, of_service.kept, of_service.sampled_out, of_service.lost)) == 500
    assert picture.decided_spans + picture.waiting_spans == 500
    assert list(picture.rules) == bench.late.rule_names
    assert (picture.drain_pid, picture.waiting_traces) == (os.getpid(), bench.late.status().waiting_traces)


def span_of(trace: int, parent: int = 1) -> np.ndarray[Any, Any]:
    record = drawn(np.random.default_rng(trace), 1, 1, trace)
    record["status"], record["kind"], record["parent_span_id"] = 0, 1, parent
    record["span_id"][0, :2] = trace, parent
    return record


def test_of_rules_that_come_one_after_the_other_the_last_are_taken_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Rules((Rule("first"), Rule(DEFAULT))))
    ring = bench.ring(1)
    bench.late.renew(Rules((ERRORS, Rule("second"))))
    first, _, third, last = (Rules((ERRORS, Rule(name))) for name in ("first", "second", "third", "fourth"))
    bench.late.read(ring, 0, span_of(1), 0, 1, 0)
    bench.late.decide(bench.now_nano)
    bench.late.renew(first)  # its trace began under the second
    bench.late.renew(third)
    bench.late.renew(last)
    bench.late.read(ring, 0, span_of(2), 1, 2, 0)
    assert bench.late.rule_names == ["errors", "first", "second"]
    bench.now_nano += 6 * SECOND
    bench.late.decide(bench.now_nano)
    assert bench.late.rule_names == ["errors", "fourth", "first"]
    bench.late.read(ring, 0, span_of(3), 2, 3, 0)
    bench.now_nano += 6 * SECOND
    for _ in range(2):
        bench.late.decide(bench.now_nano)
        bench.now_nano += SECOND
    bench.deliver()
    assert {span_id[0]: name_and_threshold(span)[0] for span_id, span in bench.delivered.items()} == {
        1: "second",
        2: "first",
        3: "fourth",
    }


def test_what_is_kept_goes_where_its_trace_has_its_home(tmp_path: Path) -> None:
    bench = Bench(tmp_path, of_ratio(1.0))
    gateways = ("a", "b", "c")
    bench.partitioner = SimpleNamespace(
        names=gateways, assign=lambda records, _: (records["trace_id"][:, 15] % 3).astype(np.uint16)
    )
    ring, count = bench.ring(1), 90
    bench.late.read(ring, 0, drawn(np.random.default_rng(8), count, 40, 0), 0, count, 0)
    bench.late.decide_all(bench.now_nano)
    bench.batcher.close()
    sent = 0
    for batch in bench.batcher.full:
        for number, part in enumerate(batch.parts):
            for message in TracesData.FromString(part.body).resource_spans:
                homes = {gateways[span.trace_id[15] % 3] for span in message.scope_spans[0].spans}
                assert homes == {part.destination}
            batch.decide(number, Outcome(delivered=part.spans))
            sent += part.spans
    bench.late.settle(bench.batcher.full)
    assert (sent, bench.late.on_their_way) == (count, 0)
    bench.check_law()
    bench.late.close()


def test_without_memory_for_other_rules_those_in_effect_stay(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RingBufferError("no trace table")

    monkeypatch.setattr("drain.service.late_sampling.Traces", fail)
    bench.late.renew(OTHERS)
    assert bench.late.not_renewed == 1
    monkeypatch.undo()
    bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
    assert bench.late.rule_names == ["errors", "half", DEFAULT]
    bench.late.renew(OTHERS)
    assert bench.late.not_renewed == 1


def test_looks_that_came_together_are_taken_up_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source, ring = np.random.default_rng(9), bench.ring(1)
    for look in range(200):
        bench.late.read(ring, 0, drawn(source, 1, 10**6, 0), look, look + 1, 0)
        bench.now_nano += 10_000
    waiting = bench.late.waiting
    assert waiting > 100
    bench.late.close()
    calls = []
    records = Hold.records

    def counted(hold: Hold, places: Any) -> Any:
        calls.append(len(places))
        return records(hold, places)

    monkeypatch.setattr(Hold, "records", counted)
    bench.open()
    assert bench.late.waiting == waiting == sum(calls)
    assert len(calls) <= 2, "else a hundred thousand looks take minutes, in which no ring is read"
    bench.check_law()


def test_rates_that_are_ahead_of_what_is_looked_at_once_more(bench: Bench) -> None:
    rules = Rules((ERRORS, Rule("some", traces_per_second=5)), kept_spans_per_second=7)
    bench.late.close()
    bench.rules = rules
    bench.open()
    ring = bench.ring(1)
    bench.late.read(ring, 0, span_of(1), 0, 1, 0)  # waits, and is taken up as of now
    for second in range(1, 4):
        bench.now_nano += SECOND
        failed = drawn(np.random.default_rng(second), 20, 10**6, 100 * second)
        failed["status"] = 2
        bench.late.read(ring, 0, failed, 20 * second, 20 * second + 20, 0)
        bench.late.tend()  # the rates are on record
    bench.late.close()
    bench.open()
    states = bench.late._rules.current.traces.rates()
    assert [at for state in states.values() for at, _ in state["seconds"]]
    for state in states.values():
        times = [at for at, _ in state["seconds"]]
        assert times == sorted(set(times)), "the next drain would take it for no rate"


def test_decisions_that_could_not_be_put_on_record_are_once_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ring, records = bench.ring(1), drawn(np.random.default_rng(1), 20, 20, 0)
    records["status"] = 2  # is kept at once
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        bench.late.read(ring, 0, records, 0, 20, 0)
    bench.late.tend()
    again = Decisions(bench.hold.folder)  # after a kill
    assert len(again.found) == len({bytes(one) for one in records["trace_id"]})
    again.close()


def test_the_record_of_decisions_is_written_anew_only_when_half_of_it_is_old(tmp_path: Path) -> None:
    bench = Bench(tmp_path, capacity_bytes=1 << 18)
    decided = np.arange(8_000, dtype=np.uint64).reshape(-1, 2)
    bench.hold.decisions.append(np.concatenate([packed_spans(np.arange(4_000, dtype=np.uint64)), decided]))
    bench.late.close()
    bench.open()
    assert len(bench.hold.decisions.found) == 0, "it is in the tables now, and in the file"
    bench.late.tend()
    path, much = bench.hold.folder / "decisions", len(bench.hold.decisions)
    assert much < 4_000, "what is too old to matter is gone"
    before = path.stat().st_ino
    bench.hold.decisions.append(decided[:100])
    bench.late.tend()
    assert path.stat().st_ino == before
    bench.hold.decisions.append(decided[:much])
    bench.late.tend()
    assert len(bench.hold.decisions) == much
    bench.late.close()


def test_a_ring_without_room_for_its_layout_waits_and_the_log_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(os, "posix_fallocate", full)
        for _ in range(3):
            with pytest.raises(HoldFullError):
                bench.ring(1)
    assert [line["ring"] for line in lines] == ["1.ring"], "once, not at each try"
    assert "No space left" in lines[0]["reason"]
    bench.ring(1)


def test_a_ring_that_is_attached_once_more_is_one(bench: Bench) -> None:
    for _ in range(3):
        bench.ring(1)
    bench.ring(2)
    (rules,) = bench.late._rules.in_effect
    assert [member.number for member in rules._members.values()] == [0, 1], "else its share becomes that of others"
