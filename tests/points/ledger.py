"""What a producer writes down of each attempt, in memory that outlives it, and what a test tells it there.

A byte for each number, which tells the one attempt that a kill cut from the others, however threads and rings take
turns. Two others write down less, for more: a soak (tests/soak/ledger.py) two words for each of its streams, since it
has billions of spans; a process that is not killed (tests/process/numbered.py) one line at its end.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

MOST: Final = 1 << 18  # attempts
UNTRIED, TRIED, WRITTEN, REFUSED = range(4)
_WORDS: Final = 8


class Ledger:
    """A shared file: a few words, and one byte for each number that was emitted or is being emitted.

    Args:
        path: made if it is not there.

    Attributes:
        fates: of each number: UNTRIED, TRIED (the call did not return), WRITTEN or REFUSED (what it returned).
    """

    def __init__(self, path: Path) -> None:
        size = 8 * _WORDS + MOST
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._words = np.frombuffer(self._map, "u8", _WORDS)
        self.fates = np.frombuffer(self._map, "u1", MOST, offset=8 * _WORDS)

    @property
    def has_ring(self) -> bool:
        """Whether the producer has its first ring."""
        return bool(self._words[0])

    @has_ring.setter
    def has_ring(self, value: bool) -> None:
        self._words[0] = value

    @property
    def may_go(self) -> bool:
        """Whether the producer may emit: somebody watches its ring."""
        return bool(self._words[1])

    @may_go.setter
    def may_go(self, value: bool) -> None:
        self._words[1] = value

    def numbers(self, *fates: int) -> set[int]:
        """Return the numbers that met one of these fates."""
        return set().union(*(np.flatnonzero(self.fates == fate).tolist() for fate in fates))
