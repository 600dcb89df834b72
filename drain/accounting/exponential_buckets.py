"""The buckets of exponential histograms of durations, at one scale; receivers are told of no more than they like.

Bucket `index` holds durations above 2^(index/8) seconds, and up to 2^((index+1)/8), which is 9 % more. The bounds are
whole nanoseconds, exactly: what has a bound's duration lies in the bucket below it, on every machine.

Source: OpenTelemetry specification `metrics/data-model.md`, "ExponentialHistogram"; `metrics/sdk.md`, "Base2
Exponential Bucket Histogram Aggregation".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALE: Final = 3
FIRST_INDEX: Final = -240
"""Of the bucket that holds one nanosecond, the shortest duration but none."""

MOST_BUCKETS: Final = 160
"""That a receiver is told of one series: the specification's default."""

_LAST_INDEX: Final = 256  # holds 2^62 ns, the longest that is counted
_SECOND_TO_THE_8TH: Final = 10**72  # in nanoseconds


def _bound_nano(eighths: int) -> int:
    """Return 2^(eighths/8) seconds in whole nanoseconds, cut off."""
    power = _SECOND_TO_THE_8TH << eighths if eighths >= 0 else _SECOND_TO_THE_8TH >> -eighths
    return math.isqrt(math.isqrt(math.isqrt(power)))


BOUNDS_NANO: Final = (0, *(_bound_nano(index + 1) for index in range(FIRST_INDEX, _LAST_INDEX + 1)))
"""Upper bounds in nanoseconds: first of those that took no time, then by index; some of the shortest are the same."""


class Buckets(NamedTuple):
    """What a receiver is told.

    Attributes:
        scale: each bucket is 2^(2^-scale) times as wide as the one before it.
        zeros: durations of no time.
        offset: index of the first bucket.
        counts: by bucket, the first and the last not empty.
    """

    scale: int
    zeros: int
    offset: int
    counts: list[int]


def bucket(nanos: int) -> int:
    """Return which of `BOUNDS_NANO` a duration is counted under."""
    return min(bisect_left(BOUNDS_NANO, nanos), len(BOUNDS_NANO) - 1)


def buckets(counts: Mapping[int, int], most: int = MOST_BUCKETS) -> Buckets:
    """Return counts as they are told: from the first to the last that is not 0, at the finest scale that has room.

    Args:
        counts: by place in `BOUNDS_NANO`, of those that have any.
        most: so many buckets.
    """
    zeros = counts.get(0, 0)
    by_index = {FIRST_INDEX + at - 1: count for at, count in counts.items() if at and count}
    if not by_index:
        return Buckets(SCALE, zeros, 0, [])
    first, last = min(by_index), max(by_index)
    coarser = 0
    while (last >> coarser) - (first >> coarser) >= most:
        coarser += 1
    told = [0] * ((last >> coarser) - (first >> coarser) + 1)
    for index, count in by_index.items():
        told[(index >> coarser) - (first >> coarser)] += count
    return Buckets(SCALE - coarser, zeros, first >> coarser, told)
