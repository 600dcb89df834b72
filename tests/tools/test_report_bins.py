"""The parts that keep a report's memory bounded count as exactly as they say."""

from __future__ import annotations

import doctest
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.tools.report.distinct import Distinct
from drain.tools.report.durations import COARSE_BINS, EDGES, Durations, coarse_bins, duration_text, range_text
from drain.tools.report.times import TimeTable

LATEST = (1 << 63) - 1
SPANS = slice(0, 1)


@given(
    st.lists(st.integers(0, LATEST), min_size=1, max_size=200), st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0])
)
def test_a_percentile_is_off_by_at_most_four_thousandths(values: list[int], percent: float) -> None:
    durations = Durations()
    durations.add(np.array(values, np.int64))
    wanted = float(np.percentile(np.array(values, np.int64), percent, method="inverted_cdf"))
    assert abs(durations.percentile(percent) - wanted) <= 0.004 * wanted
    assert (durations.count, durations.least, durations.greatest) == (len(values), min(values), max(values))


@given(st.lists(st.lists(st.integers(0, 10**12), max_size=30), max_size=5))
def test_durations_of_parts_come_to_those_of_the_whole(parts: list[list[int]]) -> None:
    whole, merged = Durations(), Durations()
    for part in parts:
        whole.add(np.array(part, np.int64))
        one = Durations()
        one.add(np.array(part, np.int64))
        merged.merge(one)
    assert [merged.percentile(p) for p in (0.1, 50, 99.9)] == [whole.percentile(p) for p in (0.1, 50, 99.9)]
    assert (merged.count, merged.least, merged.greatest) == (whole.count, whole.least, whole.greatest)


@given(st.integers(0, LATEST))
def test_a_coarse_bin_has_what_its_words_say(nanos: int) -> None:
    (index,) = coarse_bins(np.array([nanos])).tolist()
    assert 0 <= index < COARSE_BINS
    assert index == 0 or nanos >= EDGES[index - 1]
    assert index == COARSE_BINS - 1 or nanos < EDGES[index]
    assert range_text(index)


@given(st.floats(0, 1e19))
def test_a_duration_is_written_with_three_digits_in_a_unit_of_its_size(nanos: float) -> None:
    number, unit = duration_text(nanos).split(" ")
    size = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "min": 6e10, "h": 3.6e12, "d": 8.64e13}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(nanos, rel=0.0051, abs=0.51)
    assert unit == "d" or len(number.replace(".", "").replace(",", "")) <= 4


@given(
    st.lists(
        st.one_of(st.integers(10**18, 10**18 + 10**6), st.integers(10**18, 10**18 + 10**12), st.integers(1, LATEST)),
        min_size=1,
        max_size=300,
    ),
    st.integers(1, 50),
)
def test_counts_by_time_are_those_of_the_starts_in_any_order_and_range(starts: list[int], size: int) -> None:
    table = TimeTable(1)
    for at in range(0, len(starts), size):
        part = np.array(starts[at : at + size], np.int64)
        table.add(0, table.rows(part), np.zeros(len(part), np.int64))
    window = table.window([0], SPANS)
    found = table.series(0, window)[:, 0]
    wanted = Counter((start - window.start_unix_nano) // window.width_nanos for start in starts)
    assert found.tolist() == [wanted[column] for column in range(window.columns)]
    assert window.outside == len(starts) - sum(found)
    assert window.columns <= 121


def test_bins_are_merged_when_there_are_too_many_and_lose_nothing() -> None:
    starts = np.arange(10_000, dtype=np.int64) * 7_000_000 + 10**18
    table = TimeTable(1)
    widths = []
    for part in np.array_split(np.random.default_rng(6).permutation(starts), 50):
        table.add(3, table.rows(part), np.zeros(len(part), np.int64))
        widths.append(table.width_nanos)
    assert widths == sorted(widths)
    assert 70 * 10**9 / 512 <= widths[-1] <= 5 * 70 * 10**9 / 512
    window = table.window([3], SPANS)
    assert int(table.series(3, window).sum()) == 10_000
    assert table.series(4, window).sum() == 0


def test_distinct_ids_are_counted_exactly_up_to_a_bound_and_estimated_beyond() -> None:
    random = np.random.default_rng(219)
    ids = random.integers(0, 1 << 63, (60_000, 2)).astype(np.uint64)
    exact, estimate = Distinct(60_000), Distinct(4096)
    for part in np.array_split(np.concatenate([ids, ids[:30_000]]), 40):
        exact.add(part[:, 0], part[:, 1])
        estimate.add(part[:, 0], part[:, 1])
    assert (exact.count(), exact.is_exact) == (60_000, True)
    assert not estimate.is_exact
    assert estimate.count() == pytest.approx(60_000, rel=5 / 64)  # five standard errors: 1 / sqrt(4096) each


def test_ids_that_differ_in_either_half_are_distinct() -> None:
    counted = Distinct()
    numbers = np.arange(1000, dtype=np.uint64)
    counted.add(numbers, np.zeros_like(numbers))
    counted.add(np.zeros_like(numbers), numbers)
    assert counted.count() == 1999


@pytest.mark.parametrize("part", ["axes", "durations", "html", "spans"])
def test_the_examples_are_true(part: str) -> None:
    result = doctest.testmod(import_module(f"drain.tools.report.{part}"))
    assert result.attempted
    assert not result.failed
