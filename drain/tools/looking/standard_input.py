"""Standard input in the place of a file: it is copied first, as what is read of it is read more than once."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STANDARD_INPUT: Final = "-"
NAME: Final = "standard input"
NO_SPANS: Final = "standard input is a terminal: name a file, or give it spans by a pipe or by < FILE"

_BLOCK_BYTES: Final = 1 << 20


def is_a_terminal(names: Iterable[object]) -> bool:
    """Return whether standard input is among these names, and is a terminal, from which no spans come."""
    return any(str(name) == STANDARD_INPUT for name in names) and sys.stdin.isatty()


def copy(into: IO[bytes], progress: Callable[[int], None] = lambda _: None) -> None:
    """Copy all that comes.

    Args:
        into: a file.
        progress: is told how many bytes have come so far.

    Raises:
        OSError: it cannot be read, or there is no room for it.
    """
    total = 0
    while block := sys.stdin.buffer.read(_BLOCK_BYTES):
        into.write(block)
        total += len(block)
        progress(total)
