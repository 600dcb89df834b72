"""multiprocessing and ProcessPoolExecutor in their three modes: each worker has a ring and ids of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.forking import pools
from tests.process.numbered import complaints, left_by, told_in
from tests.python import run

if TYPE_CHECKING:
    from pathlib import Path


# Each kind of pool and each way to start has its turn in `make test`.
QUICK = {
    "ProcessPoolExecutor, spawn",
    "multiprocessing.Pool, forkserver",
    "multiprocessing.Pool that replaces workers",
    "multiprocessing.Process, fork",
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way in QUICK else [pytest.mark.prove]) for way in pools.WAYS]
)
def test_every_worker_of_a_pool_has_its_own_ring(ring_dir: Path, tmp_path: Path, way: str) -> None:
    told = tmp_path / "told"
    code = "from tests.process.forking.pools import main\nmain()"
    done = run(code, way, ring_dir, told, timeout=2 * pools.PATIENCE)
    assert done.returncode == 0, done.stderr
    assert not complaints(done.stderr)
    spans = left_by(ring_dir)
    assert spans == told_in(told)
    tasks = pools.PROCESSES if "Process," in way else pools.TASKS
    parent = 2 * 20 * 3
    assert spans.total() == parent + tasks * 5 * 3
    assert len(spans) > pools.PROCESSES
