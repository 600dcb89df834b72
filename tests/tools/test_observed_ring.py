from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.ring_selection import drain_of, observe, ring_paths
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingFormatError
from tests.consumer import Consumer, rings_in, span_ids
from tests.records import fresh_records
from tests.service.c_producer import CProducer

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPACITY = 8


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=CAPACITY, lanes=1) as emitter:
        yield emitter


@pytest.fixture
def path(ring_dir: Path, emitter: ringbuf.Emitter) -> Path:
    (path,) = rings_in(ring_dir)
    return path


def peek(consumer: Any, position: int, *, lane: int = 0, room: int = CAPACITY) -> tuple[int, int, int]:
    """Return what rb_peek returned, the new position, and what was missed."""
    at, missed = ffi.new("uint64_t *", position), ffi.new("uint64_t *", 99)
    memory = ffi.new("char[]", max(1, room) * 128)
    return lib.rb_peek(consumer, lane, at, memory, room, missed), at[0], missed[0]


def word_at(path: Path, word: str) -> int:
    """Return where a word of the first lane lies in the file."""
    header_bytes = struct.unpack_from("<I", path.read_bytes(), 12)[0]
    return int(header_bytes + ffi.offsetof("rb_lane", word))


def write_word(path: Path, word: str, value: int) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(word_at(path, word))
        file.write(struct.pack("<Q", value))


def test_records_are_seen_and_stay(emitter: ringbuf.Emitter, path: Path) -> None:
    written = fresh_records(emitter, 3)
    emitter.emit_batch(written)
    with ObservedRing(path) as ring:
        for _ in range(2):
            ring.positions[0] = 0
            records, missed = ring.peek(0)
            assert (span_ids(records), missed, ring.positions) == (span_ids(written), 0, [3])
        assert len(ring.peek(0).records) == 0
    with Consumer(path) as consumer:
        assert span_ids(consumer.take()) == span_ids(written)


def test_a_look_takes_no_more_than_it_has_room_for(emitter: ringbuf.Emitter, path: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 5))
    with ObservedRing(path) as ring:
        assert [len(ring.peek(0, 2).records) for _ in range(4)] == [2, 2, 1, 0]


def test_what_was_released_before_is_missed(emitter: ringbuf.Emitter, path: Path) -> None:
    with ObservedRing(path) as ring, Consumer(path) as consumer:
        emitter.emit_batch(fresh_records(emitter, 4))
        consumer.take()
        second = fresh_records(emitter, 6)
        emitter.emit_batch(second)
        consumer.copy()
        consumer.release(2)
        records, missed = ring.peek(0)
        assert (span_ids(records), missed, ring.positions) == (span_ids(second)[2:], 6, [10])


def test_positions_wrap(ring_dir: Path) -> None:
    with CProducer(ring_dir, first_position=2**64 - 3, capacity=8) as producer:
        producer.emit(range(5))
        (path,) = ring_paths(ring_dir)
        with ObservedRing(path) as ring, Consumer(path) as consumer:
            assert (ring.published, ring.pending) == (5, 5)
            consumer.copy()
            consumer.release(4)
            records, missed = ring.peek(0)
            assert (records["number"].tolist(), missed, ring.positions) == ([4], 4, [2])


def test_skipping_leaves_the_newest(emitter: ringbuf.Emitter, path: Path) -> None:
    written = fresh_records(emitter, 7)
    emitter.emit_batch(written)
    with ObservedRing(path) as ring:
        assert ring.skip_to(0, 2) == 5
        assert ring.skip_to(0, 2) == 0
        assert span_ids(ring.peek(0).records) == span_ids(written)[5:]
        assert ring.skip_to(0, 2) == 0


def test_an_observer_has_no_right_to_consume(emitter: ringbuf.Emitter, path: Path) -> None:
    with Consumer(path, observe=True) as observer, Consumer(path) as consumer:
        assert lib.rb_copy(observer.pointer, 0, ffi.new("char[128]"), 1) == lib.RB_E_ARGUMENT
        assert lib.rb_release(observer.pointer, 0, ffi.new("rb_outcome *")) == lib.RB_E_ARGUMENT
        assert peek(consumer.pointer, 0)[0] == lib.RB_E_ARGUMENT
        assert peek(observer.pointer, 0, lane=1)[0] == lib.RB_E_ARGUMENT


@pytest.mark.parametrize("position", [4, 1000, 2**62])
def test_there_is_nothing_beyond_the_tail(emitter: ringbuf.Emitter, path: Path, position: int) -> None:
    emitter.emit_batch(fresh_records(emitter, 3))
    with Consumer(path, observe=True) as observer:
        assert peek(observer.pointer, position) == (lib.RB_E_POSITION, position, 99)


