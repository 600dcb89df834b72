"""Pieces of HTML: texts that may hold anything, counts, and tables.

What comes from spans goes into a page by `shown` alone, as the content of HTML elements or of their quoted attributes.
"""

from __future__ import annotations

import functools
import html
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST: Final = 120
_CONTROL_PICTURES: Final = 0x2400
_FIRST_PRINTABLE: Final = 0x20
_DELETE: Final = 0x7F
_THOUSANDS: Final = ((1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


@functools.lru_cache(maxsize=4096)
def shown(text: str) -> str:
    r"""Return a text from outside as HTML in which each character can be seen, and none does anything.

    Control characters become their pictures, and characters that change the direction or cannot be seen their numbers.

    >>> shown("<script>\n\u202e")
    '&lt;script&gt;␊[U+202E]'
    """
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return html.escape("".join(map(_visible, cut)))


def named(text: str) -> str:
    """Return a text from outside as an element of its own direction, so that it does not turn what stands beside it."""
    return f"<bdi>{shown(text)}</bdi>"


def count_text(count: int) -> str:
    """Return a count with separators.

    >>> count_text(1234567)
    '1,234,567'
    """
    return f"{count:,}"


def short_count(count: float) -> str:
    """Return a count for an axis.

    >>> [short_count(count) for count in (0, 0.5, 950, 1500, 20_000, 3_000_000)]
    ['0', '0.5', '950', '1.5k', '20k', '3M']
    """
    for size, letter in _THOUSANDS:
        if count >= size:
            return f"{count / size:.4g}{letter}"
    return f"{count:.4g}"


def percent_text(part: float, whole: float) -> str:
    """Return a share; what is not nothing never looks like nothing, and what is not all never like all.

    >>> percent_text(1, 1_000_000), percent_text(1, 3), percent_text(0, 3), percent_text(999_999, 1_000_000)
    ('<0.01 %', '33.3 %', '0 %', '>99.9 %')
    """
    share = 100 * part / whole if whole else 0.0
    if share in (0.0, 100.0):
        return f"{share:.0f} %"
    if share < 0.01:  # noqa: PLR2004 - the least that two decimals show
        return "<0.01 %"
    if share > 99.9:  # noqa: PLR2004 - the same at the other end
        return ">99.9 %"
    return f"{share:.2f} %" if share < 1 else f"{share:.1f} %"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Return a table that scrolls inside itself where it is too wide.

    Args:
        caption: what it shows; HTML.
        head: of each column; HTML.
        rows: cells, HTML.
        words: so many columns at the left hold words, the others numbers.
    """
    heads = "".join(f'<th scope="col"{align(at, words)}>{name}</th>' for at, name in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{align(at, words)}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Return content that is folded away at first."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def align(at: int, words: int) -> str:
    """Return the attribute of a cell of that column, of which the first `words` hold words."""
    return "" if at < words else ' class="n"'


def _visible(character: str) -> str:
    code = ord(character)
    if code < _FIRST_PRINTABLE:
        return chr(_CONTROL_PICTURES + code)
    if code < _DELETE:
        return character
    category = unicodedata.category(character)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"  # half a pair, which UTF-8 cannot say
    if category in {"Cc", "Cf", "Zl", "Zp"} or code & 0xFFFE == 0xFFFE:  # noqa: PLR2004 - Unicode's non-characters
        return f"[U+{code:04X}]"
    return character
