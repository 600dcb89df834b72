"""Standard input, or another pipe, in the place of a file: it is copied first, as files are read more than once."""

from __future__ import annotations

import shutil
import sys
from typing import IO, TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

STANDARD_INPUT: Final = "-"
NAME: Final = "standard input"

_BLOCK_BYTES: Final = 1 << 20


def why_no_spans_come(names: Iterable[object]) -> str:
    """Return why none come from standard input, if that is among these names; empty: they may."""
    if not any(str(name) == STANDARD_INPUT for name in names):
        return ""
    is_closed = cast("object", sys.stdin) is None  # after <&-, and in some daemons
    if not (is_closed or sys.stdin.isatty()):
        return ""
    return f"{NAME} is {'closed' if is_closed else 'a terminal'}: name a file, or give it spans by a pipe or by < FILE"


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


def copy_pipe(path: Path, into: IO[bytes]) -> None:
    """Copy all that comes from a pipe with a name, as `<(zcat FILE)` has one.

    Args:
        path: of the pipe.
        into: a file.

    Raises:
        OSError: it cannot be read, or there is no room for it.
    """
    with path.open("rb") as pipe:
        shutil.copyfileobj(pipe, into, _BLOCK_BYTES)
