"""Pictures of durations, on logarithmic scales: their distribution with percentiles, and the heat map over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.tools.report.axes import (
    Plot,
    Tick,
    duration_percent,
    duration_ticks,
    frame,
    linear_ticks,
    time_axis_words,
    time_ticks,
)
from drain.tools.report.durations import PERCENTILES, coarse_percentile, duration_text, edge_text, range_text
from drain.tools.report.html import count_text, details, percent_text, short_count, table
from drain.tools.report.over_time import spans_of_columns
from ringbuf.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drain.tools.report.durations import Durations
    from drain.tools.report.statistics import Series
    from drain.tools.report.times import Window

_HEIGHT: Final = 1000
_LEAST_BAR: Final = 12
_LADDER_STEP: Final = 15
_LADDER_TOP: Final = 12
_TURN_LABEL_AT: Final = 66.0
_CLASSES: Final = 6
_RATIOS: Final = (1.5, 2.0, 10**0.5, 5.0, 10.0, 100.0)
_MOST_TABLE_ROWS: Final = 20


class Axis(NamedTuple):
    """Which coarse bins a picture shows.

    Attributes:
        first: the first.
        last: the one behind the last.
    """

    first: int
    last: int

    @property
    def bins(self) -> int:
        """How many there are."""
        return self.last - self.first


def distribution(counts: NDArray[np.int64], durations: Durations, axis: Axis) -> str:
    """Return the histogram of durations, with a line at each percentile.

    Args:
        counts: by coarse bin.
        durations: the same, finely.
        axis: the bins to show.
    """
    top, ticks = linear_ticks(float(counts.max()), is_whole=True)
    bars = []
    for position, count in enumerate(counts[axis.first : axis.last].tolist()):
        if count:
            # What is there can be seen, however little it is beside the rest.
            height = max(_HEIGHT * count / top, _LEAST_BAR)
            bars.append(f"M{position}.06 {_HEIGHT}V{_HEIGHT - height:.0f}h.88V{_HEIGHT}")
    marks, lines, labels = [], [], []
    for step, percent in enumerate(PERCENTILES):
        nanos = durations.percentile(percent)
        at = duration_percent(nanos, *axis)
        y = _LADDER_TOP + step * _LADDER_STEP
        turned = at > _TURN_LABEL_AT
        anchor, shift = (' text-anchor="end"', "-5") if turned else ("", "5")
        marks.append(f'<path class="mark" d="M{at * axis.bins / 100:.5g} 0V{_HEIGHT}"/>')
        lines.append(f'<line x1="{at:.4g}%" x2="{at:.4g}%" y1="{y - 9}" y2="100%"/>')
        labels.append(
            f'<text x="{at:.4g}%" dx="{shift}" y="{y}"{anchor}>p{percent:g} '
            f"<tspan>{duration_text(nanos)}</tspan></text>"
        )
    words = ", ".join(f"p{percent:g} {duration_text(durations.percentile(percent))}" for percent in PERCENTILES)
    picture = frame(
        Plot(axis.bins, _HEIGHT, f'<path class="bars" d="{"".join(bars)}"/>{"".join(marks)}'),
        duration_ticks(*axis),
        [Tick(100 * value / top, short_count(value)) for value in ticks],
        f"Distribution of durations: {words}",
        kind="flat",
        above=f'<svg class="ladder" aria-hidden="true">{"".join(lines + labels)}</svg>',
    )
    return (
        f"<figure><figcaption>Distribution <small>spans by duration (log scale)</small></figcaption>{picture}</figure>"
    )


def heat_map(series: Series, window: Window, axis: Axis) -> str:
    """Return the heat map: time to the right, duration upwards, the darker the more spans (in dark mode, brighter)."""
    cells = series.durations[:, axis.first : axis.last]
    greatest = int(cells.max())
    starts = _class_starts(greatest)
    classes = np.searchsorted(starts, cells, side="right")
    paths = "".join(
        f'<path class="h{number}" d="{_cells(classes == number)}"/>'
        for number in range(1, len(starts) + 1)
        if (classes == number).any()
    )
    picture = frame(
        Plot(window.columns, axis.bins, f'<g class="cells">{paths}</g>'),
        time_ticks(window),
        duration_ticks(*axis),
        f"Heat map of durations over time, at most {counted(greatest, 'span')} in a cell; the table below says it too",
        kind="tall",
    )
    ends = [
        count_text(start) if end == start + 1 else f"{count_text(start)}\N{EN DASH}{count_text(end - 1)}"
        for start, end in zip(starts, [*starts[1:], greatest + 1], strict=True)
    ]
    legend = "".join(f'<li><i class="h{number}"></i>{end}</li>' for number, end in enumerate(ends, 1))
    return (
        f"<figure><figcaption>Over time <small>duration (log scale) by start</small></figcaption>{picture}"
        f'<ul class="legend heat"><li>spans in a cell:</li>{legend}</ul></figure>'
    )


def latency_table(counts: NDArray[np.int64], series: Series, window: Window, axis: Axis) -> str:
    """Return both pictures as folded tables; the one over time has at most twenty rows."""
    total = int(counts.sum())
    bins = [
        (range_text(index), count_text(int(counts[index])), percent_text(int(counts[index]), total))
        for index in range(axis.first, axis.last)
        if counts[index]
    ]
    times = []
    for first, last in spans_of_columns(window.columns, _MOST_TABLE_ROWS):
        part = series.durations[first:last].sum(axis=0)
        spans = int(part.sum())
        middle = (range_text(coarse_percentile(part, percent)) if spans else "\N{EN DASH}" for percent in (50.0, 99.0))
        times.append((f"+{edge_text(first * window.width_nanos)}", count_text(spans), *middle))
    return details(
        "As tables",
        table("Distribution of durations", ("Duration", "Spans", "Share"), bins)
        + table(f"Durations over time, {time_axis_words(window)}", ("From", "Spans", "p50 is", "p99 is"), times),
    )


def _class_starts(greatest: int) -> list[int]:
    """Return the least count of each colour: steps of one ratio from 1 on, the finest that reaches the greatest."""
    ratio = next((ratio for ratio in _RATIOS if ratio**_CLASSES > greatest), _RATIOS[-1])
    starts = sorted({round(ratio**power) for power in range(_CLASSES)})
    return [start for start in starts if start <= greatest]


def _cells(is_set: NDArray[np.bool_]) -> str:
    """Return the set cells as lines of a cell's height, neighbours of a row in one; relative moves keep it short."""
    parts: list[str] = []
    at_x, at_y = 0, 0.0
    rows = is_set.shape[1]
    for row in range(rows):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_set[:, row], [False]]).astype(np.int8)))
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            y = rows - row - 0.5
            move = f"{first - at_x:g} {y - at_y:g}" if parts else f"{first} {y:g}"
            parts.append(f"m{move}h{last - first}")
            at_x, at_y = last, y
    return "".join(parts)
