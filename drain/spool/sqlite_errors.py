"""What an error of the spool's database says: not sound, the disk is full, another process has it."""

from __future__ import annotations

import sqlite3


class DamagedError(Exception):
    """The database holds what a spool never wrote."""


def is_damage(error: Exception) -> bool:
    """Return whether this error says that the file's content is not sound."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
    if code == sqlite3.SQLITE_ERROR:
        return str(error).startswith("no such")  # table, or column
    return isinstance(error, DamagedError) or code in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_CONSTRAINT,  # the law did not hold before
    }


def is_full(error: Exception) -> bool:
    """Return whether this error says that the disk is full."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def is_locked(error: Exception) -> bool:
    """Return whether this error says that another process has the database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
