"""Many rings looked at in one call: which have news, and the sleep beside them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf._ringbuf import ffi, lib
from tests.consumer import Consumer, records_in, rings_in
from tests.nursery import run
from tests.process.test_doorbell import PATIENCE, open_doorbell
from tests.records import fresh_records
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAP = 1_000_000
HOUR = 3600 * 10**9
RINGS = 3


class Rings:
    """Some rings with their emitters and consumers, the doorbell, and the two calls."""

    def __init__(self, ring_dir: Path) -> None:
        self.bell = open_doorbell(ring_dir / "doorbell")
        self.emitters = [
            ringbuf.Emitter(f"service-{at}", ring_dir=ring_dir, capacity=8, lanes=2) for at in range(RINGS)
        ]
        paths = [emitter.stats().path for emitter in self.emitters]
        self.consumers = [Consumer(path) for path in paths if path is not None]
        self._all = ffi.new("rb_consumer *[]", [consumer.pointer for consumer in self.consumers])

    def emit(self, at: int, count: int = 1) -> None:
        emitter = self.emitters[at]
        assert emitter.emit_batch(fresh_records(emitter, count)) == count

    def scan(self) -> list[int]:
        found = ffi.new("uint32_t[]", [99] * RINGS)
        return list(found[0 : lib.rb_scan(self._all, RINGS, found)])

    def sleep(self, timeout: int, *, nap: int = PATIENCE, value: int | None = None) -> int:
        now = lib.rb_doorbell_value(self.bell) if value is None else value
        return int(lib.rb_sleep(self.bell, now, self._all, RINGS, nap, timeout))

    def gather(self, timeout: int, *, value: int | None = None) -> int:
        now = lib.rb_doorbell_value(self.bell) if value is None else value
        return int(lib.rb_gather(self.bell, now, self._all, RINGS, timeout))

    def sleeping(self) -> list[int]:
        """Return the `sleeping` word of every lane, as it is in the file."""
        words = []
        for consumer, emitter in zip(self.consumers, self.emitters, strict=True):
            path = emitter.stats().path
            assert path is not None
            data = path.read_bytes()
            for lane in range(2):
                at = consumer.header.header_bytes + lane * consumer.header.lane_stride_bytes
                words.append(ffi.cast("rb_lane *", ffi.from_buffer(data) + at).sleeping)
        return words

    def close(self) -> None:
        for consumer in self.consumers:
            consumer.close()
        for emitter in self.emitters:
            emitter.close()


@pytest.fixture
def rings(ring_dir: Path) -> Iterator[Rings]:
    made = Rings(ring_dir)
    yield made
    made.close()
    if rings_in(ring_dir):  # those that never had a span are gone
        records_in(ring_dir)


def test_idle_rings_have_no_news(rings: Rings) -> None:
    assert rings.scan() == []


def test_records_are_news_until_they_are_copied(rings: Rings) -> None:
    rings.emit(2)
    rings.emit(0)
    assert rings.scan() == [0, 2]
    for lane in range(2):
        rings.consumers[0].copy(lane)  # copied, not released: nothing more to do there
    assert rings.scan() == [2]


def test_a_closed_ring_has_news(rings: Rings) -> None:
    rings.emitters[1].close()
    assert rings.scan() == [1]


def test_a_ring_with_one_lane_closed_has_none(rings: Rings) -> None:
    closed(rings, 1, lanes=1)
    assert rings.scan() == []
    closed(rings, 1, lanes=2)
    assert rings.scan() == [1]


def test_a_tail_that_went_back_is_news(rings: Rings) -> None:
    rings.emit(1, 4)
    rings.consumers[1].take_all()
    assert rings.scan() == []
    write_lane(rings, 1, 0, "tail", 1)
    assert rings.scan() == [1]
    write_lane(rings, 1, 0, "tail", 4)
    assert rings.scan() == []


def test_only_the_rings_that_are_asked_about_are_looked_at(rings: Rings) -> None:
    for at in range(RINGS):
        rings.emit(at)
    found = ffi.new("uint32_t[]", [99] * RINGS)
    assert lib.rb_scan(rings._all, 2, found) == 2
    assert list(found) == [0, 1, 99]
    assert lib.rb_scan(rings._all, 0, found) == 0


def test_nobody_sleeps_beside_records(rings: Rings) -> None:
    rings.emit(1)
    assert rings.sleep(10 * PATIENCE) == 1
    assert rings.sleeping() == [0] * 2 * RINGS


@pytest.mark.parametrize("at", range(RINGS))
def test_records_that_were_there_before_end_the_sleep_without_a_nap(rings: Rings, at: int) -> None:
    """The last look, after `sleeping` is set: whoever published before that saw no reason to ring."""
    rings.emit(at)
    assert slept_without_a_nap(rings) == 1


@pytest.mark.parametrize("lane", range(2))
def test_a_record_in_any_lane_ends_the_sleep_without_a_nap(rings: Rings, lane: int) -> None:
    write_lane(rings, 0, lane, "tail", 1)
    assert slept_without_a_nap(rings) == 1


def test_an_observer_does_not_say_that_it_sleeps(rings: Rings) -> None:
    path = rings.emitters[0].stats().path
    assert path is not None
    with Consumer(path, observe=True) as observer:
        for sleeping in (0, 1):
            assert lib.rb_set_sleeping(observer.pointer, sleeping) == lib.RB_E_ARGUMENT


def test_falling_asleep_and_waking_up_look_at_every_lane(rings: Rings) -> None:
    consumer = rings.consumers[0]
    for lane in range(2):
        for sleeping in (1, 0):
            assert consumer.set_sleeping(sleeping) == 0
            assert rings.sleeping()[:2] == [sleeping] * 2
            write_lane(rings, 0, lane, "tail", 1)
            assert consumer.set_sleeping(sleeping) == 1
            write_lane(rings, 0, lane, "tail", 0)
        consumer.set_sleeping(0)


def test_a_sleep_takes_no_longer_than_it_was_told(rings: Rings) -> None:
    assert slept_without_a_nap(rings, timeout=NAP) == 0


def test_a_sleep_without_news_ends_by_its_time_and_nobody_is_asked_to_ring_any_more(rings: Rings) -> None:
    assert rings.sleep(3 * NAP, nap=NAP) == 0
    assert rings.sleeping() == [0] * 2 * RINGS
    before = lib.rb_doorbell_value(rings.bell)
    rings.emit(0, 8)
    assert lib.rb_doorbell_value(rings.bell) == before


@pytest.mark.parametrize("at", range(RINGS))
def test_a_quarter_of_a_lap_in_any_ring_ends_the_sleep(rings: Rings, at: int) -> None:
    slept = asleep(rings, partial(rings.sleep, nap=10 * PATIENCE))
    rings.emit(at, 2)
    assert slept() == 1


def test_a_single_record_ends_the_sleep_after_the_nap(rings: Rings) -> None:
    before = lib.rb_doorbell_value(rings.bell)
    slept = asleep(rings, partial(rings.sleep, nap=NAP))
    rings.emit(1, 1)
    assert slept() == 1
    assert lib.rb_doorbell_value(rings.bell) == before  # nobody had to ring


def test_a_close_ends_the_sleep_after_the_nap(rings: Rings) -> None:
    slept = asleep(rings, partial(rings.sleep, nap=NAP))
    rings.emitters[2].close()
    assert slept() == 1


def test_a_ring_before_the_sleep_ends_it(rings: Rings) -> None:
    value = lib.rb_doorbell_value(rings.bell)
    lib.rb_doorbell_ring(rings.bell)
    assert rings.sleep(10 * PATIENCE, value=value) == 1


@pytest.mark.parametrize("lane", range(2))
def test_records_gather_until_a_quarter_of_a_lap_is_ready(rings: Rings, lane: int) -> None:
    write_lane(rings, 1, lane, "tail", 1)
    assert rings.gather(NAP) == 0
    assert rings.sleeping() == [0] * 2 * RINGS
    write_lane(rings, 1, lane, "tail", 2)
    assert rings.gather(PATIENCE) == 1
    rings.consumers[1].take_all()
    assert rings.gather(NAP) == 0


def test_a_tail_that_went_back_ends_the_gathering(rings: Rings) -> None:
    rings.emit(1, 4)
    rings.consumers[1].take_all()
    write_lane(rings, 1, 0, "tail", 1)
    assert rings.gather(PATIENCE) == 1
    write_lane(rings, 1, 0, "tail", 4)


def test_a_quarter_of_a_lap_that_is_crossed_ends_the_gathering(rings: Rings) -> None:
    rings.emit(0, 1)
    gathered = asleep(rings, rings.gather)
    rings.emit(2, 2)
    assert gathered() == 1


def test_a_quarter_of_a_lap_of_a_producer_who_cannot_ring_ends_the_gathering(rings: Rings) -> None:
    gathered = asleep(rings, rings.gather)
    write_lane(rings, 1, 1, "tail", 2)
    assert gathered() == 1
    write_lane(rings, 1, 1, "tail", 0)


def test_a_close_ends_the_gathering(rings: Rings) -> None:
    gathered = asleep(rings, rings.gather)
    rings.emitters[2].close()
    assert gathered() == 1


def test_a_ring_before_the_gathering_ends_it(rings: Rings) -> None:
    value = lib.rb_doorbell_value(rings.bell)
    lib.rb_doorbell_ring(rings.bell)
    assert rings.gather(PATIENCE, value=value) == 1


def test_a_cut_ring_is_news_and_the_others_are_looked_at_all_the_same(ring_dir: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from ringbuf._ringbuf import lib
from tests.unit.rings.test_watch import PATIENCE, Rings, slept_without_a_nap
rings = Rings(Path(sys.argv[1]))
assert lib.rb_guard_install() == 0
os.truncate(rings.emitters[0].stats().path, 4096)
assert slept_without_a_nap(rings) == 1
rings.emit(2)
assert rings.scan() == [0, 2], rings.scan()
assert rings.sleep(10 * PATIENCE) == 1
assert rings.gather(PATIENCE) == 1
assert rings.scan() == [0, 2], rings.scan()
print("survived", flush=True)
os._exit(0)
"""
    done = run(code, ring_dir)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr
    for path in ring_dir.glob("*.ring"):
        path.unlink()


