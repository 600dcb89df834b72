"""The ring directory on the drain's side: one drain at a time, which ring files there are, and what may be removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError
from ringbuf.ring.directory import ensure_ring_dir

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME: Final = "drain.lock"
RING_SUFFIX: Final = ".ring"

_CRASHED: Final = "crashed by signal "  # csrc/consumer/crash_note.c writes it
_LOCK_BYTES: Final = 64  # more than a pid and a note

# A file linked within the same tick of the kernel's clock as the last look leaves the time stamp as it was.
_CLOCK_TICK_NANO: Final = 100_000_000


class DirectoryLockedError(RingBufferError):
    """Another drain serves this ring directory."""


class FileId(NamedTuple):
    """Which file a name stands for, whatever the name is."""

    device: int
    inode: int


class RingDirectory:
    """A ring directory that this drain alone serves until `close`.

    Args:
        path: made with mode 0700 if it is not there.

    Attributes:
        crash: of which fault a drain of this directory died, "crashed by signal 11"; empty: of none (a kill from
            outside is none), or the rings that it left have been examined since (`forget_crash`).
        notes_crashes: whether this process leaves such a note, should it die.

    Raises:
        DirectoryLockedError: another drain has it.
        RingBufferError: the directory is not ours, or others may write it.
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        ensure_ring_dir(path)
        self.path = path
        self.crash = ""
        self.notes_crashes = False
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check_owner()
            self._take_directory()
            self._lock = self._take_lock()
        except BaseException:
            os.close(self.fd)
            raise
        self._seen_mtime_nano: int | None = None

    @property
    def doorbell_mode(self) -> int:
        """The mode that lets exactly those write the doorbell who may make a ring here."""
        mode = os.fstat(self.fd).st_mode
        return 0o600 | (0o060 if mode & stat.S_IWGRP else 0) | (0o006 if mode & stat.S_IWOTH else 0)

    def changed(self) -> bool:
        """Return whether names may have come or gone since `ring_files` was called last; one system call."""
        return os.fstat(self.fd).st_mtime_ns != self._seen_mtime_nano

    def ring_files(self) -> dict[str, int]:
        """Return the inode of each name that ends in `.ring`."""
        mtime_nano = os.fstat(self.fd).st_mtime_ns
        is_settled = abs(time.time_ns() - mtime_nano) > _CLOCK_TICK_NANO
        self._seen_mtime_nano = mtime_nano if is_settled else None
        with os.scandir(self.fd) as entries:
            return {entry.name: entry.inode() for entry in entries if entry.name.endswith(RING_SUFFIX)}

    def is_elsewhere(self) -> bool:
        """Return whether the path does not lead to this directory any more."""
        try:
            return _id_of(self.path.stat()) != file_id(self.fd)
        except OSError:
            return True

    def lock_again(self) -> bool:
        """Make `drain.lock` anew where the name is gone or another file's; return whether it was.

        Raises:
            DirectoryLockedError: another drain holds the file that has the name, and takes the directory for its own.
            RingBufferError: what has the name is no file of ours.
            OSError: it cannot be made.
        """
        if self.is_here(LOCK_NAME, file_id(self._lock)):
            return False
        lock = self._take_lock()
        os.close(self._lock)
        self._lock = lock
        if self.notes_crashes:
            self.note_crashes()
        return True

    def note_crashes(self) -> None:
        """Leave a note in `drain.lock`, should this process die of a fault; for one directory of a process.

        Raises:
            RingBufferError: the handlers cannot be installed.
        """
        if lib.rb_crash_note(self._lock, len(_pid_line())) != lib.RB_OK:
            raise RingBufferError("the handlers that note a crash cannot be installed")
        self.notes_crashes = True

    def forget_crash(self) -> None:
        """Take the note away: nothing is left of what the drain that died had in its hands."""
        self.crash = ""
        with contextlib.suppress(OSError):  # then the next drain examines what need not be examined
            os.ftruncate(self._lock, len(_pid_line()))

    def is_here(self, name: str, file: FileId) -> bool:
        """Return whether `name` stands for this file."""
        try:
            return _id_of(os.stat(name, dir_fd=self.fd, follow_symlinks=False)) == file
        except OSError:
            return False

    def remove(self, name: str, file: FileId) -> bool:
        """Unlink `name` if it still stands for this file; return whether it did."""
        if not self.is_here(name, file):
            return False
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Let another drain have the directory; `drain.lock` stays, and has the pid of the last one in it."""
        if self.notes_crashes:
            lib.rb_crash_note(-1, 0)
        os.close(self._lock)
        os.close(self.fd)

    def _check_owner(self) -> None:
        owner = os.fstat(self.fd).st_uid
        if owner not in (os.geteuid(), 0):
            raise RingBufferError(f"{self.path}: belongs to uid {owner}, who could swap the rings; a drain has its own")

    def _check_lock(self, status: os.stat_result) -> None:
        # It is written to: in the group form others could give this name to a file of ours, or hold one of theirs.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
            raise RingBufferError(f"{self.path / LOCK_NAME}: not a file of ours with one name; remove it")

    def _take_directory(self) -> None:
        """Lock the directory itself: `drain.lock` can be removed, and each of two drains hold a file of that name."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._locked() from None
        except OSError:
            return  # a file system that locks files only

    def _take_lock(self) -> int:
        """Lock `drain.lock` too, which says who has the directory; where no directory can be locked, it must do."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        lock = os.open(LOCK_NAME, flags, 0o600, dir_fd=self.fd)
        try:
            self._check_lock(os.fstat(lock))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            said = os.read(lock, _LOCK_BYTES).decode(errors="replace").splitlines()[1:2]
            self.crash = self.crash or "".join(line for line in said if line.startswith(_CRASHED))
            os.ftruncate(lock, 0)
            with contextlib.suppress(OSError):  # a full tmpfs: only the next drain's refusal would name this one
                os.pwrite(lock, _pid_line() + (f"{self.crash}\n".encode() if self.crash else b""), 0)
        except BlockingIOError:
            os.close(lock)
            raise self._locked() from None
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _locked(self) -> DirectoryLockedError:
        holder = ""
        with contextlib.suppress(OSError):  # removed, or no file that can be read
            lock = os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.fd)
            try:
                holder = os.read(lock, _LOCK_BYTES).decode(errors="replace").partition("\n")[0]
            finally:
                os.close(lock)
        who = f"another drain (pid {holder})" if holder.isdigit() else "another drain"
        return DirectoryLockedError(f"{who} serves {self.path}")


def _pid_line() -> bytes:
    return f"{os.getpid()}\n".encode()


def _id_of(status: os.stat_result) -> FileId:
    return FileId(status.st_dev, status.st_ino)


def file_id(fd: int) -> FileId:
    """Return which file an open descriptor is of."""
    return _id_of(os.fstat(fd))
