"""The spool's folder and files are private, and one process's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from drain.spool.spool import SpoolLockedError
from ringbuf.exceptions import RingBufferError
from tests.unit.spool.bench import SECONDS, put

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.spool.bench import Bench


def test_folder_and_files_are_ours_alone(bench: Bench) -> None:
    before = os.umask(0)
    try:
        put(bench.open())
    finally:
        os.umask(before)
    assert bench.folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in bench.folder.iterdir()}
    assert modes == {"spool.db": 0o600, "spool.db-wal": 0o600, "spool.reserve": 0o600}


def test_a_link_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    bench.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RingBufferError, match="not a folder"):
        bench.open()


def test_what_kubernetes_makes_of_a_volume_with_fsgroup_is_made_private_again(bench: Bench) -> None:
    spool = bench.open()
    put(spool)
    assert spool.close(SECONDS)
    bench.folder.chmod(0o2770)
    for path in bench.folder.iterdir():
        path.chmod(0o660)
    assert bench.open().status().batches == 1
    assert bench.folder.stat().st_mode & 0o777 == 0o700


def test_a_second_spool_in_the_same_folder_is_refused(bench: Bench) -> None:
    spool = bench.open()
    with pytest.raises(SpoolLockedError, match="another process"):
        bench.open()
    put(spool)
    assert bench.damaged() == []
