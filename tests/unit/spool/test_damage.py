"""A damaged database is set aside and another begun; what was in it is counted, and what is set aside is bounded."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.spool.spool import SpoolLimits
from tests.unit.spool.bench import MEBIBYTE, SECONDS, noise, put, put_back, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.settings.spool_choices import WhenFull
    from drain.spool.database import SpoolDatabase
    from tests.unit.spool.bench import Bench


def run_sql(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def become_another_program_s(path: Path) -> None:
    path.unlink()
    run_sql(path, "CREATE TABLE song (title TEXT)")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(noise(100_000)),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut in a page": lambda path: os.truncate(path, 1000),
    "another program's": become_another_program_s,
    "without a table": lambda path: run_sql(path, "DROP TABLE service"),
    "with an unsound row": lambda path: run_sql(path, "UPDATE batch SET services = 'nonsense'"),
    "with counts that differ": lambda path: run_sql(path, "UPDATE batch SET spans = 99"),
    "of a newer version": lambda path: run_sql(path, "PRAGMA user_version = 99"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(bench: Bench, damage: str) -> None:
    spool = bench.open()
    for number in range(20):
        put_back(spool, noise(20_000 + number), 1)
    assert spool.close(SECONDS)
    DAMAGES[damage](bench.folder / "spool.db")
    spool = bench.open()
    spool.take(100)
    put_back(spool, b"after", 4)
    assert [entry.request.body for entry in spool.take(100)] == [b"after"]
    status = settled(spool)
    assert status.set_aside == 1
    assert status.services["shop"].unaccounted == 0
    assert status.services["shop"].waiting == 4
    assert bench.damaged() == ["spool.db"]
    (line,) = [entry for entry in bench.capture.entries if "damaged" in entry["event"]]
    assert line["log_level"] == "error"
    assert "replay" in line["recover"]
    assert spool.close(SECONDS)
    assert bench.open().status().services == status.services


def test_what_a_start_finds_damaged_is_counted_as_lost_by_this_drain(bench: Bench) -> None:
    spool = bench.open()
    put_back(spool, b"before", 3)
    assert spool.close(SECONDS)
    DAMAGES["with an unsound row"](bench.folder / "spool.db")
    status = bench.open().status()
    assert status.services == {"shop": SpoolSums(spooled=3, damaged=3)}
    assert status.services_before == {"shop": SpoolSums(spooled=3, waiting=3)}
    (line,) = [entry for entry in bench.capture.entries if "damaged" in entry["event"]]
    assert line["spans"] == 3


def test_what_was_lost_before_is_not_lost_again_where_a_start_could_not_open_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = bench.open()
    spool.done(put(spool, b"refused", 3), Outcome(rejected=3))
    assert spool.close(SECONDS)

    def fail(*_arguments: object) -> SpoolDatabase:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("drain.spool.store.SpoolDatabase", fail)
        spool = bench.open()
    bench.clock.seconds += 60
    put_back(spool, b"after", 4)
    status = settled(spool)
    assert status.services == {"shop": SpoolSums(spooled=7, rejected=3, waiting=4)}
    assert status.services_before == {"shop": SpoolSums(spooled=3, rejected=3)}


def test_a_damaged_database_is_set_aside_though_older_ones_cannot_be_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = bench.open()
    put_back(spool, b"before", 3)
    for number in range(3):
        (bench.folder / f"damaged-20260101T000000Z-{number}-spool.db").touch()
    real = Path.unlink

    def denied(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.startswith("damaged-"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", denied)
    os.truncate(bench.folder / "spool.db-wal", 0)
    put_back(spool, b"after", 4)
    assert [entry.request.body for entry in spool.take(100)] == [b"after"]
    assert settled(spool).services == {"shop": SpoolSums(spooled=7, damaged=3, waiting=4)}
    assert settled(spool).set_aside == 1


def test_damage_found_while_it_runs_carries_the_sums_over(bench: Bench) -> None:
    spool = bench.open()
    held = put(spool, noise(30_000), 3)
    spool.done(put(spool, b"before", 2), Outcome(delivered=2))
    for number in range(200):
        put_back(spool, noise(100_000 + number), 1)  # more than SQLite caches
    with (bench.folder / "spool.db").open("r+b") as file:
        file.seek(8192)
        file.write(noise(1_000_000))
    (bench.folder / "spool.db-wal").write_bytes(b"")
    while not spool.status().set_aside:
        taken = spool.take(50)
        assert taken or spool.status().set_aside, "the damage is never seen"
    after = put(spool, b"after", 4)
    assert after.stored.id == held.stored.id
    spool.done(held, Outcome(delivered=3))  # of the database that is gone: it was counted as damaged
    spool.back(held)
    status = settled(spool)
    assert status.services == {"shop": SpoolSums(spooled=209, delivered=2, damaged=203, waiting=4)}
    assert (status.batches, status.held) == (1, 1)
    assert bench.damaged()[0] == "spool.db"


def test_a_body_that_does_not_decompress_is_set_aside_alone(bench: Bench) -> None:
    spool = bench.open()
    for body in (b"1" * 1000, b"2" * 1000, b"3" * 1000):
        put(spool, body)
    assert spool.close(SECONDS)
    with sqlite3.connect(bench.folder / "spool.db") as database:
        (stored,) = database.execute("SELECT body FROM batch WHERE id = 2").fetchone()
        flipped = stored[:-6] + bytes([stored[-6] ^ 1]) + stored[-5:]  # of the checksum
        database.execute("UPDATE batch SET body = ? WHERE id = 2", (flipped,))
    database.close()
    spool = bench.open()
    assert [entry.request.body[:1] for entry in spool.take(3)] == [b"1", b"3"]
    status = settled(spool)
    assert status.services["shop"] == SpoolSums(spooled=9, damaged=3, waiting=6)
    assert bench.damaged() == ["batch.gz"]
    (kept,) = bench.folder.glob("damaged-*")
    assert kept.read_bytes() == flipped
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("when_full", ["backpressure", "drop-oldest"])
def test_what_is_set_aside_counts_and_goes_first_when_there_is_no_room(bench: Bench, when_full: WhenFull) -> None:
    limits = SpoolLimits(4 * MEBIBYTE, when_full=when_full)
    for _ in range(2):
        spool = bench.open(limits)
        for number in range(20):
            put_back(spool, noise(50_000 + number), 1)
        assert spool.close(SECONDS)
        DAMAGES["cut in a page"](bench.folder / "spool.db")
        os.truncate(bench.folder / "spool.db", 1_000_000)
    spool = bench.open(limits)
    assert bench.damaged() == ["spool.db"] * 2
    assert spool.status().file_bytes == bench.file_bytes() > 2 * MEBIBYTE
    for number in range(30):
        put_back(spool, noise(50_000 + number), 1)
        assert bench.file_bytes() <= 4 * MEBIBYTE
    assert bench.damaged() == ["spool.db"]
    status = settled(spool)
    assert status.services["shop"].dropped == 0
    assert status.file_bytes == bench.file_bytes()
    assert bench.events.count("spool is full, the oldest damaged file is removed") == 1


def test_what_is_set_aside_is_bounded(bench: Bench) -> None:
    for _ in range(6):
        spool = bench.open()
        put(spool)
        assert spool.close(SECONDS)
        DAMAGES["garbage"](bench.folder / "spool.db")
    bench.open()
    assert bench.damaged() == ["spool.db"] * 3
