"""Records on their way through a real ring, for any layout, and a ring against a model of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ringbuf
from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from tests.conftest import SESSION, SHM
from tests.consumer import OUTCOMES, Consumer, records_in, rings_in
from tests.examples import ABOUT_CHANCE, examples
from tests.property.strategies import attribute_values_for, layouts, readable, records_for, u64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringbuf.layout.layout import SpanLayout

POSITIONS = [0, 1, 2**32 - 3, 2**32, 2**63 - 2, 2**64 - 5, 2**64 - 1]


class Producer:
    """A ring without an Emitter: made by rb_open, so that it may begin at any position."""

    def __init__(self, folder: Path, layout: SpanLayout, *, capacity: int, lanes: int = 1, first: int = 0) -> None:
        self.layout = layout
        self.pointer = ffi.gc(lib.rb_producer_new(), lib.rb_producer_free)
        texts = [ffi.new("char[]", text) for text in (os.fsencode(folder), b"model", layout.to_json(), b"{}")]
        config = {
            "ring_dir": texts[0],
            "service_name": texts[1],
            "layout_json": texts[2],
            "resource_json": texts[3],
            "layout_bytes": len(texts[2]) - 1,
            "resource_bytes": 2,
            "slot_bytes": layout.slot_bytes,
            "span_name_count": len(layout.span_names),
            "lane_count": lanes,
            "capacity_slots": capacity,
            "file_mode": 0o600,
            "root_always": 1,
            "first_position": first,
        }
        path, error = ffi.new("char[]", lib.RB_MAX_PATH_BYTES), ffi.new("rb_error *")
        assert lib.rb_open(self.pointer, ffi.new("rb_config *", config), path, error) == 0, ffi.string(error.detail)
        self.path = Path(os.fsdecode(ffi.string(path)))

    def emit(self, record: bytes) -> int:
        """Emit one record by rb_emit, as a native producer does."""
        return int(hot.rb_emit(self.pointer, ffi.from_buffer("rb_record *", record)))

    def emit_batch(self, records: bytes) -> int:
        """Emit by rb_emit_batch; return how many were taken."""
        if not records:
            return 0
        count = len(records) // self.layout.slot_bytes
        return int(hot.rb_emit_batch(self.pointer, ffi.from_buffer("rb_record *", records), count))

    def stats(self) -> Any:
        stats = ffi.new("rb_producer_stats *")
        assert lib.rb_stats(self.pointer, stats) == 0
        return stats

    def close(self) -> None:
        assert lib.rb_close(self.pointer) == 0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a ring directory for all examples of this module."""
    path = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    yield path
    shutil.rmtree(path)


def drained(folder: Path) -> np.ndarray[Any, np.dtype[np.void]]:
    """Take all records of all rings of a folder, and remove the rings."""
    records = records_in(folder)
    for path in rings_in(folder):
        path.unlink()
    return records


def sampled(records: np.ndarray[Any, np.dtype[np.void]]) -> np.ndarray[Any, np.dtype[np.void]]:
    records["flags"] |= 1
    return records


@given(st.data(), layouts(), st.sampled_from(POSITIONS))
def test_native_records_come_out_as_they_went_in(
    folder: Path, data: st.DataObject, layout: SpanLayout, first: int
) -> None:
    records = sampled(data.draw(records_for(layout, max_size=8)))
    producer = Producer(folder, layout, capacity=8, first=first)
    assert [producer.emit(record.tobytes()) for record in records] == [1] * len(records)
    assert drained(folder).tobytes() == records.tobytes()


@given(st.data(), layouts(), st.sampled_from(POSITIONS), st.integers(0, 4))
def test_batches_come_out_as_they_went_in(
    folder: Path, data: st.DataObject, layout: SpanLayout, first: int, split: int
) -> None:
    records = sampled(data.draw(records_for(layout, min_size=4, max_size=8)))
    producer = Producer(folder, layout, capacity=8, first=first)
    assert producer.emit_batch(records[:split].tobytes()) == split
    assert producer.emit_batch(records[split:].tobytes()) == len(records) - split
    assert drained(folder).tobytes() == records.tobytes()


@given(st.data(), layouts())
def test_the_emitters_records_come_out_as_they_went_in(folder: Path, data: st.DataObject, layout: SpanLayout) -> None:
    records = sampled(data.draw(records_for(layout, min_size=2, max_size=8)))
    with ringbuf.Emitter("service", ring_dir=folder, layout=layout, capacity=8) as emitter:
        assert emitter.emit(records[0])
        assert emitter.emit_batch(records[1:]) == len(records) - 1
        assert drained(folder).tobytes() == records.tobytes()