def slept_without_a_nap(rings: Rings, timeout: int = 2 * HOUR) -> int:
    """Sleep with naps of an hour, which nobody must take; return the result."""
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(rings.sleep(timeout, nap=HOUR)), daemon=True)
    thread.start()
    thread.join(PATIENCE / 1e9)
    is_asleep = thread.is_alive()
    lib.rb_doorbell_ring(rings.bell)
    thread.join(PATIENCE / 1e9)
    assert not is_asleep, "took a nap"
    return result[0]


def asleep(rings: Rings, sleep: Callable[[int], int]) -> Any:
    """Begin to sleep in a thread; return, once every lane says so, what waits for the end and gives the result."""
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(sleep(10 * PATIENCE)), daemon=True)
    thread.start()
    until(lambda: rings.sleeping() == [1] * 2 * RINGS, why=lambda: "does not fall asleep")

    def slept() -> int:
        thread.join(5 * PATIENCE / 1e9)
        assert result, "sleeps on"
        return result[0]

    return slept


def closed(rings: Rings, at: int, lanes: int) -> None:
    for lane in range(lanes):
        write_lane(rings, at, lane, "closed", 1)


def write_lane(rings: Rings, at: int, lane: int, field: str, value: int) -> None:
    """Write a word of a lane into the file, as a producer of another make may."""
    path = rings.emitters[at].stats().path
    assert path is not None
    header = rings.consumers[at].header
    offset = header.header_bytes + lane * header.lane_stride_bytes + ffi.offsetof("rb_lane", field)
    size = ffi.sizeof(dict(ffi.typeof("rb_lane").fields)[field].type)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(size, "little"))
