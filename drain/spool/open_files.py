"""Whether the files that SQLite has open are still those that bear their names, as long as they were left.

Whoever removes or replaces them takes the name from what SQLite goes on to write: to SQLite all is well, and with the
process everything would be gone.
"""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Found(enum.Enum):
    """What a look at the files found."""

    AS_LEFT = "as left"
    NOT_THE_DATABASE = "removed or replaced"
    NOT_THE_LOG = "its write-ahead log was removed or replaced"
    CUT = "cut by another program"


class _File(NamedTuple):
    device: int
    inode: int
    size_bytes: int

    @property
    def identity(self) -> tuple[int, int]:
        return self.device, self.inode


class OpenFiles:
    """The database and its write-ahead log, as they were when SQLite had opened them.

    Args:
        database: its path.
        log: path of its write-ahead log.
    """

    def __init__(self, database: Path, log: Path) -> None:
        self._paths = (database, log)
        self._knows_sizes = True
        self._left = tuple(map(_look_at, self._paths))

    def note_sizes(self) -> None:
        """Note how large they are; called after each write, which may have made them smaller."""
        self._knows_sizes = False  # until they are noted: after an error here no file is taken for one that was cut
        now = map(_look_at, self._paths)
        self._left = tuple(
            new if old is None or (new is not None and new.identity == old.identity) else old
            for old, new in zip(self._left, now, strict=True)
        )
        self._knows_sizes = True

    def look(self) -> Found:
        """Compare them with what was noted."""
        database, log = map(_look_at, self._paths)
        old_database, old_log = self._left
        if database is None or old_database is None or database.identity != old_database.identity:
            return Found.NOT_THE_DATABASE
        if old_log is not None and (log is None or log.identity != old_log.identity):
            return Found.NOT_THE_LOG
        is_log_cut = old_log is not None and log is not None and log.size_bytes < old_log.size_bytes
        is_cut = is_log_cut or database.size_bytes < old_database.size_bytes
        return Found.CUT if is_cut and self._knows_sizes else Found.AS_LEFT

    def remove_log(self) -> None:
        """Remove the log if it is the one that was open: SQLite would play it into whatever has the database's name."""
        old, path = self._left[1], self._paths[1]
        now = _look_at(path)
        if old is not None and now is not None and now.identity == old.identity:
            with contextlib.suppress(OSError):
                path.unlink()


def _look_at(path: Path) -> _File | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return _File(status.st_dev, status.st_ino, status.st_size)