@given(st.data(), layouts())
def test_a_sites_values_come_out_as_they_went_in(folder: Path, data: st.DataObject, layout: SpanLayout) -> None:
    values = data.draw(attribute_values_for(layout))
    order = data.draw(st.permutations([attribute.key for attribute in layout.attributes]))
    varying = order[: data.draw(st.integers(0, len(order)))]
    constants = {key: values[key] for key in order if key not in varying and key in values}
    name = data.draw(st.sampled_from(layout.span_names))
    start, end = data.draw(u64), data.draw(u64)
    arguments = [values.get(key) for key in varying]
    with ringbuf.Emitter("service", ring_dir=folder, layout=layout, capacity=4) as emitter:
        here = emitter.site(name, constants=constants, varying=varying)
        assert here.emit(start, end, *arguments)
        with here.span(*arguments):
            pass
        emitted, span = drained(folder)
    expected = {a.key: readable(a, values[a.key]) for a in layout.attributes if a.key in values}
    assert layout.values(emitted) == layout.values(span) == expected
    assert (emitted["start_unix_nano"], emitted["end_unix_nano"]) == (start, end)
    assert layout.span_names[emitted["name"]] == layout.span_names[span["name"]] == name


@given(st.data(), layouts(max_attributes=3))
def test_a_batch_is_its_prefix_and_the_rest_is_counted(folder: Path, data: st.DataObject, layout: SpanLayout) -> None:
    records = data.draw(records_for(layout, max_size=14))
    wanted = (records["flags"] & 1).astype(bool)
    producer = Producer(folder, layout, capacity=4, lanes=2)
    taken = producer.emit_batch(records.tobytes())
    stats = producer.stats()
    assert stats.published == min(8, wanted.sum()) == wanted[:taken].sum()
    assert stats.unsampled == taken - stats.published
    assert stats.full == len(records) - taken
    expected = [record.tobytes() for record, keep in zip(records[:taken], wanted, strict=False) if keep]
    assert sorted(record.tobytes() for record in drained(folder)) == sorted(expected)


@pytest.mark.parametrize("first", POSITIONS)
def test_what_a_killed_drain_had_counted_is_repeated_and_not_counted_again(folder: Path, first: int) -> None:
    producer = Producer(folder, LAYOUT, capacity=8, first=first)
    records = LAYOUT.empty(6)
    records["trace_id"], records["span_id"], records["flags"] = 1, 1, 0x101
    assert producer.emit_batch(records.tobytes()) == 6
    with Consumer(producer.path) as consumer:
        consumer.copy()
        consumer.release(1)
        at = consumer.header.header_bytes + ffi.offsetof("rb_lane", "rejected")
    with producer.path.open("r+b", buffering=0) as file:  # as a kill before the store to head leaves it
        file.seek(at)
        file.write((2).to_bytes(8, "little"))
    with Consumer(producer.path) as consumer:
        assert len(consumer.copy()) == 5
        consumer.release(3)
        view = consumer.view()
        assert (view.delivered, view.rejected, view.repeated) == (2, 2, 2)
        consumer.release(invalid=2)
        view = consumer.view()
        assert (view.delivered, view.rejected, view.invalid, view.repeated) == (2, 2, 2, 2)
        assert view.released == (first + 6) % 2**64
    producer.path.unlink()


LAYOUT = ringbuf.SpanLayout(span_names=["model"], attributes=[ringbuf.Attribute("number", "u64")])
CAPACITY = 4


