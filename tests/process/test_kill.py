"""SIGKILL of a producer at random moments: what it published is read once and whole, and nothing else is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.kills import DOORS
from tests.python import run
from tests.seeds import drawn_seed

if TYPE_CHECKING:
    from pathlib import Path


def kill(ring_dir: Path, times: int, door: str) -> None:
    seed = drawn_seed()
    done = run("from tests.process.kills import main\nmain()", ring_dir, times, seed, door, timeout=600)
    assert done.returncode == 0, f"seed {seed}\n{done.stderr}"
    rings, records = map(int, done.stdout.split())
    # Else the kills came too early to show anything.
    assert rings > times // 5
    assert records > times
    assert list(ring_dir.iterdir()) == []


def test_a_killed_producer_leaves_whole_records_in_their_order(ring_dir: Path) -> None:
    kill(ring_dir, 20, "emit")


@pytest.mark.prove
@pytest.mark.parametrize("door", DOORS)
def test_killed_producers_leave_whole_records_at_every_door(ring_dir: Path, door: str) -> None:
    kill(ring_dir, 150, door)


@pytest.mark.soak
@pytest.mark.parametrize("door", DOORS)
def test_thousands_of_killed_producers_leave_whole_records(ring_dir: Path, door: str) -> None:
    kill(ring_dir, 5000, door)
