"""A look at a spool that a drain may have open: a copy of one moment, and who has it; no lock is taken."""

from __future__ import annotations

import errno
import fcntl
import shutil
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

SQLITE_MAGIC: Final = b"SQLite format 3\0"
# Where SQLite's processes lock a database (sqlite.org/fileformat2.html, "The Lock-Byte Page").
SQLITE_LOCK_AT: Final = 0x40000000
SQLITE_LOCK_BYTES: Final = 512

_WAL_HEADER_BYTES: Final = 32  # with the salts, which change when the log begins anew
_TRIES: Final = 5
_FLOCK: Final = struct.Struct("hhqqi0q")  # struct flock of Linux: type, whence, start, length, pid


class SpoolCopyError(RingBufferError):
    """A spool cannot be copied now."""


def copied(path: Path, folder: Path) -> Path:
    """Copy a spool, that of a running drain too, so that the copy is of one moment; return where it is.

    Its drain has the database for itself. While neither the database nor the beginning of its log changes, copies of
    the two fit together: what is behind the log's last whole entry does not count.

    Args:
        path: of the database.
        folder: where the copy goes.

    Raises:
        SpoolCopyError: there is no room for it, or it changes all the time.
        OSError: it cannot be read.
    """
    log = path.with_name(f"{path.name}-wal")
    copy = folder / f"{len(list(folder.iterdir()))}.db"
    for _ in range(_TRIES):
        before = _state(path, log)
        if 2 * path.stat().st_size > shutil.disk_usage(folder).free:
            text = f"there is no room in {folder.parent} for a copy of the spool; name another by TMPDIR"
            raise SpoolCopyError(text) from OSError(errno.ENOSPC, text)
        with suppress(FileNotFoundError):
            shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
        shutil.copyfile(path, copy)
        if _state(path, log) == before:
            return copy
    text = "the drain has changed the spool at every try to copy it: look again"
    raise SpoolCopyError(text) from OSError(errno.EAGAIN, text)


def holder_of(path: Path) -> int | None:
    """Return the process that has a database open; 0 where it has no number here, None where there is none.

    Raises:
        OSError: the file cannot be read, or its file system knows no locks.
    """
    # Asked for, and not taken: a drain that starts now must find it free.
    asked = _FLOCK.pack(fcntl.F_RDLCK, 0, SQLITE_LOCK_AT, SQLITE_LOCK_BYTES, 0)
    with path.open("rb") as file:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def beginning(path: Path, count: int = len(SQLITE_MAGIC)) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)


def _state(path: Path, log: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    try:
        begun = beginning(log, _WAL_HEADER_BYTES)
    except FileNotFoundError:
        begun = b""
    return status.st_mtime_ns, status.st_size, begun
