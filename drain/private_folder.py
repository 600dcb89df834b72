"""A folder of the drain's own: what lies in it are other people's spans: nobody else may look, or put files there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def ensure_private_folder(path: Path) -> None:
    """Make a folder with mode 0700 if it is not there.

    Raises:
        RingBufferError: it cannot be made, is a link or no folder, belongs to somebody else, or others may enter it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise RingBufferError(f"{path}: the folder cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RingBufferError(f"{path}: not a folder (symbolic links are not followed); name another")
    if status.st_uid != os.geteuid():
        raise RingBufferError(f"{path}: belongs to uid {status.st_uid}; name a folder of your own")
    if status.st_mode & _OTHERS:
        raise RingBufferError(
            f"{path}: others may enter it (mode {stat.S_IMODE(status.st_mode):04o}); chmod it to 0700"
        )
