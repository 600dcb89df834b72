"""The frame of a chart: axes and a plot that fill any width, though their texts keep their size.

A chart is three pieces of SVG in a CSS grid: labels of the vertical axis, the plot, labels of the horizontal axis. The
plot is drawn in units of the data and stretched; labels are placed by percentages. No text of a span comes into SVG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.tools.report.durations import coarse_position, decade_edges, edge_text

if TYPE_CHECKING:
    from drain.tools.report.times import Window

_NICE: Final = (1, 2, 2.5, 5, 10)
_TIME_STEPS: Final = tuple(
    sorted(
        {factor * 10**power for power in range(9) for factor in (1, 2, 5)}
        | {factor * 1_000_000_000 for factor in (1, 2, 5, 10, 15, 30)}
        | {factor * 60_000_000_000 for factor in (1, 2, 5, 10, 15, 30)}
        | {factor * 3_600_000_000_000 for factor in (1, 2, 3, 6, 12)}
        | {factor * 10**power * 86_400_000_000_000 for power in range(6) for factor in (1, 2, 5)}
    )
)
_MOST_TIME_TICKS: Final = 7
_CLOCK_FROM_NANOS: Final = 120_000_000_000
_DATES_FROM_NANOS: Final = 2 * 86_400_000_000_000
_SECOND: Final = 1_000_000_000
_CLEAR_OF_EDGE: Final = 4.0
_FEW_TICKS: Final = 4


class Tick(NamedTuple):
    """A mark on an axis.

    Attributes:
        percent: where it is, from the left or from the bottom.
        label: what it says; safe in SVG.
        is_minor: it has no label where there is little room.
    """

    percent: float
    label: str
    is_minor: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """What is between the axes.

    Attributes:
        width: of the plot in units of the data.
        height: the same.
        content: SVG in these units, y pointing down.
    """

    width: float
    height: float
    content: str


def frame(plot: Plot, x_ticks: list[Tick], y_ticks: list[Tick], label: str, *, kind: str, above: str = "") -> str:
    """Return a chart.

    Args:
        plot: its content.
        x_ticks: marks of the horizontal axis.
        y_ticks: marks of the vertical axis.
        label: what it shows, for those who do not see it; safe in HTML.
        kind: CSS class.
        above: SVG above the plot, as wide.
    """
    grid = "".join(
        f'<path d="M0 {plot.height * (1 - tick.percent / 100):.5g}H{plot.width:g}"/>'
        for tick in y_ticks
        if tick.percent
    )
    y_labels = "".join(f'<text x="50" y="{100 - tick.percent:.4g}%">{tick.label}</text>' for tick in y_ticks)
    x_labels = "".join(_x_label(tick) for tick in x_ticks)
    return (
        f'<div class="frame {kind}" role="img" aria-label="{label}">{above}'
        f'<svg class="ya" aria-hidden="true">{y_labels}</svg>'
        f'<svg class="plot" viewBox="0 0 {plot.width:g} {plot.height:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<g class="grid">{grid}</g>{plot.content}</svg>'
        f'<svg class="xa" aria-hidden="true">{x_labels}</svg></div>'
    )


def linear_ticks(greatest: float, *, is_whole: bool = False) -> tuple[float, list[float]]:
    """Return the upper end of an axis from 0, and the values of its marks.

    Args:
        greatest: what must fit.
        is_whole: only whole numbers make sense.

    >>> linear_ticks(87.0)
    (100.0, [0.0, 25.0, 50.0, 75.0, 100.0])
    """
    if greatest <= 0:
        return 1.0, [0.0, 1.0]
    raw = greatest / _FEW_TICKS
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(nice * magnitude for nice in _NICE if nice * magnitude >= raw * (1 - 1e-9))
    if is_whole:
        step = max(math.ceil(step), 1)
    count = math.ceil(greatest / step - 1e-9)
    return step * count, [step * index for index in range(count + 1)]


def time_ticks(window: Window) -> list[Tick]:
    """Return the marks of a time axis: seconds from its start for short windows, times of day (UTC) for long ones."""
    length = window.length_nanos
    step = next((step for step in _TIME_STEPS if length / step <= _MOST_TIME_TICKS), length)
    is_clock = length >= _CLOCK_FROM_NANOS
    first = -(-window.start_unix_nano // step) * step if is_clock else window.start_unix_nano
    at = range(first, window.start_unix_nano + length + 1, step)
    return [
        Tick(
            100 * (nanos - window.start_unix_nano) / length,
            _clock(nanos, length) if is_clock else edge_text(nanos - window.start_unix_nano),
            index % 2 == 1 and len(at) > _FEW_TICKS,
        )
        for index, nanos in enumerate(at)
    ]


def time_axis_words(window: Window) -> str:
    """Return how a time axis is to be read."""
    if window.length_nanos >= _CLOCK_FROM_NANOS:
        return "time of day, UTC" if window.length_nanos < _DATES_FROM_NANOS else "date, UTC"
    return f"from {instant_text(window.start_unix_nano)}"


def instant_text(unix_nano: int) -> str:
    """Return a moment.

    >>> instant_text(1_700_000_000_123_456_789)
    '2023-11-14 22:13:20.123 UTC'
    """
    moment = datetime.fromtimestamp(unix_nano // _SECOND, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{unix_nano % _SECOND // 1_000_000:03} UTC"


def duration_ticks(first: int, last: int) -> list[Tick]:
    """Return the marks of a logarithmic axis over the coarse bins `first` to `last - 1`: the powers of ten."""
    width = last - first
    inside = [(index, edge) for index, edge in decade_edges() if first <= index <= last]
    return [
        Tick(100 * (index - first) / width, edge_text(edge), at % 2 == 1 and len(inside) > _FEW_TICKS)
        for at, (index, edge) in enumerate(inside)
    ]


def duration_percent(nanos: float, first: int, last: int) -> float:
    """Return where a duration lies on that axis."""
    return min(max(100 * (coarse_position(nanos) - first) / (last - first), 0.0), 100.0)


def _clock(unix_nano: int, length: int) -> str:
    moment = datetime.fromtimestamp(unix_nano // _SECOND, UTC)
    if length >= _DATES_FROM_NANOS:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%H:%M}" if length >= 30 * 60 * _SECOND else f"{moment:%H:%M:%S}"


def _x_label(tick: Tick) -> str:
    classes = ' class="minor"' if tick.is_minor else ""
    anchor = ' text-anchor="end"' if tick.percent > 100 - _CLEAR_OF_EDGE else ""
    return f'<text x="{tick.percent:.4g}%" y="15"{classes}{anchor}>{tick.label}</text>'
