"""The tables of the spool's database, and how one is made, or taken up as an earlier drain has left it.

The file is SQLite's, with a write-ahead log. That spans add up is a CHECK of the table `service`.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Final

from drain.accounting.spool_sums import SPOOL_SUM_NAMES
from drain.private_folder import sync_folder
from drain.spool.sqlite_errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from drain.accounting.spool_sums import SpoolSums

PAGE_BYTES: Final = 4096
_APPLICATION_ID: Final = 0x52427370  # "RBsp"
_VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    spooled_unix_nano INTEGER NOT NULL,
    boot_id TEXT NOT NULL DEFAULT '',
    boot_nano INTEGER NOT NULL DEFAULT 0,
    encoding TEXT NOT NULL,
    destination TEXT NOT NULL DEFAULT '',
    number TEXT NOT NULL DEFAULT '',
    cut_from INTEGER,
    spans INTEGER NOT NULL,
    services TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE service (
    name TEXT PRIMARY KEY,
    {", ".join(f"{name} INTEGER NOT NULL CHECK ({name} >= 0)" for name in SPOOL_SUM_NAMES)},
    CHECK (spooled = {" + ".join(SPOOL_SUM_NAMES[1:])})
) WITHOUT ROWID;
CREATE TABLE queue (
    batches INTEGER NOT NULL CHECK (batches >= 0),
    body_bytes INTEGER NOT NULL CHECK (body_bytes >= 0)
);
INSERT INTO queue VALUES (0, 0);
PRAGMA user_version = {_VERSION};
"""  # noqa: S608 - names that are written in the code
NEW_SERVICE: Final = (
    f"INSERT INTO service ({', '.join(SPOOL_SUM_NAMES)}, name) VALUES ({'?, ' * len(SPOOL_SUM_NAMES)}?)"  # noqa: S608 - names that are written in the code
)
# Of a spool that was begun before there were these. The version stays: an older drain reads and writes it with them,
# and sends to its one destination what is for several.
_ADDED_COLUMNS: Final = {
    "boot_id": "TEXT NOT NULL DEFAULT ''",
    "boot_nano": "INTEGER NOT NULL DEFAULT 0",
    "destination": "TEXT NOT NULL DEFAULT ''",
    "number": "TEXT NOT NULL DEFAULT ''",
    "cut_from": "INTEGER",
}
# Where a row stands among the others: pieces of one have its place, which says how old they are, and new ids.
PLACE: Final = "coalesce(cut_from, id)"
# So that the oldest is found without a look at all of them, and what waits for one destination without those of others.
_INDEXES: Final = (
    "DROP INDEX IF EXISTS batch_by_destination",  # which had ids
    f"CREATE INDEX IF NOT EXISTS batch_by_place ON batch ({PLACE})",
    f"CREATE INDEX IF NOT EXISTS batch_by_destination_and_place ON batch (destination, {PLACE})",
)


def open_connection(path: Path, checkpoint_bytes: int, wal_bytes: int) -> sqlite3.Connection:
    """Open the file for this process alone, with a write-ahead log; transactions are begun by hand.

    Args:
        path: made with mode 0600 if it is not there.
        checkpoint_bytes: of the log after which it is written back.
        wal_bytes: of the log's file that are kept when it has been larger.

    Raises:
        sqlite3.Error: it cannot be opened; `sqlite_errors` tells the kinds apart.
        OSError: the file cannot be made.
    """
    _make_file(path)
    # The thread that opens is not the one that writes.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _set_up(connection, checkpoint_bytes, wal_bytes)
    except BaseException:
        connection.close()
        raise
    return connection


def make_or_migrate(connection: sqlite3.Connection, carried: Mapping[str, SpoolSums]) -> bool:
    """Make the tables in a file that has none; add to an earlier drain's what it lacks.

    Args:
        connection: without a transaction.
        carried: sums to begin new tables with.

    Returns:
        whether they are new.

    Raises:
        sqlite3.Error: the file cannot be read or written.
        DamagedError: it is a database, but no spool.
    """
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    (version,) = execute("PRAGMA user_version").fetchone()
    (application,) = execute("PRAGMA application_id").fetchone()
    is_new = (version, application) == (0, 0) and execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if is_new:
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        for statement in _SCHEMA.strip().split(";\n"):
            execute(statement)
        for service, sums in carried.items():
            execute(NEW_SERVICE, (*(getattr(sums, name) for name in SPOOL_SUM_NAMES), service))
    elif (version, application) != (_VERSION, _APPLICATION_ID):
        raise DamagedError(f"not a spool of this version: application id {application:#x}, version {version}")
    there = {row[1] for row in execute("PRAGMA table_info(batch)").fetchall()}
    for name in _ADDED_COLUMNS.keys() - there if there else ():
        execute(f"ALTER TABLE batch ADD COLUMN {name} {_ADDED_COLUMNS[name]}")
    for statement in _INDEXES:
        execute(statement)
    execute("COMMIT")
    return is_new


def _make_file(path: Path) -> None:
    """Make the file where there is none: SQLite would give it the mode that the umask leaves."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    sync_folder(path.parent)  # the name, too, must outlive a loss of power


def _set_up(connection: sqlite3.Connection, checkpoint_bytes: int, wal_bytes: int) -> None:
    execute = connection.execute
    # Only this process: no other may write, and SQLite then needs no shared memory, whose pages a full disk lacks.
    execute("PRAGMA locking_mode = EXCLUSIVE")
    execute(f"PRAGMA page_size = {PAGE_BYTES}")
    execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"no write-ahead log here: journal mode {mode}")
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA secure_delete = OFF")  # else a removal writes every page of the body with zeros
    execute(f"PRAGMA wal_autocheckpoint = {max(1, checkpoint_bytes // PAGE_BYTES)}")
    execute(f"PRAGMA journal_size_limit = {wal_bytes}")
