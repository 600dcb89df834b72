"""Clocks that step: a producer's is not believed, and a machine that slept decides on what waited, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from drain.sampling.rules import DEFAULT, Rule, Rules
from tests.unit.service.deciding import ERRORS, RULES, SECOND, Bench, drawn

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * SECOND


@pytest.mark.parametrize(("start", "end"), [(1, 5), (0, 2**64 - 1), (2**64 - 1, 0), (10**18, 10**18 - HOUR)])
def test_the_clock_of_a_producer_moves_no_decision(start: int, end: int, tmp_path: Path) -> None:
    bench = Bench(tmp_path, RULES)
    records = drawn(np.random.default_rng(1), 1, 1, 1)
    records["status"], records["parent_span_id"] = 0, 1
    records["start_unix_nano"], records["end_unix_nano"] = start, end
    bench.late.read(bench.ring(1), 0, records, 0, 1, 0)
    assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(5.0)
    bench.now_nano += 5 * SECOND - 1
    bench.late.decide(bench.now_nano)
    assert bench.late.status().waiting_traces == 1
    bench.now_nano += 1
    bench.late.decide(bench.now_nano)
    assert bench.late.status().waiting_traces == 0
    bench.check_law()
    bench.late.close()


def test_after_a_sleep_of_hours_all_that_waited_is_decided_once_and_rates_begin_anew(tmp_path: Path) -> None:
    rules = Rules((ERRORS, Rule("some", traces_per_second=5, spans=("*",)), Rule(DEFAULT)), kept_spans_per_second=20)
    bench = Bench(tmp_path, rules)
    ring, count = bench.ring(1), 0
    for sleep in (0, HOUR, 5 * HOUR, 24 * 365 * HOUR):
        bench.now_nano += sleep
        before = bench.late.waiting
        for _ in range(5):
            records = drawn(np.random.default_rng(count), 50, 10**9, count)
            bench.late.read(ring, 0, records, count, count + 50, 0)
            count += 50
            bench.now_nano += SECOND
            bench.late.tend()
            bench.check_law()
        if sleep:
            assert before > 0
        kept = bench.late.on_their_way
        assert kept >= 50 * (sleep > 0), "the first second after a sleep is one of which nothing is known"
    bench.now_nano += HOUR
    bench.late.decide_all(bench.now_nano)
    bench.deliver()
    while bench.late.waiting:
        bench.late.decide_all(bench.now_nano)
        bench.deliver()
    sums = bench.hold.sums()["service 1"]
    assert sums.held + sums.sampled_out >= count
    assert (sums.unaccounted, sums.waiting) == (0, 0)
    bench.late.close()


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_drain_that_begins_with_another_clock_waits_no_longer_than_a_wait(step: int, tmp_path: Path) -> None:
    """As after a restore of a machine's image: the hold's times are of a clock that stands elsewhere now."""
    bench = Bench(tmp_path, RULES)
    bench.now_nano = 10 * HOUR
    bench.late.close()
    bench.open()
    records = drawn(np.random.default_rng(2), 40, 10, 1)
    records["status"], records["parent_span_id"] = 0, 1
    bench.late.read(bench.ring(1), 0, records, 0, 40, 0)
    bench.late.close()
    bench.now_nano += step
    bench.open()
    assert 0 <= (bench.late.seconds_until_due(bench.now_nano) or 0) <= 5.0
    bench.now_nano += 6 * SECOND
    bench.late.decide(bench.now_nano)
    assert bench.late.status().waiting_traces == 0
    bench.check_law()
    bench.late.close()
