from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from drain.rings.directory import RingDirectory, _id_of
from drain.rings.quarantine import Quarantine
from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(ring_dir: Path) -> Iterator[RingDirectory]:
    directory = RingDirectory(ring_dir)
    yield directory
    directory.close()


def put(directory: RingDirectory, quarantine: Quarantine, count: int, size_bytes: int = 1) -> None:
    for number in range(count):
        path = directory.path / f"ring-{number}.ring"
        path.write_bytes(bytes(size_bytes))
        assert quarantine.take(path.name, _id_of(path.stat()), {"reason": "a test"})


def kept(directory: RingDirectory, suffix: str) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in (directory.path / "quarantine").glob(f"*{suffix}"))


def test_the_oldest_rings_go_and_their_reasons_stay_for_a_while(directory: RingDirectory) -> None:
    quarantine = Quarantine(directory, max_files=2)
    put(directory, quarantine, 20)
    assert kept(directory, ".ring") == ["ring-18", "ring-19"]
    assert kept(directory, ".reason") == [f"ring-{number}" for number in range(11, 20)], (
        "four times as many, and the new"
    )
    quarantine.close()


def test_as_many_as_the_page_says(directory: RingDirectory) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (found,) = re.finditer(r"at most (\d+) files and (\d+) MiB; the oldest go first", page)
    most_files, most_mebibytes = map(int, found.groups())
    quarantine = Quarantine(directory)
    put(directory, quarantine, most_files + 3)
    assert len(kept(directory, ".ring")) == most_files
    put(directory, quarantine, 5, size_bytes=(most_mebibytes << 20) // 4 + 4096)
    assert kept(directory, ".ring") == ["ring-2", "ring-3", "ring-4"]
    quarantine.close()
