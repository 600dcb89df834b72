"""What a start ends with that failed: whether starting again may help."""

from __future__ import annotations

import errno
import socket
import sqlite3
from typing import TYPE_CHECKING, Final

from drain.exit_codes import LOCKED, TROUBLE, USAGE
from drain.rings.directory import DirectoryLockedError
from drain.spool.store import SpoolLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a path or an address is to blame for; anything else that a system call says may be otherwise in a moment.
_OF_CONFIGURATION: Final = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV),
        *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENXIO),
        *(socket.EAI_NONAME, socket.EAI_SERVICE, socket.EAI_FAMILY),
    }
)
_PASSING_OF_SQLITE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY}
)


def exit_code_of(error: BaseException) -> int:
    """Return what a start ends with that failed for this reason, or for what was the reason of that.

    >>> exit_code_of(OSError(errno.ENOSPC, "No space left on device"))
    74
    """
    for cause in _causes(error):
        if isinstance(cause, DirectoryLockedError | SpoolLockedError):
            return LOCKED
        if isinstance(cause, MemoryError) or (
            isinstance(cause, sqlite3.Error) and _primary_code(cause) in _PASSING_OF_SQLITE
        ):
            return TROUBLE
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _OF_CONFIGURATION:
            return TROUBLE
    return USAGE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Also what `raise … from None` hides from people.
        error = error.__cause__ or error.__context__


def _primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
