"""A clock that is set, or begins in 1970, neither expires what is in the spool nor keeps it for ever."""

from __future__ import annotations

import sqlite3

import pytest

from drain.accounting.spool_sums import SpoolSums
from drain.spool.spool import SpoolLimits
from drain.spool.spool_time import Moment, SpoolTime, this_moment
from tests.unit.spool.bench import SECONDS, Bench, put_back, settled

DAY = 86_400
YEARS = 3650 * DAY
LIMITS = SpoolLimits(64 << 20, max_age_seconds=7 * DAY)
WAITS = SpoolSums(spooled=3, waiting=3)
EXPIRED = SpoolSums(spooled=3, expired=3)


@pytest.mark.parametrize("step", [YEARS, -YEARS])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_step_of_the_clock_expires_nothing_as_long_as_the_machine_runs(
    bench: Bench, step: int, *, restarts: bool
) -> None:
    spool = bench.open(LIMITS)
    put_back(spool)
    bench.clock.set_by += step
    bench.clock.seconds += 2
    if restarts:
        assert spool.close(SECONDS)
        spool = bench.open(LIMITS)
    assert settled(spool).services == {"shop": WAITS}
    (entry,) = spool.take()
    assert spool.age_seconds(entry) == 2
    spool.back(entry)
    bench.clock.seconds += 6 * DAY
    assert settled(spool).services == {"shop": WAITS}
    bench.clock.seconds += 2 * DAY
    assert settled(spool).services == {"shop": EXPIRED}


def boot_again(bench: Bench, after: float) -> None:
    bench.clock.boot_id = "second boot"
    bench.clock.set_by += bench.clock.seconds + after
    bench.clock.seconds = 10.0


@pytest.mark.parametrize("is_known_at", ["put", "boot", "never"])
def test_a_machine_that_begins_in_1970_expires_nothing_before_its_time(bench: Bench, is_known_at: str) -> None:
    """Its clock is right when the batch is put, from the next start of the machine on, or never."""
    to_1970 = -1_763_820_000
    bench.clock.set_by = 0 if is_known_at == "put" else to_1970
    spool = bench.open(LIMITS)
    put_back(spool)
    assert spool.close(SECONDS)
    boot_again(bench, after=60)
    if is_known_at != "never":
        bench.clock.set_by += to_1970 if is_known_at == "put" else -to_1970
    spool = bench.open(LIMITS)
    assert settled(spool).services == {"shop": WAITS}
    bench.clock.seconds += 6 * DAY
    assert settled(spool).services == {"shop": WAITS}
    if is_known_at == "put":  # the time is asked for at last
        bench.clock.set_by -= to_1970
    bench.clock.seconds += 2 * DAY
    assert settled(spool).services == {"shop": EXPIRED}


def test_across_a_restart_of_the_machine_the_time_of_day_counts(bench: Bench) -> None:
    spool = bench.open(LIMITS)
    put_back(spool)
    assert spool.close(SECONDS)
    boot_again(bench, after=6 * DAY)
    spool = bench.open(LIMITS)
    assert settled(spool).oldest_age_seconds == pytest.approx(6 * DAY, abs=60)
    assert settled(spool).services == {"shop": WAITS}
    assert spool.close(SECONDS)
    bench.clock.seconds += 2 * DAY
    assert settled(bench.open(LIMITS)).services == {"shop": EXPIRED}


def test_a_spool_that_was_begun_without_boots_is_read_and_goes_on(bench: Bench) -> None:
    spool = bench.open(LIMITS)
    put_back(spool, b"old")
    assert spool.close(SECONDS)
    with sqlite3.connect(bench.folder / "spool.db") as database:
        database.execute("ALTER TABLE batch DROP COLUMN boot_id")
        database.execute("ALTER TABLE batch DROP COLUMN boot_nano")
    database.close()
    bench.clock.seconds += 60
    spool = bench.open(LIMITS)
    assert spool.status().oldest_age_seconds == 60
    put_back(spool, b"new")
    entries = spool.take(9)
    assert [entry.request.body for entry in entries] == [b"old", b"new"]
    assert [entry.stored.spooled.boot_id for entry in entries] == ["", "first boot"]
    assert settled(spool).set_aside == 0


def test_the_moment_that_it_is_has_a_boot_and_ages() -> None:
    time = SpoolTime()
    first = this_moment()
    assert first.boot_id
    assert first.boot_nano > 0
    assert 0 <= time.age_seconds(first) < 3600
    assert time.age_seconds(Moment(first.unix_nano + 10**18, "another")) == 0, "of the future"
