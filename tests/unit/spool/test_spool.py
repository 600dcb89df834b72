"""The spool keeps its bounds and its law whatever the disk does, and gives back what was put, oldest first."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.otlp.request import Request
from drain.spool.database import SpoolDatabase
from drain.spool.holds import Holds
from drain.spool.open_files import Found
from drain.spool.spool import Spool, SpoolLimits, SpoolLockedError, SpoolRefusedError
from drain.spool.spool_time import Moment, SpoolTime
from drain.spool.store import Addition, Removal, SpoolStore
from ringbuf.exceptions import RingBufferError
from tests.unit.spool.bench import MEBIBYTE, ROOMY, SECONDS, noise, put, put_back, request, settled
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from drain.settings.spool_choices import WhenFull
    from drain.spool.spool import Entry
    from tests.unit.spool.bench import Bench


def fill(spool: Spool, size: int, is_within_bound: Callable[[], bool]) -> int:
    """Put batches of so many incompressible bytes until one is refused; return how many were not."""
    for number in range(1000):
        try:
            put_back(spool, noise(size) + str(number).encode(), 1)
        except SpoolRefusedError:
            return number
        assert is_within_bound()
    raise AssertionError("the spool is never full")


def test_a_batch_comes_back_as_it_was_put(bench: Bench) -> None:
    spool = bench.open()
    body = noise(100_000)
    put_back(spool, body, 7)
    line = Request(b'{"resourceSpans":[]}\n', 1, "json")
    spool.back(spool.put(line).result(SECONDS))
    part = Request(b"part", 3, "protobuf", "partition 7", {"shop": 1, "bank": 2})
    spool.back(spool.put(part).result(SECONDS))
    entries = spool.take(5)
    assert [entry.request for entry in entries] == [Request(body, 7, "protobuf"), line, part]
    assert entries[2].request.services == {"shop": 1, "bank": 2}


def test_what_became_of_the_spans_adds_up_by_service(bench: Bench) -> None:
    spool = bench.open()
    entry = spool.put(Request(b"body", 10, "protobuf", services={"shop": 6, "bank": 4})).result(SECONDS)
    spool.done(entry, Outcome(delivered=3, rejected=5, dead_lettered=2))
    put(spool, spans=2, service="bank")
    status = settled(spool)
    assert status.services == {
        "shop": SpoolSums(spooled=6, rejected=5, dead_lettered=1),
        "bank": SpoolSums(spooled=6, delivered=3, dead_lettered=1, waiting=2),
    }
    assert [sums.unaccounted for sums in status.services.values()] == [0, 0]
    assert (status.batches, status.held) == (1, 1)


def test_batches_and_sums_outlive_the_process(bench: Bench) -> None:
    spool = bench.open()
    spool.done(put(spool, b"a"), Outcome(delivered=3))
    put(spool, b"b")  # still held when the spool is closed
    assert spool.close(SECONDS)
    bench.clock.seconds += 60
    spool = bench.open()
    status = spool.status()
    assert status.services == {"shop": SpoolSums(spooled=6, delivered=3, waiting=3)}
    assert (status.batches, status.oldest_age_seconds) == (1, 60)
    assert [entry.request.body for entry in spool.take(5)] == [b"b"]


def test_what_became_of_a_batch_is_heard_behind_the_stop_by_which_it_was_stored(bench: Bench) -> None:
    spool = bench.open()
    write, may_write = spool._store.write, threading.Event()

    def wait_and_write(additions: list[Addition], removals: list[Removal]) -> Any:
        assert may_write.wait(SECONDS)
        return write(additions, removals)

    def stop_and_say(future: Future[Entry]) -> None:  # in the spool's thread
        threading.Thread(target=spool.close).start()
        until(lambda: not spool._jobs.empty())
        spool.done(future.result(), Outcome(delivered=3))

    spool._store.write = wait_and_write  # type: ignore[assignment,method-assign]  # it waits
    spool.put(request()).add_done_callback(stop_and_say)
    may_write.set()
    spool._thread.join(SECONDS)
    assert not spool._thread.is_alive()
    status = bench.open().status()
    assert (status.batches, status.services["shop"]) == (0, SpoolSums(spooled=3, delivered=3))


def test_the_oldest_batch_that_nobody_holds_is_taken_first(bench: Bench) -> None:
    spool = bench.open()
    held = put(spool, b"held")
    for body in (b"1", b"2", b"3"):
        put_back(spool, body)
    (first,) = spool.take()
    assert first.request.body == b"1"
    assert [entry.request.body for entry in spool.take(2)] == [b"2", b"3"]
    assert spool.take() == []
    assert not spool.can_take("")
    spool.back(first)
    spool.back(held)
    assert spool.can_take("")
    assert [entry.request.body for entry in spool.take(9)] == [b"held", b"1"]


def test_a_batch_that_is_to_rest_is_not_taken_before_its_time(bench: Bench) -> None:
    spool = bench.open()
    put_back(spool, b"1")
    put_back(spool, b"2")
    (first,) = spool.take()
    spool.back(first, not_before=bench.clock() + 5)
    assert [entry.request.body for entry in spool.take(9)] == [b"2"]
    assert not spool.can_take("")
    bench.clock.seconds += 5
    assert spool.can_take("")
    assert [entry.request.body for entry in spool.take(9)] == [b"1"]


def test_a_full_spool_refuses_within_its_bound_and_takes_again_when_it_has_room(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(4 * MEBIBYTE))
    count = fill(spool, 50_000, lambda: bench.file_bytes() <= 4 * MEBIBYTE)
    assert count * 50_000 > 2 * MEBIBYTE, "the bound is used, too"
    with pytest.raises(SpoolRefusedError, match="full"):
        put(spool, noise(50_000), 1)
    status = settled(spool)
    assert status.refused_full == 2
    assert status.file_bytes <= 4 * MEBIBYTE
    for entry in spool.take(2):
        spool.done(entry, Outcome(delivered=1))
    put(spool, noise(50_000), 1)
    assert bench.events.count("spool is full, spans wait in the rings") == 1
    assert status.services["shop"] == SpoolSums(spooled=count, waiting=count)


def test_its_file_stays_bounded_however_much_goes_through(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(2 * MEBIBYTE, when_full="drop-oldest"))
    for number in range(150):
        put_back(spool, noise(40_000) + str(number).encode(), 1)
        assert bench.file_bytes() <= 2 * MEBIBYTE


def test_drop_oldest_makes_room_and_counts(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(2 * MEBIBYTE, when_full="drop-oldest"))
    bodies = [noise(50_000) + str(number).encode() for number in range(60)]
    held = put(spool, b"held", 5)
    for body in bodies:
        put_back(spool, body, 1)
    status = settled(spool)
    sums = status.services["shop"]
    assert sums.dropped > 0
    assert sums == SpoolSums(spooled=65, dropped=sums.dropped, waiting=65 - sums.dropped)
    kept = [entry.request.body for entry in spool.take(100)]
    assert kept == bodies[-len(kept) :], "the newest stay"
    assert len(kept) == 60 - sums.dropped
    assert status.refused_full == 0
    spool.done(held, Outcome(delivered=5))
    assert settled(spool).services["shop"].delivered == 5, "what is held is not dropped"


def test_a_batch_that_can_never_fit_drops_nothing(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(MEBIBYTE, when_full="drop-oldest"))
    put_back(spool, b"small")
    with pytest.raises(SpoolRefusedError):
        put(spool, noise(MEBIBYTE))
    assert settled(spool).services["shop"] == SpoolSums(spooled=3, waiting=3)


def test_batches_expire_but_not_while_they_are_sent(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(4 * MEBIBYTE, max_age_seconds=100))
    held = put(spool, b"sent", 5)
    put_back(spool, b"old", 7)
    bench.clock.seconds += 60
    put_back(spool, b"young", 1)
    bench.clock.seconds += 60
    assert settled(spool).services == {"shop": SpoolSums(spooled=13, expired=7, waiting=6)}
    spool.back(held)
    bench.clock.seconds += 2
    assert settled(spool).services == {"shop": SpoolSums(spooled=13, expired=12, waiting=1)}


def test_without_an_age_nothing_expires(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(4 * MEBIBYTE))
    put_back(spool)
    bench.clock.seconds += 1e6
    assert settled(spool).batches == 1


def test_what_waits_together_becomes_one_transaction(bench: Bench) -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait_at_the_first() -> Moment:
        if spools:
            entered.set()
            assert gate.wait(SECONDS)
        return bench.clock.now()

    spools: list[Spool] = []
    spool = bench.open(now=wait_at_the_first)
    spools.append(spool)
    commits: list[str] = []
    connection(spool).set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    first = spool.put(request())
    assert entered.wait(SECONDS)
    futures = [spool.put(request()) for _ in range(50)]
    gate.set()
    for future in [first, *futures]:
        future.result(SECONDS)
    assert len(commits) == 2


def test_the_law_is_the_schema_s(bench: Bench) -> None:
    spool = bench.open()
    put(spool)
    assert spool.close(SECONDS)
    with sqlite3.connect(bench.folder / "spool.db") as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE service SET delivered = delivered + 1")
    database.close()


def test_saying_twice_what_became_of_a_batch_counts_once(bench: Bench) -> None:
    spool = bench.open()
    entry = put(spool)
    spool.done(entry, Outcome(delivered=3))
    spool.done(entry, Outcome(delivered=3))
    assert settled(spool).services == {"shop": SpoolSums(spooled=3, delivered=3)}
    assert settled(spool).set_aside == 0


def test_an_outcome_that_does_not_add_up_is_refused(bench: Bench) -> None:
    spool = bench.open()
    with pytest.raises(ValueError, match="does not add up to 3"):
        spool.done(put(spool), Outcome(delivered=2))


def test_service_names_are_bounded(bench: Bench) -> None:
    spool = bench.open()
    futures = [spool.put(request(spans=1, service=f"service {number}")) for number in range(1100)]
    for future in futures:
        future.result(SECONDS)
    services = settled(spool).services
    assert len(services) == 1001
    assert services["(other services)"].spooled == 100


# ---- files ----


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


def test_opening_reads_no_more_of_a_large_spool_than_of_a_small_one(bench: Bench) -> None:
    spool = bench.open()
    futures = [spool.put(request(noise(2000), 1)) for _ in range(5000)]
    for future in futures:
        future.result(SECONDS)
    assert spool.close(SECONDS)
    assert bench.file_bytes() > 10_000_000
    before = bytes_read()
    spool = bench.open()
    assert spool.status().batches == 5000
    assert len(spool.take(2)) == 2
    assert bytes_read() - before < 500_000


def bytes_read() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_pages_that_hold_nothing_are_given_back(bench: Bench) -> None:
    database = bench.folder / "spool.db"
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[bench.capture])
    holds = Holds(bench.clock)
    store = SpoolStore(database, ROOMY, holds, log=log, time=SpoolTime(bench.clock.now), clock=bench.clock)
    added = store.write([Addition("protobuf", {"shop": 1}, noise(500_000)) for _ in range(40)], [])
    assert added is not None
    removals = [Removal(stored, 0, {"delivered": 1}) for stored in added if stored is not None]
    store.write([], removals[:15])
    full = database.stat().st_size
    assert full > 10_000_000
    store.tend(is_idle=True)
    assert database.stat().st_size == full, "what waits would be moved for little"
    store.write([], removals[15:39])
    store.tend(is_idle=False)
    assert full - database.stat().st_size < 5_000_000, "not all at once while somebody waits"
    for _ in range(10):
        store.tend(is_idle=True)
    assert database.stat().st_size < 5_000_000
    assert store.contents.file_bytes == bench.file_bytes()
    holds.begin_generation()
    (kept,) = store.take(9)
    assert len(kept[1]) == 500_000
    store.close()


def test_the_log_of_a_large_batch_shrinks_again(bench: Bench) -> None:
    spool = bench.open()
    put(spool, noise(20 * MEBIBYTE), 1)
    log = bench.folder / "spool.db-wal"
    assert log.stat().st_size > 20 * MEBIBYTE
    put(spool, b"next", 1)
    assert log.stat().st_size <= 8 * MEBIBYTE


# ---- damage ----


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


# ---- a disk in trouble ----


def connection(spool: Spool) -> Any:
    assert spool._store._database is not None
    return spool._store._database._connection


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


def test_closing_does_the_jobs_that_wait(bench: Bench) -> None:
    spool = bench.open()
    futures = [spool.put(request(noise(100_000), 1)) for _ in range(50)]
    assert spool.close(SECONDS)
    assert all(future.done() and future.exception() is None for future in futures)


def test_limits_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        SpoolLimits(1000)
    with pytest.raises(ValueError, match="negative"):
        SpoolLimits(MEBIBYTE, max_age_seconds=-1)
