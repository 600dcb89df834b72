"""A folder of the drain's own: what lies in it are other people's spans: nobody else may look, or put files there."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def ensure_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, durably; one that others may enter becomes so.

    Kubernetes opens a volume with `fsGroup` to that group at each start of a pod, what lies in it included.

    Raises:
        RingBufferError: it cannot be made, is a link or no folder, belongs to somebody else, or others could enter it
            and something in it is not ours.
    """
    try:
        _make(path)
        status = os.lstat(path)
    except OSError as error:
        raise RingBufferError(f"{path}: the folder cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RingBufferError(f"{path}: not a folder (symbolic links are not followed); name another")
    if status.st_uid != os.geteuid():
        raise RingBufferError(f"{path}: belongs to uid {status.st_uid}; name a folder of your own")
    if status.st_mode & _OTHERS:
        try:
            _make_private(path, stat.S_IMODE(status.st_mode))
        except OSError as error:
            raise RingBufferError(f"{path}: others may enter it, and it cannot be closed ({error.strerror})") from error


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: they cannot be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    """Make a folder and those above it that are not there, each durable before the next."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700 if folder == path else 0o777, exist_ok=True)
        with contextlib.suppress(PermissionError):  # who may make a folder there may not always read it
            sync_folder(folder.parent)


def _make_private(path: Path, mode: int) -> None:
    ours = os.geteuid()
    path.chmod(mode & ~_OTHERS)  # before the look: nobody can add anything behind it
    with os.scandir(path) as entries:
        for entry in entries:
            owner = entry.stat(follow_symlinks=False).st_uid
            if owner != ours:
                raise RingBufferError(
                    f"{path}: others could enter it (mode {mode:04o}), and {entry.name} in it belongs to uid {owner}; "
                    "look what it is and remove it, or name another folder"
                )
