"""A clock that is set, in either direction, neither expires what is in the spool nor keeps it for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import structlog

from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits
from drain.spool.steady_time import SteadyTime
from tests.service.draining import until

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400
LIMITS = SpoolLimits(64 << 20, max_age_seconds=7 * DAY)


class Clocks:
    """One that people set, and one that nobody can."""

    def __init__(self) -> None:
        self.unix_seconds = time.time()
        self.seconds = 0.0

    def unix_nano(self) -> int:
        return int(self.unix_seconds * 1e9)

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.unix_seconds += seconds
        self.seconds += seconds


@pytest.mark.parametrize("step_days", [3650, -3650])
def test_a_step_of_the_clock_expires_nothing(step_days: int, tmp_path: Path) -> None:
    clocks = Clocks()
    spool = Spool(tmp_path / "spool", LIMITS, log=structlog.get_logger(), unix_nano=clocks.unix_nano, clock=clocks)
    spool.back(spool.put(Request(b"body", 1, "protobuf"), {"shop": 1}).result(30))
    clocks.unix_seconds += step_days * DAY
    clocks.pass_by(2)
    (entry,) = spool.take()  # the spool's thread has tended to itself by now
    assert spool.age_seconds(entry) == pytest.approx(2, abs=1)
    spool.back(entry)
    assert spool.status().services["shop"].expired == 0
    clocks.pass_by(6 * DAY)
    spool.take()
    assert spool.status().services["shop"].expired == 0
    spool.back(entry)
    clocks.pass_by(2 * DAY)
    until(lambda: spool.status().services["shop"].expired == 1)
    assert spool.close(30)


def test_steady_time_reads_the_time_of_day_when_it_is_first_asked() -> None:
    clocks = Clocks()
    steady = SteadyTime(clocks.unix_nano, clocks)
    clocks.unix_seconds += DAY
    first = steady()
    assert first == clocks.unix_nano()
    clocks.unix_seconds -= DAY
    clocks.seconds += 1.5
    assert steady() == first + 1_500_000_000
