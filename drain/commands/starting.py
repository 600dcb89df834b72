"""How a command begins, or says why it cannot."""

from __future__ import annotations

import contextlib
import errno
import socket
import sqlite3
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from drain.exit_codes import LOCKED, TROUBLE, USAGE
from drain.log import configure_log
from drain.rings.directory import DirectoryLockedError
from drain.settings.settings import ConfigurationError, load
from drain.spool.store import SpoolLockedError
from drain.standard_streams import STDERR, StandardStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.settings.settings import Configuration

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


def effective(flags: dict[str, object], config_file: Path | None) -> Configuration:
    """Return the effective settings, or end the process where they cannot be."""
    try:
        return load(flags, config_file)
    except ConfigurationError as error:
        cannot_start(error)


def log_of(configuration: Configuration) -> FilteringBoundLogger:
    """Return the log, which has the warnings about the settings already."""
    log = configure_log(configuration.settings.log_level)
    for warning in configuration.warnings:
        log.warning("a setting may not be what was meant", reason=warning)
    return log


def say(reason: object) -> None:
    """Say something on standard error, where somebody hears it."""
    # Of descriptor 2 the log may have made a pipe into itself, whose reader would not get to it before the end.
    try:
        descriptor = sys.stderr.fileno()
    except OSError:  # it is no file: a test's
        descriptor = STDERR
    with contextlib.suppress(OSError):  # nobody hears it; the exit code says it, too
        StandardStream(descriptor).write(f"ringbuf-drain: {reason}\n")


def cannot_start(reason: object) -> NoReturn:
    """Say why, and end the process; the exit code is that of the reason, where it is an exception."""
    say(reason)
    raise typer.Exit(exit_code_of(reason) if isinstance(reason, BaseException) else USAGE)


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
