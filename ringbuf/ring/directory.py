"""The ring directory: where it is, who may write it, and how much may lie in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ringbuf.exceptions import RingCreateError

__all__ = ["DEFAULT_MAX_BYTES", "GROUP_MODE", "check_ring_dir", "check_room", "default_ring_dir", "ensure_ring_dir"]

DEFAULT_MAX_BYTES: Final = 1 << 30
"""Bytes of rings in one directory beyond which no further ring is made, unless RINGBUF_MAX_BYTES says otherwise.

Where the control group allows less than twice that memory, the bound is half of what it allows.
"""

GROUP_MODE: Final = 0o660
"""Mode of a ring that a drain of the same group may read; the default in a directory that is setgid and sticky."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# setgid and sticky: new rings belong to the drain's group, and a producer cannot remove another's.
_GROUP_FORM: Final = stat.S_ISGID | stat.S_ISVTX


def default_ring_dir() -> Path:
    """Return RINGBUF_DIR, else `/dev/shm/ringbuf-<uid>`."""
    return Path(os.environ.get("RINGBUF_DIR") or f"/dev/shm/ringbuf-{os.getuid()}")  # noqa: S108 - checked before use


def ensure_ring_dir(path: Path) -> None:
    """Make the ring directory with mode 0700 if it is not there, and check it.

    Raises:
        RingCreateError: when it cannot be made, or `check_ring_dir` refuses it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass  # it is no directory, or a link: said below
    except OSError as error:
        raise RingCreateError(
            f"{path}: the ring directory cannot be made ({error.strerror}); set RINGBUF_DIR"
        ) from error
    check_ring_dir(path)


def check_ring_dir(path: Path) -> None:
    """Refuse a ring directory in which somebody else could put or take rings.

    Accepted are a directory of ours (or root's) that nobody else may write, and the group form: setgid and sticky, so
    that nobody can remove what is not theirs.

    Raises:
        RingCreateError: saying what is wrong and what to do.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise RingCreateError(f"{path}: no ring directory ({error.strerror})") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RingCreateError(f"{path}: not a directory (symbolic links are not followed); set RINGBUF_DIR to another")
    if status.st_uid not in (os.getuid(), 0):
        raise RingCreateError(f"{path}: belongs to uid {status.st_uid}; use a directory of your own or of root")
    mode = stat.S_IMODE(status.st_mode)
    if mode & _GROUP_FORM == _GROUP_FORM:
        return
    if mode & _OTHERS_WRITE:
        raise RingCreateError(f"{path}: others may write it (mode {mode:04o}); chmod 0700, or 03733 for the group form")


def check_room(path: Path, more: int, max_bytes: int) -> None:
    """Refuse a ring of `more` bytes with which those in the directory would have more than `max_bytes`.

    Producers that crash in a loop while no drain runs would otherwise fill the machine's memory with their rings. In
    the group form a producer may not list the directory: there the tmpfs's own size is the bound.

    Raises:
        RingCreateError: saying how many bytes there are and what to do.
    """
    used = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.endswith(".ring"):
                    try:
                        used += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue  # a drain has just removed it
    except PermissionError:
        return
    if used + more > max_bytes:
        import shlex  # noqa: PLC0415 - an application that starts has no need of it

        raise RingCreateError(
            f"{path}: {used} bytes of rings are there, this one would have {more}, the limit is {max_bytes}; start a "
            f"drain (ringbuf-drain --ring-dir {shlex.quote(str(path))}), remove what is left over, give the emitter a "
            "smaller capacity, or raise RINGBUF_MAX_BYTES"
        )
