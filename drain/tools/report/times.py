"""Counts by time of spans that come in any order, over a time range that is not known before the last of them.

Only bins that hold something are kept, so that one span with a wrong clock costs one bin and not the resolution of all
others. When there are too many, neighbours become one; each width is a multiple of the one before, so that nothing is
counted in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ROWS: Final = 512
_MOST_COLUMNS: Final = 120

_MICROSECOND: Final = 1_000
_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_WIDTHS: Final = (
    *(factor * 10**power * _MICROSECOND for power in range(6) for factor in (1, 2)),
    *(factor * _SECOND for factor in (1, 2, 10, 20)),
    *(factor * _MINUTE for factor in (1, 2, 10, 20)),
    *(factor * _HOUR for factor in (1, 2, 6, 12)),
    *(factor * _DAY for factor in (1, 2, 10, 20, 100, 200, 1000, 2000, 10_000, 20_000, 100_000, 200_000)),
)
# What a picture's column may be, in seconds, minutes and so on: what people count in.
_ROUND: Final = tuple(
    sorted(
        [factor * 10**power for power in range(10) for factor in (1, 2, 5)]
        + [factor * _SECOND for factor in (1, 2, 5, 10, 15, 30)]
        + [factor * _MINUTE for factor in (1, 2, 5, 10, 15, 30)]
        + [factor * _HOUR for factor in (1, 2, 3, 6, 12)]
        + [factor * 10**power * _DAY for power in range(6) for factor in (1, 2, 5)]
    )
)

# A range is cut to where nearly all spans are when it would otherwise be so many times as long.
_STRAY_SHARE: Final = 0.0005
_STRAY_TIMES: Final = 4


@dataclass(frozen=True, slots=True)
class Window:
    """The columns of all pictures over time.

    Attributes:
        start_unix_nano: of the first column.
        width_nanos: of each.
        columns: how many there are.
        outside: spans that lie before or behind.
    """

    start_unix_nano: int
    width_nanos: int
    columns: int
    outside: int = 0

    @property
    def length_nanos(self) -> int:
        """From the first column's start to the last one's end."""
        return self.columns * self.width_nanos


class TimeTable:
    """For each group, and each time bin that holds something, a row of counts.

    Args:
        row_length: counts in a row.
    """

    def __init__(self, row_length: int) -> None:
        self._row_length = row_length
        self._level = 0
        self._rows: dict[int, int] = {}
        self._counts: dict[int, NDArray[np.uint32]] = {}

    @property
    def width_nanos(self) -> int:
        """Width of the bins as they are now."""
        return int(_WIDTHS[self._level])

    def rows(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each start time, in nanoseconds; it holds until the next call."""
        while True:
            bins, inverse = np.unique(starts // self.width_nanos, return_inverse=True)
            new = [bin_ for bin_ in bins.tolist() if bin_ not in self._rows]
            if len(self._rows) + len(new) <= _MOST_ROWS:
                break
            self._coarsen()
        for bin_ in new:
            self._rows[bin_] = len(self._rows)
        return np.array([self._rows[bin_] for bin_ in bins.tolist()], np.int64)[inverse]

    def add(self, group: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Add one to a group's counts, at each row and column."""
        counts = self._counts.get(group)
        if counts is None:
            counts = self._counts[group] = np.zeros((_MOST_ROWS, self._row_length), np.uint32)
        np.add.at(counts, (rows, columns), 1)

    def window(self, groups: list[int], columns: slice) -> Window:
        """Return what the pictures show: all time, or where nearly all spans are if some lie far from them.

        Args:
            groups: whose spans count.
            columns: the counts of a row that are spans.
        """
        bins = np.array(sorted(self._rows), np.int64)
        if not len(bins):
            return Window(0, _ROUND[0], 1)
        totals = np.zeros(len(bins), np.int64)
        order = np.array([self._rows[bin_] for bin_ in bins.tolist()], np.int64)
        for group in groups:
            if group in self._counts:
                totals += self._counts[group][order, columns].sum(axis=1, dtype=np.int64)
        sums = np.cumsum(totals)
        lower, upper = np.searchsorted(sums, [sums[-1] * _STRAY_SHARE, sums[-1] * (1 - _STRAY_SHARE)])
        first, last = int(bins[0]), int(bins[-1])
        core = int(bins[upper] - bins[lower]) + 1
        if last - first + 1 > _STRAY_TIMES * core and len(bins) > 1:
            near = max(core // 10, 1)
            while lower > 0 and bins[lower] - bins[lower - 1] <= near:
                lower -= 1
            while upper < len(bins) - 1 and bins[upper + 1] - bins[upper] <= near:
                upper += 1
            first, last = int(bins[lower]), int(bins[upper])
        outside = int(totals[(bins < first) | (bins > last)].sum())
        return self._window(first, last, outside)

    def series(self, group: int, window: Window) -> NDArray[np.int64]:
        """Return a group's counts in the columns of a window: columns by row length."""
        series = np.zeros((window.columns, self._row_length), np.int64)
        counts = self._counts.get(group)
        if counts is None:
            return series
        for bin_, row in self._rows.items():
            column = (bin_ * self.width_nanos - window.start_unix_nano) // window.width_nanos
            if 0 <= column < window.columns:
                series[column] += counts[row]
        return series

    def _window(self, first: int, last: int, outside: int) -> Window:
        """Make columns of whole bins, of a width that people count in where that is possible."""
        width = self.width_nanos
        bins = last - first + 1
        least = -(-bins // _MOST_COLUMNS) * width
        fitting = [nanos for nanos in _ROUND if nanos >= least and nanos % width == 0]
        column = fitting[0] if fitting else least
        start = first * width // column * column  # on a multiple, so that the bins lie whole in the columns
        return Window(start, column, -(-((last + 1) * width - start) // column), outside)

    def _coarsen(self) -> None:
        ratio = _WIDTHS[self._level + 1] // self.width_nanos
        self._level += 1
        rows: dict[int, int] = {}
        moved = np.zeros(_MOST_ROWS, np.int64)
        for bin_, row in self._rows.items():
            moved[row] = rows.setdefault(bin_ // ratio, len(rows))
        used = len(self._rows)
        for group, counts in self._counts.items():
            merged = np.zeros_like(counts)
            np.add.at(merged, moved[:used], counts[:used])
            self._counts[group] = merged
        self._rows = rows
