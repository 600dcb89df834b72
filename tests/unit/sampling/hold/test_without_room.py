"""No room, no memory, no descriptor: that is pressure, and nothing is lost by it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drain.sampling.hold.chunk import Fate
from drain.sampling.hold.hold import Hold, HoldFullError
from tests.points.hold_walk import RESOURCE, opened, places_by_number
from tests.points.victim import LAYOUT
from tests.unit.sampling.hold.held import ALL_OF_A_CHUNK, chunk_files, found_in, held

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.origins import Origin


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
