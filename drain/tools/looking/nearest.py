"""What somebody may have meant by a word that is not there."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from drain.tools.looking.span_text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MOST_SHOWN: Final = 8
_SIMILAR: Final = 0.5


def nearest(word: str, known: Collection[str]) -> str:
    """Return the end of a sentence that says that there is no such word: the nearest, or some of those that there are.

    >>> nearest("timout", ["ok", "timeout"]), nearest("x", ["ok", "timeout"])
    ("; did you mean 'timeout'?", '; there is ok, timeout')
    """
    near = near_of(word, known)
    return f"; there is {some(known)}" if near is None else meant(near)


def meant(word: str) -> str:
    """Return the question whether this was meant."""
    return f"; did you mean {printable(word)!r}?"


def some(words: Iterable[str]) -> str:
    """Return the first few of some words, as a list for people."""
    shown = [printable(word, 64) for word in words]
    more = ", …" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(sorted(shown)[:_MOST_SHOWN]) + more


def near_of(word: str, known: Iterable[str]) -> str | None:
    """Return the one that is most like the word, None where none is like it."""
    near = get_close_matches(word, list(known), 1, _SIMILAR)
    return near[0] if near else None
