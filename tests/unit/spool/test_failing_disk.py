"""A disk that is full or fails is no damage: puts are refused, the rest goes on, nothing is lost when it is back."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.spool.database import SpoolDatabase
from drain.spool.open_files import Found
from drain.spool.spool import SpoolRefusedError
from tests.unit.spool.bench import connection, noise, put, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.spool.bench import Bench


def test_on_a_full_disk_puts_are_refused_and_the_rest_goes_on(bench: Bench) -> None:
    spool = bench.open()
    entries = [put(spool, noise(100_000), 1) for _ in range(10)]
    for entry in entries[1:]:
        spool.back(entry)
    (pages,) = connection(spool).execute("PRAGMA page_count").fetchone()
    connection(spool).execute(f"PRAGMA max_page_count = {pages}")  # SQLITE_FULL, as a full disk gives
    for _ in range(3):
        bench.clock.seconds += 2
        with pytest.raises(SpoolRefusedError, match="cannot be written"):
            put(spool, noise(100_000), 1)
    spool.done(entries[0], Outcome(delivered=1))
    bench.clock.seconds += 2
    with pytest.raises(SpoolRefusedError, match="cannot be written"):
        put(spool, noise(100_000), 1)
    status = settled(spool)
    assert (status.refused_failing, status.is_writable) == (4, False)
    assert status.services["shop"] == SpoolSums(spooled=10, delivered=1, waiting=9), "removing goes on"
    assert len(spool.take(2)) == 2, "taking goes on"
    assert bench.events.count("spool cannot be used, spans wait in the rings") == 1
    connection(spool).execute("PRAGMA max_page_count = 1000000")
    bench.clock.seconds += 2
    put(spool, noise(100_000), 1)
    assert settled(spool).is_writable
    assert bench.events.count("spool works again") == 1
    assert settled(spool).services["shop"] == SpoolSums(spooled=11, delivered=1, waiting=10)


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Return a function that makes writes behind an offset fail with EFBIG, an I/O error to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size if size >= 0 else soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_after_i_o_errors_nothing_is_lost_and_it_recovers(bench: Bench, file_size_limit: Callable[[int], None]) -> None:
    spool = bench.open()
    entries = [put(spool, noise(1000 + number), 1) for number in range(5)]
    assert (bench.folder / "spool.db-wal").stat().st_size > 30_000
    file_size_limit(10_000)
    for _ in range(2):
        with pytest.raises(SpoolRefusedError, match="cannot be written"):
            put(spool, noise(100_000), 1)
        bench.clock.seconds += 2
    spool.done(entries[0], Outcome(delivered=1))
    status = settled(spool)
    assert status.services["shop"] == SpoolSums(spooled=5, waiting=5), "what is not durable is not counted"
    file_size_limit(-1)
    bench.clock.seconds += 2
    status = settled(spool)
    assert status.services["shop"] == SpoolSums(spooled=5, delivered=1, waiting=4), "the removal was not forgotten"
    assert status.is_writable
    put(spool, b"after", 1)
    assert spool._store._removals == []
    assert status.set_aside == 0
    assert bench.events.count("spool cannot be used, spans wait in the rings") == 1


def test_a_write_back_that_fails_is_no_damage(bench: Bench) -> None:
    bench.folder.mkdir()
    database = SpoolDatabase(bench.folder / "spool.db", 1 << 20, 1 << 20)
    real: Any = database._connection

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def execute(self, statement: str, *values: Any) -> Any:
            result = real.execute(statement, *values).fetchall()
            if "wal_checkpoint" in statement:
                raise sqlite3.OperationalError("disk I/O error")
            return result

    stored = []
    for _ in range(20):
        database.begin()
        stored.append(database.add(bench.clock.now(), "protobuf", {"shop": 1}, noise(100_000)))
        database.commit()
    database.checkpoint()
    before = (bench.folder / "spool.db").stat().st_size
    database.begin()
    for batch in stored:
        database.remove(batch, {"delivered": 1})
    database.commit()
    database._connection = Failing()  # type: ignore[assignment]  # a disk that writes, and then fails
    with pytest.raises(sqlite3.OperationalError):
        database.shrink(4096)
    assert (bench.folder / "spool.db").stat().st_size < before
    assert database.files.look() is Found.AS_LEFT
    real.close()


def test_a_spool_whose_file_cannot_be_made_begins_when_it_can(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def no_space(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith("spool.db"):
            raise OSError(28, "No space left on device")
        return real_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", no_space)
    spool = bench.open()
    with pytest.raises(SpoolRefusedError):
        put(spool)
    assert spool.take() == []
    monkeypatch.undo()
    bench.clock.seconds += 2
    put(spool)
    assert settled(spool).batches == 1
    assert settled(spool).is_writable


def test_a_defect_does_not_end_the_thread_or_leave_anybody_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = bench.open()

    def defect(*arguments: object) -> None:
        raise KeyError("defect")

    with monkeypatch.context() as patch:
        patch.setattr(SpoolDatabase, "add", defect)
        with pytest.raises(SpoolRefusedError):
            put(spool)
    put(spool)
    assert bench.events.count("spool met an unexpected error") == 1
    assert settled(spool).services["shop"] == SpoolSums(spooled=3, waiting=3)
    assert settled(spool).set_aside == 0
