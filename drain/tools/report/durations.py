"""Durations in bins: coarse ones for pictures, fine ones for percentiles, and the words for both.

The fine bins are those of HdrHistogram (hdrhistogram.org): one for each nanosecond below 256, then 128 for each power
of two, so that a percentile is off by at most half a bin's width, 1/256 of itself, however many spans there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BINS_PER_DECADE: Final = 10
_FIRST_DECADE: Final = 1
_LAST_DECADE: Final = 12
EDGES: Final[tuple[float, ...]] = tuple(
    10.0 ** (_FIRST_DECADE + step / BINS_PER_DECADE)
    for step in range((_LAST_DECADE - _FIRST_DECADE) * BINS_PER_DECADE + 1)
)
"""Nanoseconds between coarse bins, 10 ns to 1000 s: bin i holds EDGES[i-1] <= duration < EDGES[i], bin 0 all below."""

COARSE_BINS: Final = len(EDGES) + 1

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)

_EDGES: Final = np.array(EDGES)
_HALF: Final = 128
_HALF_BITS: Final = 7
_FINE_BINS: Final = (63 - _HALF_BITS) * _HALF + _HALF

_UNITS: Final = (
    (1, "ns"),
    (1_000, "µs"),
    (1_000_000, "ms"),
    (1_000_000_000, "s"),
    (60_000_000_000, "min"),
    (3_600_000_000_000, "h"),
    (86_400_000_000_000, "d"),
)
_THOUSAND: Final = 1000
_HUNDRED: Final = 100
_TEN: Final = 10


def coarse_bins(durations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the coarse bin of each duration in nanoseconds."""
    return np.searchsorted(_EDGES, durations, side="right")


def decade_edges() -> tuple[tuple[int, float], ...]:
    """Return the edges that are powers of ten: number of the bin that begins there, and nanoseconds."""
    return tuple((index + 1, edge) for index, edge in enumerate(EDGES) if index % BINS_PER_DECADE == 0)


def coarse_position(nanos: float) -> float:
    """Return where a duration lies on the logarithmic axis of the coarse bins, in bins.

    >>> coarse_position(10.0), coarse_position(100.0)
    (1.0, 11.0)
    """
    return min(max(1 + (float(np.log10(max(nanos, 1.0))) - _FIRST_DECADE) * BINS_PER_DECADE, 0.0), float(COARSE_BINS))


@dataclass(slots=True)
class Durations:
    """The distribution of any number of durations, in 57 KiB.

    Attributes:
        count: how many there are.
        least: the shortest, in nanoseconds; 0 while there is none.
        greatest: the longest.
    """

    count: int = 0
    least: int = 0
    greatest: int = 0
    _fine: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_FINE_BINS, np.int64), repr=False)

    def add(self, durations: NDArray[np.int64]) -> None:
        """Count durations, in nanoseconds, none of them negative."""
        if not len(durations):
            return
        least, greatest = int(durations.min()), int(durations.max())
        self.least = min(self.least, least) if self.count else least
        self.greatest = max(self.greatest, greatest)
        self.count += len(durations)
        np.add.at(self._fine, _fine_bins(durations), 1)

    def merge(self, other: Durations) -> None:
        """Count what another has counted too."""
        if other.count:
            self.least = min(self.least, other.least) if self.count else other.least
            self.greatest = max(self.greatest, other.greatest)
            self.count += other.count
            self._fine += other._fine

    def percentile(self, percent: float) -> float:
        """Return the least duration that `percent` of all do not exceed, in nanoseconds, within 0.4 %.

        >>> durations = Durations()
        >>> durations.add(np.arange(1, 101))
        >>> durations.percentile(50.0), durations.percentile(99.0)
        (50.0, 99.0)
        """
        if not self.count:
            return 0.0
        # Rounded first: 99.9 % of 1000 is 999, and not the 999.0000000000001 that floats make of it.
        rank = max(int(np.ceil(round(self.count * percent / 100, 6))), 1)
        index = int(np.searchsorted(np.cumsum(self._fine), rank))
        return float(min(max(_middle(index), self.least), self.greatest))


def duration_text(nanos: float) -> str:
    """Return a duration in the unit that suits it, with three digits.

    >>> [duration_text(nanos) for nanos in (0, 250, 999.7, 1234, 56_000_000, 90e9, 7.2e12)]
    ['0 ns', '250 ns', '1.00 µs', '1.23 µs', '56.0 ms', '1.50 min', '2.00 h']
    """
    if nanos < 0:
        return f"-{duration_text(-nanos)}"
    # By what is written: 999.7 ns are written as 1.00 µs, and not as 1,000 ns.
    size, unit = next(
        (size, unit)
        for (size, unit), (next_size, _) in zip(_UNITS, (*_UNITS[1:], (float("inf"), "")), strict=True)
        if float(_three_digits(nanos / size).replace(",", "")) * size < next_size
    )
    text = _three_digits(nanos / size)
    return f"{text.partition('.')[0]} {unit}" if size == 1 and nanos == int(nanos) else f"{text} {unit}"


def edge_text(nanos: float) -> str:
    """Return a round duration without needless zeros, for axes.

    >>> edge_text(10_000.0), edge_text(1_500_000), edge_text(0)
    ('10 µs', '1.5 ms', '0 s')
    """
    if not nanos:
        return "0 s"
    number, unit = duration_text(nanos).split(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def range_text(index: int) -> str:
    """Return what a coarse bin holds, in words."""
    if index == 0:
        return f"under {duration_text(EDGES[0])}"
    if index == COARSE_BINS - 1:
        return f"{duration_text(EDGES[-1])} and more"
    return f"{duration_text(EDGES[index - 1])} to {duration_text(EDGES[index])}"


def _three_digits(value: float) -> str:
    if value < _TEN - 0.005:
        return f"{value:.2f}"
    if value < _HUNDRED - 0.05:
        return f"{value:.1f}"
    return f"{value:,.0f}"


def _fine_bins(durations: NDArray[np.int64]) -> NDArray[np.int64]:
    # Above 2^53 frexp may round up to the next power of two: the shift is then one more, and the bin the same.
    exponents = np.frexp(durations.astype(np.float64))[1].astype(np.int64)
    shifts = np.maximum(exponents - 1 - _HALF_BITS, 0)
    return (shifts << _HALF_BITS) + (durations >> shifts)


def _middle(index: int) -> float:
    if index < 2 * _HALF:
        return float(index)
    shift = (index >> _HALF_BITS) - 1
    return float((index - (shift << _HALF_BITS)) << shift) + ((1 << shift) - 1) / 2


def trimmed(counts: Sequence[int] | NDArray[Any], margin: int = 1) -> tuple[int, int]:
    """Return the first bin that is not empty and the one after the last, each `margin` wider where there is room."""
    occupied = np.flatnonzero(np.asarray(counts))
    if not len(occupied):
        return 0, 0
    return max(int(occupied[0]) - margin, 0), min(int(occupied[-1]) + 1 + margin, len(counts))


def coarse_percentile(counts: NDArray[np.int64], percent: float) -> int:
    """Return the coarse bin in which a percentile lies."""
    rank = max(int(np.ceil(round(int(counts.sum()) * percent / 100, 6))), 1)
    return int(np.searchsorted(np.cumsum(counts), rank))
