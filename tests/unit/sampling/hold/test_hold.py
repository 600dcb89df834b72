"""The hold by itself: what is taken up, settled, moved, removed under it, and what hostile files do to it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import Hold, HoldFullError
from drain.sampling.hold.origins import OriginError, Origins
from drain.sampling.hold.unreadable import published_in
from ringbuf._ringbuf import ffi, lib
from tests.hold_walk import CAPACITY_BYTES, CHUNK_BYTES, LANE, RESOURCE, RING, opened, places_by_number, records_of
from tests.points.victim import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.sampling.hold.origins import Origin

HEAD = {name: field.offset for name, field in ffi.typeof("rb_chunk_head").fields}
SEGMENT = {name: lib.RB_CHUNK_HEAD_BYTES + field.offset for name, field in ffi.typeof("rb_segment").fields}
SEGMENT_BYTES = {count: lib.RB_SEGMENT_HEAD_BYTES + count * LAYOUT.slot_bytes for count in range(10)}
ALL_OF_A_CHUNK = (CHUNK_BYTES - 256) // (LAYOUT.slot_bytes + 4)


@pytest.fixture
def folder(ring_dir: Path) -> Path:
    return ring_dir / "hold"


@pytest.fixture
def hold(folder: Path) -> Iterator[Hold]:
    assert lib.rb_guard_install() == lib.RB_OK
    made = opened(folder)
    yield made
    made.close()


@pytest.fixture
def origin(hold: Hold) -> Origin:
    return hold.origin(LAYOUT.to_json(), RESOURCE, 7)


def held(hold: Hold, origin: Origin, first: int, count: int, ring: RingKey = RING) -> np.ndarray:
    """Hold records, released in their ring; return their places."""
    place = hold.append(origin, ring, LANE, first, first + count, records_of(first, count))
    hold.unreleased.released(ring, LANE)
    return np.arange(place, place + count, dtype=np.uint64)


def no_room(path: Path, _size: int) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def found_in(hold: Hold) -> set[int]:
    places = [place for found in hold.found for place in found.places.tolist()]
    return set(places_by_number(hold, np.array(places, np.uint64)))


def chunk_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("chunk-*"))


def test_what_waits_is_taken_up_by_the_next_drain_with_all_that_is_needed_to_send_it(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    places = held(hold, origin, 0, 10)
    hold.settle(places[::2], Fate.DELIVERED)
    hold.close()
    again = opened(folder)
    assert found_in(again) == {1, 3, 5, 7, 9}
    (found,) = again.found
    assert (found.ring, found.origin.layout, found.origin.root_threshold) == (RING, LAYOUT, 7)
    sums = again.sums()["walker"]
    assert (sums.taken_up, sums.held, sums.waiting, sums.unaccounted) == (5, 0, 5, 0)
    again.close()


def test_the_time_of_a_look_is_kept_within_a_boot(folder: Path) -> None:
    first = Hold(folder, CAPACITY_BYTES, chunk_bytes=CHUNK_BYTES, log=structlog.get_logger(), clock_nano=lambda: 5)
    held(first, first.origin(LAYOUT.to_json(), RESOURCE, 7), 0, 1)
    first.close()
    again = opened(folder)
    assert [found.arrived_nano for found in again.found] == [5]
    again.close()
    (path,) = chunk_files(folder)
    with path.open("r+b") as file:
        file.seek(HEAD["boot_id"])
        file.write(b"another boot was")
    after = Hold(folder, CAPACITY_BYTES, chunk_bytes=CHUNK_BYTES, log=structlog.get_logger(), clock_nano=lambda: 99)
    assert [found.arrived_nano for found in after.found] == [99]
    assert found_in(after) == {0}
    after.close()


def test_a_look_that_the_ring_does_not_know_of_is_released_by_whoever_attaches_it(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    hold.append(origin, RING, LANE, 2**64 - 3, 4, records_of(0, 4), invalid=1, sampled_out=2)
    hold.close()
    again = opened(folder)
    assert again.unreleased.end_of(RING, LANE, 2**64 - 3, 100) == Outcome(spooled=4, invalid=1, sampled_out=2)
    assert again.unreleased.end_of(RING, LANE, 4, 100) is None, "the ring knows of it"
    assert again.unreleased.end_of(RING, LANE, 2**64 - 3, 3) is None, "the lane has not so many"
    assert again.unreleased.end_of(RING, LANE + 1, 2**64 - 3, 100) is None
    assert again.unreleased.end_of(RING._replace(inode=3), LANE, 2**64 - 3, 100) is None, "another ring"
    again.unreleased.keep_only([RING.inode])
    assert again.unreleased.end_of(RING, LANE, 2**64 - 3, 100) is not None
    again.unreleased.keep_only([])
    assert again.unreleased.end_of(RING, LANE, 2**64 - 3, 100) is None
    again.close()


def test_a_look_that_does_not_add_up_is_not_released(folder: Path, hold: Hold, origin: Origin) -> None:
    hold.append(origin, RING, LANE, 10, 15, records_of(0, 4), invalid=2)
    hold.close()
    again = opened(folder)
    assert again.unreleased.end_of(RING, LANE, 10, 100) == Outcome(spooled=5), "as many as lie between its positions"
    again.close()


def test_an_origin_for_which_there_was_no_room_is_made_anew_later(
    folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = folder.glob("origin-*")
    path.unlink()

    def has_no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", has_no_room)
        assert hold.tend()
    assert not path.exists()
    assert hold.tend()
    assert path.read_bytes() == origin.document


def test_without_room_for_an_origin_all_else_is_tended(
    folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [held(hold, origin, number * ALL_OF_A_CHUNK, ALL_OF_A_CHUNK) for number in range(4)]
    hold.settle(np.concatenate(places), Fate.DELIVERED)
    for path in (*folder.glob("origin-*"), folder / "decisions"):
        path.unlink()

    def has_no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", has_no_room)
    assert not hold.tend(), "the decisions are gone"
    assert len(chunk_files(folder)) == 4, "what was in use since the last time may be in use again"
    hold.tend()
    assert len(chunk_files(folder)) == 3, "memory is given back"


def test_of_more_decisions_than_can_be_remembered_the_newest_are_found(
    folder: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = np.arange(20, dtype=np.uint64).reshape(-1, 2)
    hold.decisions.append(entries)
    key = hold.decisions.key
    hold.close()
    monkeypatch.setattr("drain.sampling.hold.decisions._MOST_FOUND", 3)
    again = opened(folder)
    assert again.decisions.key == key
    assert again.decisions.found.tolist() == entries[-3:].tolist()
    again.decisions.append(entries[:1])
    assert len(again.decisions) == 11
    again.close()


def test_decisions_of_a_large_hold_are_found_again(folder: Path, hold: Hold) -> None:
    entries = np.zeros(((64 << 20) // 16 + 1, 2), np.uint64)  # of a hold of 512 MiB
    hold.decisions.append(entries)
    key = hold.decisions.key
    hold.close()
    again = opened(folder)
    assert (again.decisions.key, len(again.decisions.found)) == (key, len(entries))
    again.close()


def test_records_of_several_chunks_have_the_layout_s_own_type(hold: Hold, origin: Origin) -> None:
    places = [held(hold, origin, turn * ALL_OF_A_CHUNK, ALL_OF_A_CHUNK) for turn in range(3)]
    (group,) = hold.records(np.concatenate(places))
    assert group.records.dtype == LAYOUT.dtype, "with what lies between its fields"
    assert group.records.dtype.itemsize == LAYOUT.slot_bytes


def test_settled_room_is_used_again(hold: Hold, origin: Origin, folder: Path) -> None:
    for turn in range(30):
        hold.settle(held(hold, origin, turn * ALL_OF_A_CHUNK, ALL_OF_A_CHUNK), Fate.SAMPLED_OUT)
    assert len(chunk_files(folder)) <= 2
    assert hold.sums()["walker"].sampled_out == 30 * ALL_OF_A_CHUNK


def test_a_hold_that_is_full_says_so_and_has_lost_nothing(hold: Hold, origin: Origin) -> None:
    places, count = [], 0
    while hold.has_room(LAYOUT.slot_bytes, ALL_OF_A_CHUNK):
        places.append(held(hold, origin, count, ALL_OF_A_CHUNK))
        count += ALL_OF_A_CHUNK
    assert len(places) == CAPACITY_BYTES // CHUNK_BYTES - 1, "one is kept for what is moved"
    with pytest.raises(HoldFullError):
        held(hold, origin, count, ALL_OF_A_CHUNK)
    assert set(places_by_number(hold, np.concatenate(places))) == set(range(count))
    hold.settle(places[0], Fate.DELIVERED)
    held(hold, origin, count, ALL_OF_A_CHUNK)


def test_the_few_that_outlive_their_neighbours_are_moved_and_keep_their_place(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    few = []
    for turn in range(40):
        places = held(hold, origin, turn * ALL_OF_A_CHUNK, ALL_OF_A_CHUNK)
        hold.settle(places[1:], Fate.DELIVERED)
        few.append(places[:1])
    numbers = {turn * ALL_OF_A_CHUNK for turn in range(40)}
    assert set(places_by_number(hold, np.concatenate(few))) == numbers
    assert len(chunk_files(folder)) <= CAPACITY_BYTES // CHUNK_BYTES
    assert hold.waiting_bytes(RING) == 40 * LAYOUT.slot_bytes
    hold.settle(np.concatenate(few[:10]), Fate.REJECTED)
    hold.close()
    again = opened(folder)
    assert found_in(again) == numbers - {turn * ALL_OF_A_CHUNK for turn in range(10)}
    again.close()


def test_a_full_file_system_is_pressure_and_no_error(
    hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(HoldFullError):
        held(hold, origin, 0, 1)
    monkeypatch.undo()
    held(hold, origin, 0, 1)


def test_the_one_chunk_that_there_is_room_for_is_used_again(
    folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = held(hold, origin, 0, 200)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not hold.has_room(LAYOUT.slot_bytes, 200)
    hold.settle(first[:-1], Fate.DELIVERED)
    assert not hold.has_room(LAYOUT.slot_bytes, 200)  # one of them waits
    hold.settle(first[-1:], Fate.DELIVERED)
    assert hold.has_room(LAYOUT.slot_bytes, 200)
    held(hold, origin, 200, 200)
    assert len(chunk_files(folder)) == 1
    hold.close()
    assert found_in(opened(folder)) == set(range(200, 400))


def test_a_drain_begins_without_a_byte_of_room_and_goes_on_when_there_is_some(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        patch.setattr("pathlib.Path.mkdir", full)
        hold = opened(folder)
        with pytest.raises(HoldFullError):
            hold.origin(LAYOUT.to_json(), RESOURCE, 7)
        with pytest.raises(OSError, match="No space left"):
            hold.decisions.append(np.zeros((1, 2), np.uint64))
        assert hold.tend(), "the folder cannot be made now"
        hold.close()
    again = opened(folder)
    again.close()
    (folder / "decisions").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        hold = opened(folder)
    assert not hold.tend(), "the decisions are to be written"
    hold.decisions.rewrite(np.ones((1, 2), np.uint64))
    assert hold.tend()
    places = held(hold, hold.origin(LAYOUT.to_json(), RESOURCE, 7), 0, 3)
    assert set(places_by_number(hold, places)) == {0, 1, 2}
    hold.close()
    last = opened(folder)
    assert last.decisions.found.tolist() == [[1, 1]]
    last.close()


@pytest.mark.parametrize("settles", [False, True])
def test_a_hold_that_was_removed_still_says_how_far_a_lane_is_held(
    folder: Path, hold: Hold, origin: Origin, *, settles: bool
) -> None:
    """Of a ring that is not attached yet: else a kill would let the next drain read those records once more."""
    hold.append(origin, RING, LANE, 0, 7, records_of(0, 4), invalid=1, sampled_out=2)
    hold.close()
    again = opened(folder)
    (found,) = again.found
    again.settle(found.places if settles else found.places[:1], Fate.DELIVERED)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    again.tend()
    assert again.remade == 1
    del again  # a kill
    after = opened(folder)
    assert after.unreleased.end_of(RING, LANE, 0, 100) == Outcome(spooled=4, invalid=1, sampled_out=2)
    assert found_in(after) == (set() if settles else {1, 2, 3})
    after.close()


def test_a_file_that_was_removed_is_made_anew_when_there_is_room(
    folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = held(hold, origin, 0, 10)
    (path,) = chunk_files(folder)
    path.unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        hold.tend()
    assert (hold.remade, path.exists()) == (0, False)
    assert set(places_by_number(hold, places)) == set(range(10))
    held(hold, origin, 10, 10)
    hold.tend()
    assert (hold.remade, path.exists()) == (1, True)
    hold.close()
    again = opened(folder)
    assert found_in(again) == set(range(20))
    again.close()


def test_the_documents_of_one_owner_leave_room_for_another(hold: Hold) -> None:
    def resource(number: int) -> bytes:
        return b'{"service.name": "s%d", "much": "%s"}' % (number, b"x" * 8000)

    kept: list[Origin] = []
    with contextlib.suppress(HoldFullError):
        kept.extend(hold.origin(LAYOUT.to_json(), resource(number), 0, owner=1) for number in range(100))
    assert 2 < len(kept) < 100
    other = hold.origin(LAYOUT.to_json(), resource(1000), 0, owner=2)
    assert hold.origin(LAYOUT.to_json(), resource(0), 0, owner=1) is kept[0], "it is there already"
    held(hold, other, 0, 3)
    del kept[:-1]  # rings that have ended
    hold.origin(LAYOUT.to_json(), resource(1001), 0, owner=1)


def test_files_that_are_removed_are_made_anew_with_what_waited_in_them(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    places = held(hold, origin, 0, 100)
    hold.settle(places[:50], Fate.DELIVERED)
    hold.decisions.append(np.array([[1, 2]], np.uint64))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert not hold.tend(), "the decisions are gone with their file"
    hold.decisions.rewrite(np.array([[1, 2]], np.uint64))
    assert hold.tend()
    assert hold.remade == 1
    assert set(places_by_number(hold, places[50:])) == set(range(50, 100))
    hold.close()
    again = opened(folder)
    assert found_in(again) == set(range(50, 100))
    assert again.decisions.found.tolist() == [[1, 2]]
    again.close()


def test_a_file_that_is_cut_is_no_signal_and_what_was_in_it_is_counted(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    places = held(hold, origin, 0, 100)
    (path,) = chunk_files(folder)
    os.truncate(path, 4096)
    assert hold.records(places[90:]) == []
    hold.settle(places[:10], Fate.SAMPLED_OUT)
    more = held(hold, origin, 100, 5)
    assert set(places_by_number(hold, more)) == set(range(100, 105))
    hold.settle(places[10:], Fate.SAMPLED_OUT)
    assert hold.tend()
    assert hold.tend()
    assert hold.remade == 1, "it is told, though not this look has noticed it, and once"
    sums = hold.sums()["walker"]
    assert (sums.lost, sums.sampled_out, sums.waiting, sums.unaccounted) == (10, 90, 5, 0)
    hold.close()
    again = opened(folder)
    assert found_in(again) == set(range(100, 105))
    again.close()


def test_a_file_that_is_cut_under_an_append_loses_none_of_what_is_appended(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 1)
    os.truncate(chunk_files(folder)[0], 0)
    assert set(places_by_number(hold, held(hold, origin, 1, 50))) == set(range(1, 51))


def test_a_file_that_is_cut_under_an_append_takes_no_room_from_it_in_a_hold_that_is_full(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    """The caller has looked at the records, and counted them: to look once more would count them twice."""
    found: list[Path] = []
    while len(found) < CAPACITY_BYTES // CHUNK_BYTES - 1:  # the last is kept for what is moved
        held(hold, origin, 0, 100)
        found += set(chunk_files(folder)) - set(found)
    assert hold.has_room(LAYOUT.slot_bytes, 100)
    os.truncate(found[-1], 0)
    assert set(places_by_number(hold, held(hold, origin, 1000, 100))) == set(range(1000, 1100))


@pytest.mark.parametrize("size", [0, 4096, CHUNK_BYTES - 4096])
def test_where_there_is_no_other_a_file_that_was_cut_has_no_room(
    size: int, folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that there is room looks at records, and counts them."""
    held(hold, origin, 0, 10)
    monkeypatch.setattr("drain.sampling.hold.chunks.whole_file", no_room)
    assert hold.has_room(LAYOUT.slot_bytes, 10)
    os.truncate(chunk_files(folder)[0], size)
    assert not hold.has_room(LAYOUT.slot_bytes, 10)
    with pytest.raises(HoldFullError):
        held(hold, origin, 10, 10)
    monkeypatch.undo()
    assert hold.has_room(LAYOUT.slot_bytes, 10)
    assert set(places_by_number(hold, held(hold, origin, 10, 10))) == set(range(10, 20))


