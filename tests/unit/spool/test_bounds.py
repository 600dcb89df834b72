"""The spool keeps within its bounds: bytes on disk, age, names of services; it gives back what it does not need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.spool.database import Addition, Stored
from drain.spool.holds import Holds
from drain.spool.spool import Spool, SpoolLimits, SpoolRefusedError
from drain.spool.spool_time import SpoolTime
from drain.spool.store import Removal, SpoolStore
from tests.unit.spool.bench import MEBIBYTE, ROOMY, SECONDS, noise, put, put_back, request, settled

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_service_names_are_bounded(bench: Bench) -> None:
    spool = bench.open()
    futures = [spool.put(request(spans=1, service=f"service {number}")) for number in range(1100)]
    for future in futures:
        future.result(SECONDS)
    services = settled(spool).services
    assert len(services) == 1001
    assert services["(other services)"].spooled == 100


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


def test_limits_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        SpoolLimits(1000)
    with pytest.raises(ValueError, match="negative"):
        SpoolLimits(MEBIBYTE, max_age_seconds=-1)


def test_of_destinations_that_have_nothing_any_more_nothing_stays(bench: Bench) -> None:
    holds = Holds(bench.clock)
    for number in range(9):
        stored = Stored(number, bench.clock.now(), "protobuf", f"10.0.0.{number}", None, 1, {"shop": 1}, 1)
        holds.hold(stored)
        match number % 3:
            case 0:
                holds.let_go([stored])
            case 1:
                holds.rest(stored, 0, 0.0)
            case _:
                holds.rest(stored, 0, bench.clock() + 5)
    assert holds.held() == {2, 5, 8}
    bench.clock.seconds += 10
    assert holds.held("10.0.0.2") == set()
    holds.end_rests()
    assert not holds._until
