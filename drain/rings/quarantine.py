"""Where unsound ring files go: out of the drain's way, with the reason beside them, and never without bound."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from drain.rings.directory import RING_SUFFIX, file_id
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.rings.directory import FileId, RingDirectory

FOLDER_NAME: Final = "quarantine"
REASON_SUFFIX: Final = ".reason"

_MAX_FILES: Final = 64
_MAX_BYTES: Final = 64 << 20  # the folder lies on the tmpfs, so that a move is a rename: this is memory
_MAX_NAME_BYTES: Final = 200  # leaves room for the suffix of the reason
_BLOCK_BYTES: Final = 512  # of st_blocks
_MODE_OF_OTHERS: Final = 0o077


class Quarantine:
    """The folder `quarantine/` of a ring directory.

    Args:
        directory: the ring directory.
        max_files: how many ring files are kept; the oldest go first.
        max_bytes: how much memory they may take together; the newest stays even if it alone takes more.

    Raises:
        RingBufferError: something else has the folder's name: a link, or a folder of another user.
    """

    def __init__(self, directory: RingDirectory, *, max_files: int = _MAX_FILES, max_bytes: int = _MAX_BYTES) -> None:
        self._directory = directory
        self._max_files = max_files
        self._max_bytes = max_bytes
        with contextlib.suppress(FileExistsError):
            os.mkdir(FOLDER_NAME, 0o700, dir_fd=directory.fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(FOLDER_NAME, flags, dir_fd=directory.fd)
        except OSError as error:
            raise RingBufferError(f"{directory.path / FOLDER_NAME} cannot be opened: {error.strerror}") from error
        status = os.fstat(self._fd)
        if status.st_uid != os.geteuid() or status.st_mode & _MODE_OF_OTHERS:
            os.close(self._fd)
            raise RingBufferError(f"{directory.path / FOLDER_NAME} is not ours alone: remove it, or chmod it to 0700")

    def take(self, name: str, file: FileId, reason: Mapping[str, Any]) -> bool:
        """Move a ring file in here and write the reason beside it, if `name` still stands for this file.

        Args:
            name: in the ring directory.
            file: which file the reason is about.
            reason: becomes a JSON object in `<name>.reason`.

        Raises:
            OSError: it cannot be moved.
        """
        if not self._directory.is_here(name, file):
            return False
        stem = os.fsdecode(os.fsencode(name.removesuffix(RING_SUFFIX))[:_MAX_NAME_BYTES])
        kept_name = f"{stem}-{file.inode:x}{RING_SUFFIX}"
        os.rename(name, kept_name, src_dir_fd=self._directory.fd, dst_dir_fd=self._fd)
        self._remove_oldest()  # first, since it may be what makes room for the reason
        self._write(kept_name + REASON_SUFFIX, {"ring": name, **reason})
        return True

    def is_in(self, directory: RingDirectory) -> bool:
        """Return whether the directory still has this folder."""
        return directory.is_here(FOLDER_NAME, file_id(self._fd))

    def close(self) -> None:
        """Give up the descriptor."""
        os.close(self._fd)

    def _write(self, name: str, reason: Mapping[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        with os.fdopen(fd, "w", encoding="utf-8") as to:
            to.write(json.dumps(reason) + "\n")

    def _remove_oldest(self) -> None:
        with os.scandir(self._fd) as entries:
            files = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        # The move sets st_ctime.
        rings = sorted((name for name in files if name.endswith(RING_SUFFIX)), key=lambda name: files[name].st_ctime_ns)
        taken_bytes = sum(files[name].st_blocks * _BLOCK_BYTES for name in rings)
        while len(rings) > 1 and (len(rings) > self._max_files or taken_bytes > self._max_bytes):
            oldest = rings.pop(0)
            taken_bytes -= files[oldest].st_blocks * _BLOCK_BYTES
            os.unlink(oldest, dir_fd=self._fd)
        reasons = sorted(
            (name for name in files if name.endswith(REASON_SUFFIX)), key=lambda name: files[name].st_mtime_ns
        )
        # A reason outlives its ring for a while: it is small, and it is what an operator asks for.
        for name in reasons[: max(0, len(reasons) - 4 * self._max_files)]:
            os.unlink(name, dir_fd=self._fd)
