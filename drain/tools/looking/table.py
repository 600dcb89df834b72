"""Tables: with rich on a terminal, where columns go that do not fit; plain text, with all of them, in a pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.tools.looking.span_text import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.table import Table

_WITHOUT_CURSOR: Final = frozenset({"dumb", "unknown"})  # as rich has it, which shows nothing there
_GAP: Final = 2
_BAR_CELLS: Final = 10
_LEAST_TEXT: Final = 10  # to which a column of text is cut at most; before that, columns of a rank go


class Column(NamedTuple):
    """A column.

    Attributes:
        title: what stands above it.
        rank: 0 stays whatever the width; of the others the highest goes first.
        is_text: left-justified, and cut where there is no room.
        style: rich's name of how it looks on a terminal.
        keeps_end: where there is no room, the beginning is cut: of names that differ in their end.
        narrowed: `narrowed(cell, width)`, what is shown where there is no room, instead of a cut cell.
    """

    title: str
    rank: int = 0
    is_text: bool = False
    style: str = ""
    keeps_end: bool = False
    narrowed: Callable[[str, int], str] | None = None

    def cell(self, text: str, needed: int, width: int) -> str:
        """Return what is shown of a cell in a column that needs a width and has another."""
        if self.narrowed is not None and width < needed:
            return self.narrowed(text, width)
        return cut(text, width, keep_end=self.keeps_end)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def has_screen() -> bool:
    """Whether standard output is a terminal with a cursor, so that a picture can take the place of the last."""
    return is_terminal() and os.environ.get("TERM", "").lower() not in _WITHOUT_CURSOR


def has_colour() -> bool:
    """Whether standard output is a terminal whose user wants colours; see no-color.org."""
    return has_screen() and not os.environ.get("NO_COLOR")


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Return a share of 0 to 1 as a bar.

    >>> bar(0.25, 8)
    '██░░░░░░'
    """
    full = min(cells, max(0, round(share * cells)))
    return "█" * full + "░" * (cells - full)


def percent(share: float) -> str:
    """Return a share of 0 to 1 in percent; what is above 0 is never 0.

    >>> percent(0), percent(0.0001), percent(0.5)
    ('0%', '<1%', '50%')
    """
    return "<1%" if 0 < share < 0.01 else f"{int(share * 100)}%"  # noqa: PLR2004 - a hundredth is what a percent is


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """Return the columns that fit a width, and the width of each: the highest ranks go, then texts are cut."""
    needed = _needed(columns, rows)
    least = [
        min(wide, max(_LEAST_TEXT, len(column.title))) if column.is_text else wide
        for wide, column in zip(needed, columns, strict=True)
    ]
    kept = list(range(len(columns)))
    while _total(least[at] for at in kept) > width and any(columns[at].rank for at in kept):
        kept.remove(max(kept, key=lambda at: columns[at].rank))
    widths = {at: needed[at] for at in kept}
    while _total(widths.values()) > width:
        cuttable = [at for at in kept if widths[at] > least[at]]
        if not cuttable:
            break
        widths[max(cuttable, key=lambda at: widths[at])] -= 1
    return widths


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Return a table for a terminal of this width."""
    from rich.table import Table  # noqa: PLC0415 - 100 ms that a pipe does not pay
    from rich.text import Text  # noqa: PLC0415 - no markup: names come out of rings

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    widths, needed = fitting(columns, rows, width), _needed(columns, rows)
    for at, wide in widths.items():
        column = columns[at]
        table.add_column(
            column.title,
            justify="left" if column.is_text else "right",
            style=column.style or None,
            width=wide,
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(Text(columns[at].cell(row[at], needed[at], wide)) for at, wide in widths.items()))
    return table


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text, with all columns."""
    cells = [[column.title for column in columns], *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        (" " * _GAP).join(
            cell.ljust(width) if column.is_text else cell.rjust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        for row in cells
    )
    return "".join(line.rstrip() + "\n" for line in lines)


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to standard output."""
    if is_terminal():
        from rich.console import Console  # noqa: PLC0415 - as above

        console = Console()
        console.print(rich_table(columns, rows, console.width))
    else:
        sys.stdout.write(plain_table(columns, rows))


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(column.title), *(len(row[at]) for row in rows), 0) for at, column in enumerate(columns)]


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP
