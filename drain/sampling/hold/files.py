"""The files of the hold: each has a name only when it is whole, and is read as bytes that anybody may have written."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD_FOLDER: Final = "hold"
"""Of a ring directory."""

PASSING: Final = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""What hinders to open a file and is no fault of it: the next start has it."""

PART_PREFIX: Final = ".part-"
_UNSOUND_PREFIX: Final = "unsound-"
_LATER_PREFIX: Final = "later-"
_MOST_UNSOUND: Final = 4  # that are kept for somebody to look at
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def whole_file(path: Path, size: int) -> Iterator[int]:
    """Give a new file of `size` bytes, all allocated, that takes the name when the block has ended well.

    Raises:
        OSError: there is no room for it, among others.
    """
    part = path.with_name(f"{PART_PREFIX}{path.name}")
    fd = os.open(part, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
        yield fd
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def open_own(path: Path) -> int:
    """Open a file for reading and writing that is ours, regular, and has no other name.

    Raises:
        OSError: it is none such.
    """
    fd = os.open(path, _FLAGS)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
        os.close(fd)
        raise OSError(0, "not a file of ours with one name", str(path))
    return fd


def read_own(path: Path, most_bytes: int) -> bytes:
    """Return what is in such a file.

    Raises:
        OSError: it is none such, or has more.
    """
    fd = open_own(path)
    try:
        if os.fstat(fd).st_size > most_bytes:
            raise OSError(0, f"more than {most_bytes} bytes", str(path))
        return os.pread(fd, most_bytes, 0)
    finally:
        os.close(fd)


def set_later_aside(path: Path) -> None:
    """Let a file of a later version, whose name is needed, have another one; of those of one name the last stays."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{_LATER_PREFIX}{path.name}"))


def set_unsound_aside(path: Path) -> None:
    """Let a file that cannot be used have another name; of the last few, that somebody may look at them."""
    others = sorted(path.parent.glob(f"{_UNSOUND_PREFIX}*"), key=lambda one: one.lstat().st_mtime_ns)
    with contextlib.suppress(OSError):
        for old in others[: max(0, len(others) - _MOST_UNSOUND + 1)]:
            old.unlink()
        path.rename(path.with_name(f"{_UNSOUND_PREFIX}{path.name}"))
