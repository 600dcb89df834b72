"""The hold by itself: what is taken up, settled, moved and counted."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.sampling.hold.chunk import Fate
from drain.sampling.hold.hold import Hold, HoldFullError
from tests.points.hold_walk import (
    CAPACITY_BYTES,
    CHUNK_BYTES,
    LANE,
    RESOURCE,
    RING,
    opened,
    places_by_number,
    records_of,
)
from tests.points.victim import LAYOUT
from tests.unit.sampling.hold.held import ALL_OF_A_CHUNK, HEAD, chunk_files, found_in, held

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.origins import Origin


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
