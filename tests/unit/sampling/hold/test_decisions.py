"""The record of decisions: what is found of it again, after a kill in its middle, too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.points.hold_walk import opened

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.hold import Hold


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


def test_decisions_of_a_large_hold_are_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "hold"  # not under /dev/shm, which has 64 MiB in a container unless more is asked for
    hold = opened(folder)
    entries = np.zeros(((64 << 20) // 16 + 1, 2), np.uint64)  # of a hold of 512 MiB
    hold.decisions.append(entries)
    key = hold.decisions.key
    hold.close()
    again = opened(folder)
    assert (again.decisions.key, len(again.decisions.found)) == (key, len(entries))
    again.close()


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
