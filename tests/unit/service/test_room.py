"""Without room it decides early, and of the ring that takes most: no other ring pays for it, and nothing is lost."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import structlog
import structlog.testing

from drain.rings.segment import Lane
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import HoldFullError
from drain.sampling.rules import DEFAULT, Rule, Rules, of_ratio
from drain.sampling.sampler import Why
from drain.sampling.traces import Traces
from drain.service.lane_holder import LaneHolder
from ringbuf.dataplane import DATAPLANE_LAYOUT as LAYOUT
from ringbuf.layout.attribute import Attribute
from ringbuf.layout.layout import SpanLayout
from tests.unit.service.deciding import ERRORS, SECOND, Bench, drawn, span_of

if TYPE_CHECKING:
    from pathlib import Path


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
        records = self.records(self.LOOK, failing=failing)
        self.bench.late.read(self.rings[number], 0, records, self.count, self.count + self.LOOK, 0)
        self.count += self.LOOK
        return True

    def records(self, count: int, *, failing: bool) -> np.ndarray[Any, Any]:
        records = np.zeros(count, LAYOUT.dtype)
        ids = np.frombuffer(self._source.bytes(16 * count // self.TRACE), np.uint8).reshape(-1, 16)
        records["trace_id"] = ids.repeat(self.TRACE, axis=0)
        records["span_id"] = np.frombuffer(self._source.bytes(8 * count), np.uint8).reshape(-1, 8)
        records["parent_span_id"], records["kind"], records["flags"] = 1, 1, 0x101
        records["status"] = 2 * failing
        return records

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


def test_no_ring_is_refused_its_share_for_what_another_has_on_its_way(tmp_path: Path) -> None:
    """What is on its way is counted over all rings: it says nothing of a ring that has no more than its share."""
    crowd = Crowd(tmp_path, 20)
    while crowd.read(0, failing=True):
        pass
    assert crowd.share(0) > 0.4
    on_their_way = crowd.bench.late.on_their_way
    for _ in range(int(crowd.room / 8 / LAYOUT.slot_bytes / crowd.LOOK)):
        assert crowd.read(1, failing=False)
    assert crowd.share(1) > 1 / 8 - 0.01
    assert crowd.early() == {}
    for _ in range(2):
        assert crowd.read(1, failing=False)
    assert crowd.early().keys() == {"share"}, "beyond it its own oldest give way, and it is read"
    assert crowd.bench.late.on_their_way == on_their_way
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


def test_a_ring_whose_lane_has_more_than_its_share_is_read_in_an_outage_too(tmp_path: Path) -> None:
    """Of many rings each has less than a look: the more waits in a lane, the longer it would not be read."""
    crowd = Crowd(tmp_path, 300)
    late = crowd.bench.late
    for number in range(3):
        while crowd.read(number, failing=True):
            pass
    number = 3
    while crowd.bench.hold.used_bytes <= crowd.room * 7 // 8:
        assert crowd.read(number, failing=True)
        number += 1
    backlog, taken = crowd.records(5000, failing=True), 0

    def copy(lane: Lane, most: int) -> np.ndarray[Any, Any]:
        nonlocal taken
        start, taken = taken, taken + min(most, ring.ready(lane))
        return backlog[start:taken]

    ring = crowd.rings[-1]
    ring.service, ring.capacity_slots = "service 299", 1 << 13
    ring.ready = lambda _: len(backlog) - taken
    ring.next_count = lambda lane, most: min(most, ring.ready(lane))
    ring.next_position = lambda _: taken
    ring.copy, ring.release = copy, lambda lane, **_: lane.segments.clear()
    lane = Lane(0)
    ring.lanes = [lane]
    lanes = LaneHolder(late, lambda *_: None)
    assert lanes.read(ring, lane, 400) == 0
    assert 0 < taken * LAYOUT.slot_bytes <= crowd.room // 300
    while lanes.read(ring, lane, 400) is not None:
        assert crowd.share(299) <= 1 / 300
    while late.on_their_way:
        crowd.bench.now_nano += SECOND // 10
        late.decide(crowd.bench.now_nano)
        crowd.bench.deliver()
    assert lanes.read(ring, lane, 400) == 0
    crowd.close()