def test_a_segment_without_an_origin_does_not_have_that_of_the_one_before(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    chunk = hold._chunks.filled
    assert chunk is not None
    chunk.append(replace(chunk.segments[0], origin=None), records_of(0, 3), 0)
    content = chunk_files(folder)[0].read_bytes()
    origins = [content[at : at + 16] for at in (SEGMENT["origin"], SEGMENT["origin"] + SEGMENT_BYTES[3])]
    assert origins == [origin.id, bytes(16)]


@pytest.mark.parametrize("cut", range(0, 96, 7))
def test_decisions_that_a_kill_cut_short_are_those_that_are_whole(folder: Path, hold: Hold, cut: int) -> None:
    hold.decisions.append(np.arange(8, dtype=np.uint64).reshape(-1, 2))
    key = hold.decisions.key
    hold.close()
    os.truncate(folder / "decisions", cut)
    again = opened(folder)
    whole = max(0, cut - 32) // 16
    assert again.decisions.found.tolist() == [[2 * at, 2 * at + 1] for at in range(whole)]
    assert (again.decisions.key == key) is (cut >= 32)
    again.decisions.append(np.array([[8, 9]], np.uint64))
    again.close()
    last = opened(folder)
    assert last.decisions.found.tolist()[-1] == [8, 9]
    assert len(last.decisions) == whole + 1
    last.close()


def test_records_of_which_nobody_can_say_what_they_are_are_lost_once_and_counted(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    for path in folder.glob("origin-*"):
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    again = opened(folder)
    assert again.found == []
    assert (again.sums()[""].lost, again.sums()[""].unaccounted) == (3, 0)
    again.close()
    last = opened(folder)
    assert last.sums() == {}
    last.close()


class Damage(NamedTuple):
    """What is written over a chunk of three segments, of 3, 4 and 5 records; how many are found then, and lost."""

    offset: int
    content: bytes
    found: int
    lost: int
    unsound: int = 1


HOSTILE = {
    "magic": Damage(HEAD["magic"], b"not-this", 12, 0),
    "newer version": Damage(HEAD["version"], struct.pack("<I", 2), 0, 0),
    "version 0": Damage(HEAD["version"], struct.pack("<I", 0), 12, 0),
    "no number": Damage(HEAD["number"], bytes(8), 12, 0),
    "another number": Damage(HEAD["number"], struct.pack("<Q", 12), 0, 0, 0),
    "file_bytes": Damage(HEAD["file_bytes"], struct.pack("<I", 2**31), 0, 12),
    "boot": Damage(HEAD["boot_id"], bytes(16), 12, 0, 0),
    "unpublished": Damage(SEGMENT["number"], bytes(8), 0, 0, 0),
    "count": Damage(SEGMENT["count"], struct.pack("<I", 2**32 - 1), 9, 3),
    "slot_bytes": Damage(SEGMENT["slot_bytes"], struct.pack("<I", 0), 9, 3),
    "lane": Damage(SEGMENT["lane"], struct.pack("<I", 64), 9, 3),
    "origin": Damage(SEGMENT["origin"], bytes(16), 9, 3),
    "crc32": Damage(SEGMENT["crc32"], bytes(4), 9, 3),
    "crc32 of the last": Damage(SEGMENT["crc32"] + SEGMENT_BYTES[3] + SEGMENT_BYTES[4], bytes(4), 7, 5),
    "count of the last": Damage(SEGMENT["count"] + SEGMENT_BYTES[3] + SEGMENT_BYTES[4], b"\xff" * 4, 7, 0),
    "head and first": Damage(HEAD["magic"], bytes(lib.RB_CHUNK_HEAD_BYTES + 40), 0, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_chunk_that_is_damaged_what_is_sound_goes_on_and_the_rest_is_counted_once(
    name: str, folder: Path, hold: Hold, origin: Origin
) -> None:
    places = [held(hold, origin, first, count) for first, count in ((0, 3), (3, 4), (7, 5))]
    hold.close()
    (path,) = chunk_files(folder)
    damage = HOSTILE[name]
    with path.open("r+b") as file:
        file.seek(damage.offset)
        file.write(damage.content)
    again = opened(folder)
    assert len(found_in(again)) == damage.found
    assert again.unsound == damage.unsound
    assert sum(sums.lost for sums in again.sums().values()) == damage.lost
    assert all(sums.unaccounted == 0 for sums in again.sums().values())
    again.settle(np.concatenate([found.places for found in again.found] or places)[:1], Fate.DELIVERED)
    held(again, again.origin(LAYOUT.to_json(), RESOURCE, 7), 12, 3)
    again.close()
    last = opened(folder)
    assert len(found_in(last)) == max(damage.found - 1, 0) + 3
    assert sum(sums.lost for sums in last.sums().values()) == 0, "counted twice"
    last.close()


@pytest.mark.parametrize("size", [0, 100, 4096, CHUNK_BYTES - 4096, CHUNK_BYTES - 1, CHUNK_BYTES + 4096, 1 << 40])
def test_what_waited_in_a_file_that_was_cut_while_no_drain_ran_is_counted_as_far_as_it_is_known(
    size: int, folder: Path, hold: Hold, origin: Origin
) -> None:
    places = held(hold, origin, 0, 30)
    hold.settle(places[:10], Fate.DELIVERED)
    hold.close()
    os.truncate(chunk_files(folder)[0], size)
    again = opened(folder)
    assert (again.found, again.unsound) == ([], 1)
    assert sum(sums.lost for sums in again.sums().values()) == (30 if size > 100 else 0), "whose words are gone, too"
    again.close()
    assert opened(folder).sums() == {}, "counted twice"


def test_a_start_without_memory_for_a_chunk_sets_it_not_aside(
    folder: Path, hold: Hold, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(hold, origin, 0, 3)
    hold.close()

    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr("drain.sampling.hold.recovery.Chunk", fail)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            opened(folder)
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    again.close()


@pytest.mark.parametrize("name", ["decisions", "origin-"])
def test_a_start_without_a_descriptor_for_a_file_loses_nothing_of_it(
    folder: Path, hold: Hold, origin: Origin, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(hold, origin, 0, 3)
    hold.decisions.append(np.array([[1, 2]], np.uint64))
    hold.close()
    plain = os.open

    def fail(path: str | Path, *arguments: Any, **others: Any) -> int:
        if str(path).startswith(str(folder / name)):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return plain(path, *arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="Too many open files"):
            opened(folder)
    again = opened(folder)
    assert again.decisions.found.tolist() == [[1, 2]]
    assert found_in(again) == {0, 1, 2}
    again.close()


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_anybody_may_have_written_do_no_harm(seed: int, folder: Path, hold: Hold, origin: Origin) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
    held(hold, origin, 0, 40)
    held(hold, origin, 40, 40)
    hold.close()
    for _ in range(20):
        for path in folder.iterdir():
            content = bytearray(path.read_bytes())
            for _ in range(dice.randint(1, 4)):
                at = dice.choice([dice.randrange(len(content)), dice.randrange(min(512, len(content)))])
                content[at] = dice.choice([0, 1, 255, dice.randrange(256)])
            path.write_bytes(content)
        again = opened(folder)
        # A record's bytes are the encoder's to check; that so many are there, and can be read, is the hold's.
        for found in again.found:
            assert sum(len(group.records) for group in again.records(found.places)) == len(found.places)
            again.settle(found.places[:2], Fate.DELIVERED)
        assert all(sums.unaccounted == 0 for sums in again.sums().values())
        again.close()


def test_numbers_that_are_wrong_under_a_right_checksum_are_not_believed(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    held(hold, origin, 3, 4)
    hold.close()
    (path,) = chunk_files(folder)
    begin = lib.RB_CHUNK_HEAD_BYTES + SEGMENT_BYTES[3]
    head = bytearray(path.read_bytes()[begin : begin + lib.RB_SEGMENT_HEAD_BYTES])
    at = {name: offset - lib.RB_CHUNK_HEAD_BYTES for name, offset in SEGMENT.items()}
    struct.pack_into("<I", head, at["first_slot"], 0)  # another's
    struct.pack_into("<I", head, at["crc32"], zlib.crc32(head[at["bytes"] :]))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(head)
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert (again.unsound, again.sums()[""].lost) == (1, 4)
    again.close()


def test_what_waited_is_counted_to_its_end_though_a_segment_says_that_it_has_none(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    held(hold, origin, 3, 4)
    hold.close()
    (path,) = chunk_files(folder)
    begin = lib.RB_CHUNK_HEAD_BYTES + SEGMENT_BYTES[3]
    head = bytearray(path.read_bytes()[begin : begin + lib.RB_SEGMENT_HEAD_BYTES])
    at = {name: offset - lib.RB_CHUNK_HEAD_BYTES for name, offset in SEGMENT.items()}
    struct.pack_into("<II", head, at["bytes"], 0, 0)  # and count
    struct.pack_into("<I", head, at["crc32"], zlib.crc32(head[at["bytes"] :]))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(head)
    os.truncate(path, CHUNK_BYTES - 1)
    assert published_in(path) == {origin.id: 3}


def test_a_chunk_with_holes_is_not_used(folder: Path, hold: Hold, origin: Origin) -> None:
    """Reading a hole asks for memory, and where there is none that is a signal."""
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    os.truncate(path, 4096)
    os.truncate(path, CHUNK_BYTES)
    again = opened(folder)
    assert (again.found, again.unsound, again.sums()["walker"].lost) == ([], 1, 3)
    again.close()


def test_where_moved_records_were_is_not_believed_when_it_is_damaged(folder: Path, hold: Hold, origin: Origin) -> None:
    first = held(hold, origin, 0, ALL_OF_A_CHUNK)
    hold.settle(first[2:], Fate.DELIVERED)
    hold._chunks._begin(spare=0)
    (chunk,) = [chunk for chunk in hold._chunks if chunk.waiting]
    assert hold._chunks._move_out(chunk)
    hold.close()
    (moved,) = [path for path in chunk_files(folder) if path != chunk.path]
    with moved.open("r+b") as file:
        file.seek(lib.RB_CHUNK_HEAD_BYTES + lib.RB_SEGMENT_HEAD_BYTES)
        file.write(b"\7")
    again = opened(folder)
    assert (found_in(again), again.unsound) == ({0, 1}, 1)
    again.close()


@pytest.mark.parametrize("word", [lib.RB_HELD_LOST + 1, 200, 256, 2**32 - 1])
def test_a_record_whose_word_no_drain_has_stored_waits(word: int, folder: Path, hold: Hold, origin: Origin) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES - 8)  # of the second
        file.write(struct.pack("<I", word))
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert (again.sums()["walker"].waiting, again.sums()["walker"].unaccounted) == (3, 0)
    again.close()


def test_what_is_no_file_of_ours_is_set_aside(folder: Path, hold: Hold, origin: Origin, tmp_path: Path) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    (folder / "chunk-link").symlink_to(elsewhere)
    (folder / "chunk-copy").write_bytes(path.read_bytes())
    (folder / "chunk-folder").mkdir()
    os.mkfifo(folder / "chunk-pipe")
    with (folder / "chunk-sparse").open("wb") as file:
        file.truncate(CHUNK_BYTES)
    (folder / ".part-chunk-half").write_bytes(b"half")
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert again.unsound == 5
    assert not list(folder.glob(".part-*"))
    again.close()
    opened(folder).close()
    assert len(list(folder.glob("unsound-*"))) <= 4


def test_an_origin_whose_threshold_cannot_be_is_none(folder: Path, hold: Hold) -> None:
    """The hash of a file says that it is whole, and not who wrote it; the trace table would end the drain."""
    document = bytearray(hold.origin(LAYOUT.to_json(), RESOURCE, lib.RB_THRESHOLDS).document)
    document[16:24] = struct.pack("<Q", lib.RB_THRESHOLDS + 1)
    identity = hashlib.blake2b(document, digest_size=16).digest()
    folder.joinpath(f"origin-{identity.hex()}").write_bytes(document)
    with pytest.raises(OriginError, match="not an origin"):
        Origins(folder).of(identity)


def test_origins_that_nobody_refers_to_are_forgotten_and_the_bound_holds(hold: Hold, folder: Path) -> None:
    origins = [hold.origin(LAYOUT.to_json(), b'{"service.name": "a", "n": %d}' % n, 0) for n in range(3)]
    assert hold.origin(LAYOUT.to_json(), b'{"service.name": "a", "n": 1}', 0) is origins[1]
    held(hold, origins[0], 0, 1)
    del origins
    assert hold.tend()
    assert len(list(folder.glob("origin-*"))) == 1
    large = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * 10_000) for n in range(40)]
    kept = [hold.origin(LAYOUT.to_json(), resource, 0) for resource in large[:3]]
    with pytest.raises(HoldFullError):
        kept.extend(hold.origin(LAYOUT.to_json(), resource, 0) for resource in large)


def test_a_record_is_settled_once_whoever_says_it_again(hold: Hold, origin: Origin) -> None:
    places = held(hold, origin, 0, 4)
    hold.settle(places, Fate.DELIVERED)
    hold.settle(places, Fate.REJECTED)
    sums = hold.sums()["walker"]
    assert (sums.delivered, sums.rejected, sums.waiting, sums.unaccounted) == (4, 0, 0, 0)


def test_of_a_look_only_those_are_held_that_are_meant(folder: Path, hold: Hold, origin: Origin) -> None:
    which = np.array([1, 2, 5], np.uint32)
    first = hold.append(origin, RING, LANE, 0, 6, records_of(0, 6), which=which, sampled_out=3)
    assert set(places_by_number(hold, np.arange(first, first + 3, dtype=np.uint64))) == {1, 2, 5}
    hold.close()
    again = opened(folder)
    assert found_in(again) == {1, 2, 5}
    again.close()


def test_records_of_many_rings_and_chunks_are_settled_by_one_call_and_each_counted_where_it_is_from(
    folder: Path, hold: Hold
) -> None:
    rings = [RING._replace(inode=number) for number in range(40)]  # more than there are rows at first
    origins = [hold.origin(LAYOUT.to_json(), b'{"service.name": "s%d"}' % number, 0) for number in range(40)]
    places: list[int] = []
    for number, (ring, origin) in enumerate(zip(rings, origins, strict=True)):
        first = hold.append(origin, ring, LANE, 0, 20, records_of(20 * number, 20))
        places += range(first, first + 20)
    assert len(chunk_files(folder)) > 1
    random.Random(3).shuffle(places)  # noqa: S311 - a mixture
    settled = places[:500]
    nobodys = [2**64 - 1, 0, 77 << 32, places[0] | 0xFFFF_FFFF]  # no chunk has these
    hold.settle(np.array([*settled, *nobodys], np.uint64), Fate.SAMPLED_OUT)
    groups = hold.records(np.array(places[500:], np.uint64))
    left = [number for group in groups for number in group.records["number"].tolist()]
    assert len(left) == 300
    hold.tend()  # rows of those of whom nothing waits are let go
    for number, ring in enumerate(rings):
        waiting = sum(20 * number <= one < 20 * number + 20 for one in left)
        sums = hold.sums()[f"s{number}"]
        assert (sums.held, sums.waiting, sums.sampled_out) == (20, waiting, 20 - waiting)
        assert hold.waiting_bytes(ring) == waiting * LAYOUT.slot_bytes
    hold.settle(np.array(places, np.uint64), Fate.DELIVERED)
    hold.tend()
    held(hold, origins[0], 900, 3)
    assert (hold.sums()["s0"].waiting, hold.sums()["s39"].waiting) == (3, 0), "a row that was let go is as new"
    assert all(sums.unaccounted == 0 for sums in hold.sums().values())
