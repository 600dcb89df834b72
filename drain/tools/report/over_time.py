"""Pictures of throughput and errors over time, and the table that says the same."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.tools.report.axes import Plot, Tick, frame, linear_ticks, time_axis_words, time_ticks
from drain.tools.report.durations import edge_text
from drain.tools.report.html import count_text, details, named, percent_text, short_count, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from drain.tools.report.statistics import Series
    from drain.tools.report.times import Window

MOST_LAYERS: Final = 5
_HEIGHT: Final = 1000
_MOST_TABLE_ROWS: Final = 30
_SECOND: Final = 1_000_000_000


class Layer(NamedTuple):
    """One colour of the throughput's picture.

    Attributes:
        name: of the spans in it.
        series: their counts.
    """

    name: str
    series: Series


def throughput(layers: Sequence[Layer], window: Window) -> str:
    """Return the picture of spans per second, one layer of colour on the other, the first at the bottom.

    Args:
        layers: at most `MOST_LAYERS`, and one more for all other spans.
        window: of the series.
    """
    per_second = _SECOND / window.width_nanos
    total = np.sum([layer.series.spans for layer in layers], axis=0) * per_second
    top, ticks = linear_ticks(float(total.max()))
    base = np.zeros(window.columns)
    paths = []
    for index, layer in enumerate(layers):
        upper = base + layer.series.spans * per_second
        paths.append(f'<path class="c{_colour(index)}" d="{_area(base, upper, top)}"/>')
        base = upper
    picture = frame(
        Plot(window.columns, _HEIGHT, "".join(paths)),
        time_ticks(window),
        [Tick(100 * value / top, short_count(value)) for value in ticks],
        f"Spans per second over time, at most {short_count(float(total.max()))}; the table below has the numbers",
        kind="flat",
    )
    spans = sum(int(layer.series.spans.sum()) for layer in layers)
    legend = "".join(
        f'<li><i class="c{_colour(index)}"></i>{named(layer.name)} '
        f"<small>{percent_text(int(layer.series.spans.sum()), spans)}</small></li>"
        for index, layer in enumerate(layers)
    )
    return (
        f"<figure><figcaption>Spans per second <small>by start, in columns of {edge_text(window.width_nanos)}; "
        f'{time_axis_words(window)}</small></figcaption>{picture}<ul class="legend">{legend}</ul></figure>'
    )


def errors(total: Series, window: Window) -> str:
    """Return the picture of the share of spans with the status ERROR."""
    shares = np.divide(100 * total.errors, total.spans, out=np.zeros(window.columns), where=total.spans > 0)
    if not total.errors.any():
        return '<figure><figcaption>Errors</figcaption><p class="empty">No span has the status ERROR.</p></figure>'
    top, ticks = linear_ticks(float(shares.max()))
    top = min(top, 100.0)
    picture = frame(
        Plot(window.columns, _HEIGHT, f'<path class="bad" d="{_area(np.zeros(window.columns), shares, top)}"/>'),
        time_ticks(window),
        [Tick(100 * value / top, f"{value:g} %") for value in ticks if value <= top],
        f"Share of spans with an error over time, at most {shares.max():.3g} percent; the table below has the numbers",
        kind="low",
    )
    return (
        "<figure><figcaption>Errors <small>share of the spans of a column with status ERROR; "
        f"{time_axis_words(window)}</small></figcaption>{picture}</figure>"
    )


def over_time_table(total: Series, window: Window) -> str:
    """Return throughput and errors as a folded table, of at most thirty rows."""
    rows = []
    for first, last in spans_of_columns(window.columns, _MOST_TABLE_ROWS):
        spans, errors_ = int(total.spans[first:last].sum()), int(total.errors[first:last].sum())
        seconds = (last - first) * window.width_nanos / _SECOND
        rows.append(
            (
                f"+{edge_text(first * window.width_nanos)}",
                count_text(spans),
                short_count(spans / seconds),
                count_text(errors_),
                percent_text(errors_, spans),
            )
        )
    caption = f"Spans and errors over time, {time_axis_words(window)}"
    return details("As a table", table(caption, ("From", "Spans", "Spans/s", "Errors", "Share"), rows))


def spans_of_columns(columns: int, most: int) -> list[tuple[int, int]]:
    """Return at most so many ranges of columns, which have the same number, but for the last."""
    step = -(-columns // most)
    return list(pairwise([*range(0, columns, step), columns]))


def _area(lower: NDArray[np.float64], upper: NDArray[np.float64], top: float) -> str:
    """Return the outline of a stepped area; columns without height are left out."""
    parts = []
    for first, last in _runs(upper > lower):
        there = [_step(index, upper[index], top) for index in range(first, last)]
        back = [f"V{_y(lower[index], top)}H{index}" for index in range(last - 1, first - 1, -1)]
        parts.append(f"M{first} {_y(lower[first], top)}" + "".join(there + back) + "Z")
    return "".join(parts)


def _step(index: int, value: float, top: float) -> str:
    return f"V{_y(value, top)}H{index + 1}"


def _y(value: float, top: float) -> str:
    return f"{_HEIGHT * (1 - value / top):.0f}"


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where flags are set: first index, and the one behind the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _colour(index: int) -> str:
    return str(index) if index < MOST_LAYERS else "x"
