"""Files of the hold are removed or cut under it: they are made anew, and what is gone is counted."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest

from drain.accounting.outcome import Outcome
from drain.sampling.hold.chunk import Fate
from drain.sampling.hold.hold import Hold, HoldFullError
from tests.points.hold_walk import CAPACITY_BYTES, CHUNK_BYTES, LANE, RING, opened, places_by_number, records_of
from tests.points.victim import LAYOUT
from tests.unit.sampling.hold.held import chunk_files, found_in, held

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.origins import Origin


def no_room(path: Path, _size: int) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


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
