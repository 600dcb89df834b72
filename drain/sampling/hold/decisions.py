"""What was decided on traces, on record before the first of their spans is settled: so no kill tears a trace."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.sampling.hold.files import PASSING, open_own, set_later_aside, set_unsound_aside, whole_file

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "decisions"
ENTRY_BYTES: Final = 16

_HEAD: Final = struct.Struct("<8sII16s")
_MAGIC: Final = b"rb-decs\0"
_VERSION: Final = 1
_KEY_BYTES: Final = 16
_MOST_FOUND: Final = 1 << 25  # entries: twice what the largest trace table remembers


class _LaterError(ValueError):
    """A file of a later version."""


class Decisions:
    """The file of decisions of one hold; an entry is two u64: the keyed hash of a trace id, and what was decided.

    Entries lie behind each other, and of one trace the last counts. A write that a kill cuts short leaves a part of an
    entry at the end, which is none.

    Args:
        folder: of the hold.

    Attributes:
        key: 16 random bytes for the hash, as long as the file lives.
        found: the newest entries of earlier drains, u64, shape (n, 2); taken once.
        is_anew: there was a file that cannot be used; it was set aside.
        has_later: it is of a later version, and is kept as `later-decisions`.

    Raises:
        OSError: there is no memory, or no descriptor, to open it.

    Without room for its file there is none: nothing is on record until `rewrite` has made it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.key = secrets.token_bytes(_KEY_BYTES)
        self.found = np.empty((0, 2), np.uint64)
        self._fd = -1
        self._size = _HEAD.size
        self.is_anew = self.has_later = False
        try:
            self._fd = open_own(self._path)
            self._read()
        except FileNotFoundError:
            self._make()
        except (OSError, ValueError) as error:
            self.close()
            if isinstance(error, OSError) and error.errno in PASSING:
                raise
            (set_later_aside if isinstance(error, _LaterError) else set_unsound_aside)(self._path)
            self.is_anew = True
            self.has_later = isinstance(error, _LaterError)
            self.key = secrets.token_bytes(_KEY_BYTES)  # not what such a file says
            self._make()

    def __len__(self) -> int:
        """How many entries the file has, of traces that are decided twice two."""
        return (self._size - _HEAD.size) // ENTRY_BYTES

    def append(self, entries: np.ndarray) -> None:
        """Put decisions on record.

        Args:
            entries: u64, shape (n, 2).

        Raises:
            OSError: there is no room; none of them is on record then.
        """
        if self._fd < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        content = np.ascontiguousarray(entries, np.dtype("<u8")).tobytes()
        try:
            written = 0
            while written < len(content):  # the file system may be full in the middle of it
                written += os.pwrite(self._fd, content[written:], self._size + written)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(content)

    def rewrite(self, entries: np.ndarray) -> None:
        """Let the file have these entries and no others.

        Args:
            entries: those that still matter: of traces of which a span waits, or may still come.

        Raises:
            OSError: there is no room; the file is as it was.
        """
        content = _HEAD.pack(_MAGIC, _VERSION, 0, self.key) + np.ascontiguousarray(entries, np.dtype("<u8")).tobytes()
        with whole_file(self._path, len(content)) as fd:
            os.pwrite(fd, content, 0)
            mine = os.dup(fd)
        self.close()
        self._fd, self._size = mine, len(content)

    def look(self) -> bool:
        """Return whether the file is what it was; where it was removed or cut, or never made, `rewrite` makes it."""
        if self._fd < 0:
            return False
        try:
            now = os.lstat(self._path)
        except OSError:
            return False
        mine = os.fstat(self._fd)
        return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino) and mine.st_size == self._size

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _make(self) -> None:
        with contextlib.suppress(OSError):  # a full file system: until there is room, only a kill would be the worse
            self.rewrite(self.found)

    def _read(self) -> None:
        size = os.fstat(self._fd).st_size
        head = os.pread(self._fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            raise ValueError(f"{len(head)} bytes")
        magic, version, _, self.key = _HEAD.unpack(head)
        if magic == _MAGIC and version > _VERSION:
            raise _LaterError(f"version {version}")
        if magic != _MAGIC or version != _VERSION:
            raise ValueError(f"version {version}")
        entries = (size - _HEAD.size) // ENTRY_BYTES
        read = min(entries, _MOST_FOUND)
        content = os.pread(self._fd, read * ENTRY_BYTES, _HEAD.size + (entries - read) * ENTRY_BYTES)
        self.found = np.frombuffer(content, "<u8", len(content) // ENTRY_BYTES * 2).reshape(-1, 2)
        self._size = _HEAD.size + entries * ENTRY_BYTES