@pytest.mark.parametrize(
    ("word", "value"), [("tail", 9), ("tail", 2**63), ("head", 4), ("head", 2**40), ("head", 2**64 - 6)]
)
def test_ends_that_cannot_be_are_an_error(emitter: ringbuf.Emitter, path: Path, word: str, value: int) -> None:
    emitter.emit_batch(fresh_records(emitter, 3))
    with ObservedRing(path) as ring:
        write_word(path, word, value)
        for look in (lambda: ring.peek(0), ring.poll):
            with pytest.raises(RingFormatError, match="positions"):
                look()
        write_word(path, word, 3 if word == "tail" else 0)
        ring.poll()
        assert len(ring.peek(0).records) == 3


def test_a_file_that_is_cut_is_an_error_and_no_signal(emitter: ringbuf.Emitter, path: Path) -> None:
    assert lib.rb_guard_install() == lib.RB_OK
    emitter.emit_batch(fresh_records(emitter, 3))
    copy = path.with_name("copy.ring")
    copy.write_bytes(path.read_bytes())
    with ObservedRing(copy) as ring:
        os.truncate(copy, 0)
        with pytest.raises(RingFormatError, match="truncated"):
            ring.peek(0)
        with pytest.raises(RingFormatError, match="truncated"):
            ring.poll()


def test_a_file_with_holes_is_refused_on_a_tmpfs_and_read_on_a_disk(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    for folder, is_refused in ((path.parent, True), (tmp_path, False)):
        sparse = folder / "sparse.ring"
        with sparse.open("wb") as file:
            file.write(data[:4096])
            file.truncate(len(data))
        before = sparse.stat().st_blocks
        rings, unreadable = observe([sparse])
        assert [reason for _, reason in unreadable] == (["the file has holes"] if is_refused else [])
        assert sparse.stat().st_blocks == before
        for ring in rings:
            ring.close()


def test_what_is_no_ring_is_told_and_what_is_gone_is_not(path: Path, ring_dir: Path) -> None:
    (ring_dir / "text.ring").write_text("hello")
    (ring_dir / "link.ring").symlink_to(path)
    (ring_dir / "folder.ring").mkdir()
    rings, unreadable = observe([*ring_paths(ring_dir), ring_dir / "gone.ring"])
    assert [ring.path for ring in rings] == [path]
    assert {entry.path.name for entry in unreadable} == {"text.ring", "link.ring", "folder.ring"}
    rings[0].close()


def test_who_lives_is_seen_without_a_lock(emitter: ringbuf.Emitter, path: Path, ring_dir: Path) -> None:
    with ObservedRing(path) as ring:
        assert (ring.life, ring.drain, ring.uid, drain_of(ring_dir)) == ("alive", "none", os.getuid(), None)
        assert ring.process == Path("/proc/self/comm").read_text().strip()
        with Consumer(path) as consumer:
            consumer.set_state(lib.RB_CONSUMER_ATTACHED)
            ring.poll()
            assert ring.drain == "attached"
        emitter.close()
        ring.poll()
        assert ring.life == "closed"
    copy = path.with_name("copy.ring")
    copy.write_bytes(path.read_bytes())
    write_word(copy, "closed", 0)
    with ObservedRing(copy) as ring:
        assert (ring.life, ring.process) == ("dead", "")


def test_the_oldest_span_is_the_first_that_is_not_released(emitter: ringbuf.Emitter, path: Path) -> None:
    with ObservedRing(path) as ring, Consumer(path) as consumer:
        assert ring.oldest_unix_nano() is None
        made = fresh_records(emitter, 3)
        made["end_unix_nano"] = [2**63, 2**63 + 7, 5]
        emitter.emit_batch(made)
        ring.poll()
        assert ring.oldest_unix_nano() == 2**63
        assert ring.positions == [0]
        consumer.copy()
        for expected in (2**63 + 7, ring.header.created_unix_nano):  # 5 is before the ring was made
            consumer.release(1)
            ring.poll()
            assert ring.oldest_unix_nano() == expected


def test_the_sums_never_count_a_record_twice(emitter: ringbuf.Emitter, path: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 5))
    with ObservedRing(path) as ring:
        write_word(path, "delivered", 2)  # as the drain does, before it moves head
        ring.poll()
        sums = ring.sums()
        assert (sums.published, sums.delivered, sums.pending, sums.unaccounted) == (5, 2, 3, 0)
