"""Files of the spool that somebody removes, replaces or cuts while it runs: noticed, said, counted, made anew."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.spool.database import SpoolDatabase
from drain.spool.spool import SpoolRefusedError
from drain.spool.spool_time import Moment
from tests.unit.spool.bench import SECONDS, noise, put, put_back, request, settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.spool.bench import Bench

GONE = "spool's files were removed or replaced: what was in it is lost, a new one is begun"
RESCUED = "spool's write-ahead log was removed or replaced: nothing is lost, it is begun anew"
DAMAGED = "spool is damaged: set aside, a new one is begun"


def replace_by_another_spool(folder: Path) -> None:
    other = folder.parent / "other.db"
    database = SpoolDatabase(other, 1 << 20, 1 << 20)
    database.begin()
    database.add(Moment(1_763_820_000_000_000_000), "protobuf", {"shop": 2}, b"other")
    database.commit()
    database.close()
    other.rename(folder / "spool.db")


def remove(*names: str) -> Callable[[Path], object]:
    def happen(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return happen


LOST = SpoolSums(spooled=14, delivered=1, damaged=9, waiting=4)
KEPT = SpoolSums(spooled=14, delivered=1, waiting=13)
MISHAPS: dict[str, tuple[Callable[[Path], object], str, SpoolSums]] = {
    "the database is removed": (
        remove("spool.db"),
        GONE,
        LOST,
    ),
    "all files are removed": (
        remove("spool.db", "spool.db-wal", "spool.reserve", "x"),
        GONE,
        LOST,
    ),
    "the folder is removed": (shutil.rmtree, GONE, LOST),
    "the folder is renamed": (
        lambda folder: folder.rename(folder.parent / "elsewhere"),
        GONE,
        LOST,
    ),
    "the database is replaced": (
        replace_by_another_spool,
        GONE,
        SpoolSums(spooled=15, damaged=9, waiting=6),
    ),
    "the log is removed": (
        remove("spool.db-wal"),
        RESCUED,
        KEPT,
    ),
    "the log is replaced": (
        lambda folder: (folder / "x").rename(folder / "spool.db-wal"),
        RESCUED,
        KEPT,
    ),
    "the log is cut": (
        lambda folder: os.truncate(folder / "spool.db-wal", 0),
        DAMAGED,
        LOST,
    ),
    "the database is cut": (
        lambda folder: os.truncate(folder / "spool.db", 4096),
        DAMAGED,
        LOST,
    ),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_what_happens_to_the_files_is_noticed_and_what_is_put_then_is_safe(bench: Bench, mishap: str) -> None:
    happen, event, sums = MISHAPS[mishap]
    spool = bench.open()
    spool.done(put(spool, b"delivered", 1), Outcome(delivered=1))
    for number in range(3):
        put_back(spool, noise(3000 + number), 3)
    settled(spool)
    if mishap == "the database is cut":
        spool._store._database.checkpoint()  # type: ignore[union-attr]  # so that there is something to cut
    (bench.folder / "x").write_bytes(b"")
    happen(bench.folder)
    put_back(spool, b"after", 4)
    status = settled(spool)
    assert status.services == {"shop": sums}
    assert bench.events.count(event) == 1
    assert (status.is_writable, status.refused_failing) == (True, 0)
    assert (bench.folder / "spool.reserve").exists()
    copy = bench.folder.parent / "as after a kill"
    shutil.copytree(bench.folder, copy)
    assert spool.close(SECONDS)
    bench.folder = copy
    spool = bench.open()
    assert spool.status().services == {"shop": sums}
    assert b"after" in [entry.request.body for entry in spool.take(9)]


def test_files_that_go_while_nothing_is_put_are_noticed_soon(bench: Bench) -> None:
    spool = bench.open()
    put_back(spool)
    shutil.rmtree(bench.folder)
    bench.clock.seconds += 2
    status = settled(spool)
    assert status.services == {"shop": SpoolSums(spooled=3, damaged=3)}
    assert (status.set_aside, status.batches) == (1, 0)
    assert bench.events.count(GONE) == 1
    assert (bench.folder / "spool.db").exists()


@pytest.mark.parametrize("name", ["spool.db", "spool.db-wal"])
def test_what_was_written_into_files_that_went_meanwhile_is_not_said_to_be_safe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spool = bench.open()
    put_back(spool, b"before", 1)
    commit = SpoolDatabase.commit

    def commit_into_nothing(database: SpoolDatabase) -> None:
        (bench.folder / name).unlink()
        commit(database)

    with monkeypatch.context() as patch:
        patch.setattr(SpoolDatabase, "commit", commit_into_nothing)
        future = spool.put(request())
        refused = future.exception(SECONDS)
    lost = int(name == "spool.db")
    if lost:
        assert isinstance(refused, SpoolRefusedError)
    else:
        assert refused is None, "the log was rescued"
    waiting = 0 if lost else 4
    assert settled(spool).services == {"shop": SpoolSums(spooled=1 + (waiting and 3), damaged=lost, waiting=waiting)}
    assert spool.close(SECONDS)
    assert bench.open().status().services["shop"].waiting == waiting


def test_a_spool_that_another_process_has_meanwhile_is_waited_for(bench: Bench) -> None:
    spool = bench.open()
    put_back(spool)
    shutil.rmtree(bench.folder)
    bench.folder.mkdir(mode=0o700)
    theirs = SpoolDatabase(bench.folder / "spool.db", 1 << 20, 1 << 20)
    with pytest.raises(SpoolRefusedError):
        put(spool)
    assert not settled(spool).is_writable
    theirs.close()
    bench.clock.seconds += 2
    put_back(spool, b"after", 4)
    assert settled(spool).services == {"shop": SpoolSums(spooled=7, damaged=3, waiting=4)}
