"""Numbers with what they count, and lists, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["counted", "some"]

_MOST_SHOWN: Final = 8
_CHARACTERS: Final = 64


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with what it counts.

    Args:
        count: the number.
        one: the word for one.
        several: the word for other numbers; empty: the same with an s.

    >>> counted(1, "batch", "batches"), counted(1200, "batch", "batches"), counted(0, "ring")
    ('1 batch', '1,200 batches', '0 rings')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def some(words: Sequence[str]) -> str:
    """Return the first few of some words, as an error message has them: a layout may have 65,535.

    >>> some(["paid", "declined"]), some([str(number) for number in range(1000)])
    ('paid, declined', '0, 1, 2, 3, 4, 5, 6, 7 and 992 more')
    """
    shown = ", ".join(word if len(word) <= _CHARACTERS else word[:_CHARACTERS] + "…" for word in words[:_MOST_SHOWN])
    return shown if len(words) <= _MOST_SHOWN else f"{shown} and {len(words) - _MOST_SHOWN:,} more"