class RingModel(RuleBasedStateMachine):
    """A producer and one drain after another, beside a deque per lane.

    `pending` are the numbers published and not released, the oldest `read` of which the drain has copied; `counted` of
    them an earlier drain had counted before it was killed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
        self.consumer: Consumer | None = None

    @initialize(first=st.sampled_from(POSITIONS))
    def open(self, first: int) -> None:
        self.first = first
        self.producer = Producer(self.folder, LAYOUT, capacity=CAPACITY, first=first)
        self.pending: deque[int] = deque()
        self.read = 0
        self.counted = 0
        self.number = 0
        self.lost = 0
        self.late = 0
        self.released = 0
        self.repeated = 0
        self.closed = False
        self.outcomes = dict.fromkeys(OUTCOMES, 0)

    def records(self, count: int) -> bytes:
        made = LAYOUT.empty(count)
        made["trace_id"], made["span_id"], made["flags"] = 1, 1, 0x101
        made["number"] = np.arange(self.number, self.number + count)
        return made.tobytes()

    def published(self, written: int, attempts: int) -> None:
        if self.closed:
            self.late += attempts
        else:
            self.pending.extend(range(self.number, self.number + written))
            self.lost += attempts - written
        self.number += attempts

    @rule()
    def emit(self) -> None:
        written = self.producer.emit(self.records(1)) & 1
        assert written == (0 if self.closed else len(self.pending) < CAPACITY)
        self.published(written, 1)

    @rule(count=st.integers(0, 2 * CAPACITY))
    def emit_batch(self, count: int) -> None:
        written = self.producer.emit_batch(self.records(count))
        assert written == (0 if self.closed else min(count, CAPACITY - len(self.pending)))
        self.published(written, count)

    @precondition(lambda self: self.consumer is None)
    @rule()
    def attach(self) -> None:
        self.consumer = Consumer(self.producer.path)
        self.read = 0
        self.repeated = 0

    @precondition(lambda self: self.consumer is not None)
    @rule(count=st.integers(0, 2 * CAPACITY))
    def copy(self, count: int) -> None:
        assert self.consumer is not None
        got = self.consumer.copy(count=count)["number"].tolist()
        assert got == list(self.pending)[self.read : self.read + count]
        self.read += len(got)

    @precondition(lambda self: self.consumer is not None and self.read > 0)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        assert self.consumer is not None
        counts = dict.fromkeys(OUTCOMES, 0)
        for outcome in data.draw(st.lists(st.sampled_from(OUTCOMES), max_size=self.read)):
            counts[outcome] += 1
        self.consumer.release(**counts)
        self.settle(counts)

    def settle(self, counts: dict[str, int]) -> None:
        count = sum(counts.values())
        again = min(count, self.counted)
        self.counted -= again
        self.repeated += again
        for outcome in OUTCOMES:  # what was counted before stays what it was called then
            forgotten = min(again, counts[outcome])
            self.outcomes[outcome] += counts[outcome] - forgotten
            again -= forgotten
        for _ in range(count):
            self.pending.popleft()
        self.read -= count
        self.released += count

    @precondition(lambda self: self.consumer is not None)
    @rule()
    def kill_the_drain(self) -> None:
        assert self.consumer is not None
        self.consumer.close()
        self.consumer = None
        self.read = 0

    @precondition(lambda self: self.consumer is not None and self.read > self.counted)
    @rule(data=st.data())
    def kill_the_drain_before_it_moves_head(self, data: st.DataObject) -> None:
        """Leave outcome words ahead of head, as a kill between the two stores of rb_release does."""
        assert self.consumer is not None
        count = data.draw(st.integers(1, self.read - self.counted))
        outcome = data.draw(st.sampled_from(OUTCOMES))
        lane_at = self.consumer.header.header_bytes + ffi.offsetof("rb_lane", outcome)
        self.outcomes[outcome] += count
        self.counted += count
        with self.producer.path.open("r+b", buffering=0) as file:
            file.seek(lane_at)
            file.write(self.outcomes[outcome].to_bytes(8, "little"))
        self.kill_the_drain()

    @rule()
    def close(self) -> None:
        self.producer.close()
        self.closed = True

    @invariant()
    def the_law_holds(self) -> None:
        if not hasattr(self, "producer"):
            return
        stats = self.producer.stats()
        assert (stats.pending, stats.full, stats.local) == (len(self.pending), self.lost, self.late)
        assert stats.published + stats.full + stats.local == self.number
        with Consumer(self.producer.path, observe=True) as observer:
            view = observer.view()
        assert {outcome: getattr(view, outcome) for outcome in OUTCOMES} == self.outcomes
        assert view.released == (self.first + self.released) % 2**64
        assert view.tail == (self.first + self.released + len(self.pending)) % 2**64
        assert sum(self.outcomes.values()) == self.released + self.counted
        assert view.closed == self.closed
        if self.consumer is not None:
            view = self.consumer.view()
            assert (view.tail - view.read) % 2**64 == len(self.pending) - self.read
            assert view.repeated == self.repeated

    def teardown(self) -> None:
        if self.consumer is not None:
            self.consumer.close()
        shutil.rmtree(self.folder)


RingModel.TestCase.settings = settings(
    max_examples=examples(100), stateful_step_count=40, suppress_health_check=ABOUT_CHANCE
)
TestRingModel = RingModel.TestCase
