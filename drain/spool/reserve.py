"""Room on the disk that is kept for a bad day: to remove a batch from the spool SQLite has to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Reserve:
    """A file that takes up room and holds nothing.

    Args:
        path: of the file.
        size_bytes: of it, when it is there.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes
        self._is_there = False

    @property
    def held_bytes(self) -> int:
        """Of the file as it is, which an earlier drain may have left."""
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0

    def take(self) -> bool:
        """Take up the room, if that is not done; return whether there was as much."""
        if self._is_there and self.held_bytes >= self.size_bytes:  # nobody has removed it
            return True
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, self.size_bytes)
            finally:
                os.close(fd)
        except OSError:
            self.give_up()
            return False
        self._is_there = True
        return True

    def give_up(self) -> None:
        """Let the database have the room."""
        self._is_there = False
        self._path.unlink(missing_ok=True)
