"""Attaching to a file that is no sound ring: each way to be wrong has its own status and reason."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf._ringbuf import ffi, lib
from tests.consumer import Consumer, RefusedError, attach, rings_in
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPACITY = 8


@pytest.fixture
def good(ring_dir: Path) -> bytearray:
    """Return the bytes of a sound ring with two lanes, the first with three records."""
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=CAPACITY, lanes=2)
    emitter.emit_batch(fresh_records(emitter, 3))
    (path,) = rings_in(ring_dir)
    data = bytearray(path.read_bytes())
    with Consumer(path) as consumer:
        for lane in range(2):
            consumer.take(lane)
    emitter.close()
    path.unlink()
    return data


def header_of(data: bytearray) -> Any:
    return ffi.from_buffer("rb_header *", data)


def lane_of(data: bytearray, lane: int = 0) -> Any:
    header = header_of(data)
    return ffi.cast("rb_lane *", ffi.from_buffer(data) + header.header_bytes + lane * header.lane_stride_bytes)


def seal(data: bytearray) -> bytearray:
    """Make the checksum right again."""
    header = header_of(data)
    header.crc32 = 0
    header.crc32 = zlib.crc32(memoryview(data)[: header.header_bytes])
    return data


def written(folder: Path, data: bytearray) -> Path:
    path = folder / "file.ring"
    path.write_bytes(data)
    return path


def set_field(name: str, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        setattr(header_of(data), name, value)
        seal(data)

    return change


def set_bytes(at: int, content: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + len(content)] = content

    return change


def cut_to(size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        del data[size:]

    return change


def grow(data: bytearray) -> None:
    data.extend(bytes(4096))


def set_tail(lane: int, tail: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        lane_of(data, lane).tail = tail

    return change


def set_head(lane: int, head: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        lane_of(data, lane).head = head

    return change


# What is done to a good ring, the status, and words of the reason.
WRONG: dict[str, tuple[Callable[[bytearray], None], int, str]] = {
    "an empty file": (cut_to(0), lib.RB_E_NOT_A_RING, "ends after 0 bytes"),
    "half a header": (cut_to(60), lib.RB_E_NOT_A_RING, "ends after 60 bytes"),
    "another magic": (set_bytes(0, b"ringbug\0"), lib.RB_E_NOT_A_RING, "magic"),
    "a magic that goes on": (set_bytes(7, b"s"), lib.RB_E_NOT_A_RING, "magic"),
    "a newer major": (set_field("abi_major", 2), lib.RB_E_ABI_NEWER, f"version 2.{lib.RB_ABI_MINOR}"),
    "major 0": (set_field("abi_major", 0), lib.RB_E_ABI_UNKNOWN, f"version 0.{lib.RB_ABI_MINOR} never was"),
    "an overwrite flag": (set_field("flags", lib.RB_FLAG_OVERWRITE), lib.RB_E_FLAGS, "0x1"),
    "an unknown flag": (set_field("flags", 1 << 31), lib.RB_E_FLAGS, "0x80000000"),
    "no header pages": (set_field("header_bytes", 0), lib.RB_E_GEOMETRY, "header_bytes is 0"),
    "half a header page": (set_field("header_bytes", 2048), lib.RB_E_GEOMETRY, "header_bytes is 2048"),
    "a header off its page": (set_field("header_bytes", 4097), lib.RB_E_GEOMETRY, "header_bytes is 4097"),
    "too much header": (set_field("header_bytes", 1 << 20), lib.RB_E_GEOMETRY, "header_bytes is 1048576"),
    "no slot": (set_field("slot_bytes", 0), lib.RB_E_GEOMETRY, "slot_bytes is 0"),
    "a slot off its line": (set_field("slot_bytes", 65), lib.RB_E_GEOMETRY, "slot_bytes is 65"),
    "too large a slot": (set_field("slot_bytes", 16448), lib.RB_E_GEOMETRY, "slot_bytes is 16448"),
    "another slot size": (set_field("slot_bytes", 16384), lib.RB_E_GEOMETRY, "lane_stride_bytes is"),
    "no lane": (set_field("lane_count", 0), lib.RB_E_GEOMETRY, "lane_count is 0"),
    "too many lanes": (set_field("lane_count", 65), lib.RB_E_GEOMETRY, "lane_count is 65"),
    "one lane less": (set_field("lane_count", 1), lib.RB_E_GEOMETRY, "file_bytes is"),
    "no capacity": (set_field("capacity_slots", 0), lib.RB_E_GEOMETRY, "capacity_slots is 0"),
    "a small capacity": (set_field("capacity_slots", 2), lib.RB_E_GEOMETRY, "capacity_slots is 2"),
    "no power of two": (set_field("capacity_slots", 6), lib.RB_E_GEOMETRY, "capacity_slots is 6"),
    "a huge capacity": (set_field("capacity_slots", 1 << 31), lib.RB_E_GEOMETRY, "capacity_slots is"),
    "a larger capacity": (set_field("capacity_slots", 1024), lib.RB_E_GEOMETRY, "lane_stride_bytes is"),
    "no stride": (set_field("lane_stride_bytes", 0), lib.RB_E_GEOMETRY, "lane_stride_bytes is 0"),
    "a stride off its page": (set_field("lane_stride_bytes", 4097), lib.RB_E_GEOMETRY, "lane_stride_bytes is 4097"),
    "a huge stride": (set_field("lane_stride_bytes", 1 << 63), lib.RB_E_GEOMETRY, "lane_stride_bytes is"),
    "a larger stride": (set_field("lane_stride_bytes", 8192), lib.RB_E_GEOMETRY, "file_bytes is"),
    "file_bytes 0": (set_field("file_bytes", 0), lib.RB_E_GEOMETRY, "file_bytes is 0"),
    "file_bytes 2^64 - 1": (set_field("file_bytes", 2**64 - 1), lib.RB_E_GEOMETRY, "file_bytes is"),
    "a file cut short": (cut_to(8192), lib.RB_E_FILE_SIZE, "the file has 8192"),
    "a file that goes on": (grow, lib.RB_E_FILE_SIZE, "the header says"),
    "another pid": (set_bytes(56, b"\xff" * 4), lib.RB_E_CRC, "CRC-32"),
    "another checksum": (set_bytes(60, b"\xff" * 4), lib.RB_E_CRC, "ffffffff"),
    "another letter in the layout": (set_bytes(140, b"\0"), lib.RB_E_CRC, "CRC-32"),
    "a layout in the header": (set_field("layout_offset", 127), lib.RB_E_JSON_BOUNDS, "the layout (offset 127"),
    "a layout behind": (set_field("layout_offset", 1 << 20), lib.RB_E_JSON_BOUNDS, "the layout"),
    "a layout that goes on": (set_field("layout_bytes", 4096), lib.RB_E_JSON_BOUNDS, "the layout"),
    "a layout that wraps": (set_field("layout_bytes", 2**32 - 1), lib.RB_E_JSON_BOUNDS, "the layout"),
    "a resource in the header": (set_field("resource_offset", 0), lib.RB_E_JSON_BOUNDS, "the resource (offset 0"),
    "a resource behind": (set_field("resource_offset", 4097), lib.RB_E_JSON_BOUNDS, "the resource"),
    "a resource that wraps": (set_field("resource_bytes", 2**32 - 100), lib.RB_E_JSON_BOUNDS, "the resource"),
    "a tail behind the head": (set_head(0, 4), lib.RB_E_POSITION, "lane 0: tail 3"),
    "a tail far ahead": (set_tail(0, CAPACITY + 1), lib.RB_E_POSITION, "lane 0: tail 9 is not within 8 of head 0"),
    "a second lane astray": (set_tail(1, 2**64 - 1), lib.RB_E_POSITION, "lane 1"),
    "a head astray": (set_head(1, 2**63), lib.RB_E_POSITION, "lane 1"),
}


@pytest.mark.parametrize("way", WRONG)
@pytest.mark.parametrize("access", [lib.RB_OBSERVE, lib.RB_CONSUME], ids=["observe", "consume"])
def test_every_way_to_be_wrong_has_its_status_and_reason(
    good: bytearray, ring_dir: Path, access: int, way: str
) -> None:
    change, status, reason = WRONG[way]
    change(good)
    path = written(ring_dir, good)
    with pytest.raises(RefusedError) as refused:
        Consumer(path, observe=access == lib.RB_OBSERVE)
    assert (refused.value.status, reason in refused.value.detail) == (status, True), refused.value


def test_the_good_ring_is_attached(good: bytearray, ring_dir: Path) -> None:
    with Consumer(written(ring_dir, seal(good))) as consumer:
        assert consumer.poll() == 3


@pytest.mark.parametrize("field", ["abi_minor", "boot_id", "created_unix_nano", "pid", "root_threshold"])
def test_what_a_reader_need_not_know_does_not_matter(good: bytearray, ring_dir: Path, field: str) -> None:
    found = dict(ffi.typeof("rb_header").fields)[field]
    at = found.offset
    good[at : at + ffi.sizeof(found.type)] = b"\x7f" * ffi.sizeof(found.type)
    with Consumer(written(ring_dir, seal(good))) as consumer:
        assert len(consumer.take()) == 3


def test_every_status_has_words_of_its_own() -> None:
    statuses = ffi.typeof("enum rb_status").elements
    words = [ffi.string(lib.rb_strerror(status)) for status in statuses]
    assert len(set(words)) == len(statuses)
    assert b"unknown status" not in words
    assert ffi.string(lib.rb_strerror(-1000)) == b"unknown status"


def test_a_ring_may_be_as_large_as_the_limit_and_no_larger(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    with Consumer(path, max_bytes=len(good)):
        pass
    with pytest.raises(RefusedError, match="the limit is") as refused:
        Consumer(path, max_bytes=len(good) - 1)
    assert refused.value.status == lib.RB_E_TOO_LARGE


def test_a_ring_with_holes_is_not_consumed(good: bytearray, ring_dir: Path) -> None:
    path = ring_dir / "sparse.ring"
    with path.open("wb") as file:
        file.write(good[:4096])
        file.truncate(len(good))
    with pytest.raises(RefusedError, match=r"of .* bytes are allocated") as refused:
        Consumer(path)
    assert refused.value.status == lib.RB_E_SPARSE
    with Consumer(path, observe=True) as consumer:  # a copy on disk may have holes
        assert consumer.poll() == 0


def test_a_directory_is_no_ring(ring_dir: Path) -> None:
    fd = os.open(ring_dir, os.O_RDONLY)
    try:
        with pytest.raises(RefusedError, match="not a regular file") as refused:
            attach(fd, lib.RB_CONSUME)
    finally:
        os.close(fd)
    assert refused.value.status == lib.RB_E_NOT_A_RING


def test_a_fifo_is_no_ring(ring_dir: Path) -> None:
    os.mkfifo(ring_dir / "fifo")
    with pytest.raises(RefusedError, match="not a regular file") as refused:
        Consumer(ring_dir / "fifo")
    assert refused.value.status == lib.RB_E_NOT_A_RING


def test_a_device_is_no_ring(ring_dir: Path) -> None:
    fd = os.open("/dev/zero", os.O_RDWR)
    try:
        with pytest.raises(RefusedError, match="not a regular file"):
            attach(fd, lib.RB_CONSUME)
    finally:
        os.close(fd)


def test_no_descriptor_is_no_ring() -> None:
    with pytest.raises(RefusedError, match="fstat") as refused:
        attach(-1, lib.RB_CONSUME)
    assert refused.value.status == lib.RB_E_SYSTEM


def test_a_ring_that_may_only_be_read_is_not_consumed(good: bytearray, ring_dir: Path) -> None:
    fd = os.open(written(ring_dir, good), os.O_RDONLY)
    try:
        with pytest.raises(RefusedError, match="mmap") as refused:
            attach(fd, lib.RB_CONSUME)
    finally:
        os.close(fd)
    assert refused.value.status == lib.RB_E_SYSTEM


def test_there_is_no_third_way_to_attach(good: bytearray, ring_dir: Path) -> None:
    fd = os.open(written(ring_dir, good), os.O_RDWR)
    try:
        with pytest.raises(RefusedError) as refused:
            attach(fd, 2)
    finally:
        os.close(fd)
    assert refused.value.status == lib.RB_E_ARGUMENT


# ---- observing ----


def test_an_observer_sees_what_is_pending_and_writes_nothing(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    with Consumer(path, observe=True) as consumer:
        assert consumer.poll() == 3
        assert (consumer.view().tail, consumer.view().released) == (3, 0)
        for call in (
            consumer.copy,
            consumer.release,
            lambda: consumer.set_state(lib.RB_CONSUMER_DETACHED),
            lambda: consumer.set_sleeping(1),
        ):
            with pytest.raises(RefusedError) as refused:
                call()
            assert refused.value.status == lib.RB_E_ARGUMENT
    assert path.read_bytes() == good


@pytest.mark.parametrize("excess", [0, 1, 3])
def test_words_of_a_drain_that_was_killed_are_taken_over(good: bytearray, ring_dir: Path, excess: int) -> None:
    lane_of(good).rejected = excess  # of the three that are pending
    with Consumer(written(ring_dir, good)) as consumer:
        assert (consumer.view().rejected, consumer.view().released) == (excess, 0)


@pytest.mark.parametrize(
    "words",
    [
        {"delivered": 4},
        {"delivered": 2**64 - 1},
        {"delivered": 2**64 - 1, "invalid": 1},
        {"spooled": 2**63, "dead_lettered": 2**63},
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [0, 2**64 - 2])
def test_outcome_words_that_no_drain_wrote_are_refused(
    good: bytearray, ring_dir: Path, first: int, words: dict[str, int]
) -> None:
    shift(good, first)
    for name, value in words.items():
        setattr(lane_of(good), name, value)
    path = written(ring_dir, good)
    with pytest.raises(RefusedError, match="lane 0: the outcome words do not add up") as refused:
        Consumer(path)
    assert refused.value.status == lib.RB_E_POSITION
    with Consumer(path, observe=True) as observer:  # beside a drain it may see words newer than head
        assert observer.poll() == 3


def test_released_records_of_which_nobody_told_what_became_are_refused(good: bytearray, ring_dir: Path) -> None:
    lane_of(good).head = 2
    lane_of(good).delivered = 1
    with pytest.raises(RefusedError, match="do not add up to head 2 - 0"):
        Consumer(written(ring_dir, good))


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(("first", "head"), [(0, 2**64 - 1), (3, 2), (0, 2**63), (2**64 - 2, 2**64 - 3)])
def test_a_head_behind_the_first_position_is_refused(
    good: bytearray, ring_dir: Path, first: int, head: int, observe: bool
) -> None:
    """Of so many spans no sum is right: released would exceed published, both modulo 2^64."""
    shift(good, first)
    lane_of(good).head = head
    lane_of(good).tail = (head + 3) % 2**64
    lane_of(good).delivered = (head - first) % 2**64
    with pytest.raises(RefusedError, match=f"lane 0: head {head} is behind the first position {first}") as refused:
        Consumer(written(ring_dir, good), observe=observe)
    assert refused.value.status == lib.RB_E_POSITION


def shift(data: bytearray, first: int) -> None:
    """Let the lanes have begun at another position."""
    header_of(data).first_position = first
    for lane in range(2):
        lane_of(data, lane).tail = (lane_of(data, lane).tail + first) % 2**64
        lane_of(data, lane).head = first
    seal(data)


def test_an_observer_follows_the_drain(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 5))
    (path,) = rings_in(ring_dir)
    with Consumer(path, observe=True) as observer, Consumer(path) as consumer:
        consumer.set_state(lib.RB_CONSUMER_ATTACHED)
        consumer.copy()
        consumer.release(delivered=1, rejected=2, invalid=1)
        view = observer.view()
        assert (view.tail, view.released, view.consumer_state) == (5, 4, lib.RB_CONSUMER_ATTACHED)
        assert (view.delivered, view.spooled, view.rejected, view.dead_lettered, view.invalid) == (1, 0, 2, 0, 1)


def test_what_is_told_of_a_lane_s_counts_is_in_the_ring_for_the_next_drain(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    told = ffi.new("rb_counts *")
    with Consumer(path) as first:
        assert lib.rb_told(first.pointer, 0, told) == lib.RB_OK
        assert (told.full, told.contended, told.unsampled, told.truncated, told.invalid_values) == (0, 0, 0, 0, 0)
        assert lib.rb_tell(first.pointer, 0, ffi.new("rb_counts *", (1, 2, 3, 4, 5))) == lib.RB_OK
        for call in (lib.rb_tell, lib.rb_told):
            assert call(first.pointer, first.header.lane_count, told) == lib.RB_E_ARGUMENT
    with Consumer(path) as second, Consumer(path, observe=True) as observer:
        assert second.view().full == 0, "the producer's own counts are its own"
        assert lib.rb_tell(observer.pointer, 0, told) == lib.RB_E_ARGUMENT
        assert lib.rb_told(observer.pointer, 0, told) == lib.RB_OK
    assert (told.full, told.contended, told.unsampled, told.truncated, told.invalid_values) == (1, 2, 3, 4, 5)


# ---- positions that change under an attached reader ----


def test_a_tail_that_goes_astray_is_noticed_and_nothing_is_copied(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    tail_at = header_of(good).header_bytes
    with Consumer(path) as consumer:
        consumer.copy(count=2)
        for tail in (0, 1, CAPACITY + 1, 2**32, 2**63, 2**64 - 1):
            write_word(path, tail_at, tail)
            for call in (consumer.poll, consumer.copy):
                with pytest.raises(RefusedError) as refused:
                    call()
                assert refused.value.status == lib.RB_E_POSITION
        write_word(path, tail_at, 3)
        assert len(consumer.copy()) == 1


def test_a_tail_behind_what_was_released_is_noticed(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    with Consumer(path) as consumer:
        consumer.take()
        write_word(path, header_of(good).header_bytes, 2)
        with pytest.raises(RefusedError):
            consumer.copy()


def test_the_drains_words_in_the_file_are_not_believed_after_attach(good: bytearray, ring_dir: Path) -> None:
    path = written(ring_dir, good)
    head_at = header_of(good).header_bytes + ffi.offsetof("rb_lane", "head")
    with Consumer(path) as consumer:
        consumer.copy(count=1)
        write_word(path, head_at, 2**63)
        write_word(path, head_at + 8, 1000)
        assert (consumer.view().released, consumer.view().delivered) == (0, 0)
        consumer.release(1)
        assert (consumer.view().released, consumer.view().delivered) == (1, 1)
    assert struct.unpack_from("<QQ", path.read_bytes(), head_at) == (1, 1)


def test_no_more_is_released_than_was_read(good: bytearray, ring_dir: Path) -> None:
    with Consumer(written(ring_dir, good)) as consumer:
        consumer.copy(count=2)
        for outcome in ({"delivered": 3}, {"delivered": 2, "invalid": 1}, {"rejected": 2**64 - 1, "invalid": 4}):
            with pytest.raises(RefusedError) as refused:
                consumer.release(**outcome)
            assert refused.value.status == lib.RB_E_ARGUMENT
        consumer.release(2)
        assert consumer.view().released == 2


def test_there_is_no_lane_behind_the_last(good: bytearray, ring_dir: Path) -> None:
    with Consumer(written(ring_dir, good)) as consumer:
        for call in (lambda: consumer.copy(lane=2), lambda: consumer.release(lane=2)):
            with pytest.raises(RefusedError) as refused:
                call()
            assert refused.value.status == lib.RB_E_ARGUMENT
        with pytest.raises(RefusedError):
            consumer.set_state(3)


# ---- a head that goes astray under the producer ----


@pytest.mark.parametrize("head", [9, 1000, 2**32, 2**63, 2**64 - 1])
def test_under_a_head_astray_the_ring_is_full(ring_dir: Path, head: int) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1)
    emitter.emit_batch(fresh_records(emitter, 8))
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        slots = consumer.header.header_bytes + lib.RB_LANE_BYTES
        write_word(path, consumer.header.header_bytes + ffi.offsetof("rb_lane", "head"), head)
    before = path.read_bytes()
    assert emitter.emit_batch(fresh_records(emitter, 100)) == 0
    assert not emitter.emit(fresh_records(emitter, 1)[0])
    assert (emitter.stats().published, emitter.stats().full) == (8, 101)
    assert path.read_bytes()[slots:] == before[slots:]
    emitter.close()


@pytest.mark.parametrize("head", [1000, 2**32, 2**63])
def test_under_a_head_astray_a_batch_stays_in_its_lane(ring_dir: Path, head: int) -> None:
    # With room left the check-out passes, and the batch then looks at `head` again.
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1)
    emitter.emit_batch(fresh_records(emitter, 2))
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        write_word(path, consumer.header.header_bytes + ffi.offsetof("rb_lane", "head"), head)
    assert emitter.emit_batch(fresh_records(emitter, 10_000)) == 6
    assert (emitter.stats().published, emitter.stats().full) == (8, 9994)
    emitter.close()


def write_word(path: Path, at: int, value: int) -> None:
    """Change a word of the file as a hostile process does, through the file itself."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        file.write(struct.pack("<Q", value))


def test_what_was_sampled_out_is_told_apart_from_what_was_delivered(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 5))
    (path,) = rings_in(ring_dir)
    with Consumer(path, observe=True) as observer, Consumer(path) as consumer:
        consumer.copy()
        consumer.release(delivered=1, sampled_out=2)
        for view in (observer.view(), consumer.view()):
            assert (view.delivered, view.sampled_out, view.released) == (1, 2, 3)
    with Consumer(path) as consumer:  # the next drain
        assert (consumer.view().delivered, consumer.view().sampled_out) == (1, 2)
        consumer.copy()
        consumer.release(delivered=1, sampled_out=1)
        assert (consumer.view().delivered, consumer.view().sampled_out, consumer.view().released) == (2, 3, 5)


def test_more_sampled_out_than_delivered_is_not_believed(good: bytearray, ring_dir: Path) -> None:
    lane_of(good).delivered, lane_of(good).sampled_out = 2, 2**64 - 1  # of the three that are pending
    for is_observer in (True, False):
        with Consumer(written(ring_dir, good), observe=is_observer) as consumer:
            assert (consumer.view().delivered, consumer.view().sampled_out) == (0, 2)
