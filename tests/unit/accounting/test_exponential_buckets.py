"""Exponential histograms have the buckets that OpenTelemetry's SDK has, at the scales that it chooses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from drain.accounting.exponential_buckets import (
    BOUNDS_NANO,
    FIRST_INDEX,
    MOST_BUCKETS,
    SCALE,
    Buckets,
    bucket,
    buckets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 1 << 62
DURATIONS = st.integers(0, LONGEST) | st.integers(0, 10**9) | st.sampled_from(BOUNDS_NANO)


def ours(durations: Sequence[int], most: int = MOST_BUCKETS) -> Buckets:
    return buckets(Counter(map(bucket, durations)), most)


def of_the_sdk(durations: Sequence[int], most: int = MOST_BUCKETS) -> Buckets:
    """Return what the SDK exports of the same durations, in seconds."""
    aggregation = ExponentialBucketHistogramAggregation(max_size=most, max_scale=SCALE)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=[View(instrument_name="*", aggregation=aggregation)])
    histogram = provider.get_meter("test").create_histogram("durations")
    for nanos in durations:
        histogram.record(nanos / 1e9)
    data: Any = reader.get_metrics_data()
    provider.shutdown()
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    counts = list(point.positive.bucket_counts)
    filled = [at for at, count in enumerate(counts) if count]  # the SDK's array grows in powers of two
    if not filled:
        return Buckets(SCALE, point.zero_count, 0, [])  # and has the coarsest scale of all where there is nothing
    told = counts[filled[0] : filled[-1] + 1]
    return Buckets(point.scale, point.zero_count, point.positive.offset + filled[0], told)


@pytest.mark.parametrize(
    "durations",
    [[0], [0, 0, 1], [1], [LONGEST], [1, LONGEST], [999, 1000, 1001], [10**9], [10**9 + 1], [5 * 10**8, 2 * 10**9],
     list(range(1, 40)), [10**exponent for exponent in range(19)]],
    ids=repr,
)  # fmt: skip
def test_the_buckets_are_those_of_the_sdk(durations: list[int]) -> None:
    assert ours(durations) == of_the_sdk(durations)


@given(st.lists(DURATIONS.filter(lambda nanos: nanos > 0 and nanos not in BOUNDS_NANO), min_size=1, max_size=30))
def test_random_durations_have_the_buckets_of_the_sdk(durations: list[int]) -> None:
    # At a bound itself, doubles of seconds may lie on either side of it: there the nanoseconds are right.
    assert ours(durations) == of_the_sdk(durations)


@given(DURATIONS)
@example(0)
@example(1)
@example(LONGEST)
def test_a_duration_is_above_the_bound_before_its_bucket_and_not_above_its_own(nanos: int) -> None:
    at = bucket(nanos)
    assert nanos <= BOUNDS_NANO[at]
    assert at == 0 or nanos > BOUNDS_NANO[at - 1]


@given(st.lists(DURATIONS, max_size=40), st.integers(2, MOST_BUCKETS))
def test_fewer_buckets_hold_as_much(durations: list[int], most: int) -> None:
    told = ours(durations, most)
    assert len(told.counts) <= most
    assert told.zeros + sum(told.counts) == len(durations)
    assert not told.counts or (told.counts[0] and told.counts[-1])


def test_every_second_power_of_two_ends_a_bucket() -> None:
    for power in range(-9, 31):  # 2^-9 seconds is a whole number of nanoseconds, 2^-10 is not
        assert BOUNDS_NANO[1 + 8 * power - 1 - FIRST_INDEX] == 10**9 * 2**power if power >= 0 else 10**9 >> -power
