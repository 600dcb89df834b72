"""What a spool holds, for a look that changes nothing, also beside the drain that has it."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drain.spool.copied import copied, holder_of
from drain.spool.damage import damaged_bytes
from drain.spool.database import SpoolDatabase
from drain.spool.reserve import Reserve
from drain.spool.schema import PAGE_BYTES
from drain.spool.spool import DATABASE_NAME
from drain.spool.sqlite_errors import DamagedError
from drain.spool.store import RESERVE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drain.accounting.spool_sums import SpoolSums
    from drain.spool.database import Stored


@dataclass(frozen=True, slots=True)
class SpoolLook:
    """What a spool holds.

    Attributes:
        holder: the process that has it open; 0 where it has no number here, None where there is none.
        batches: that wait, the oldest first.
        sums: of each service, since the spool was begun.
        file_bytes: of its files, those that were set aside included.
        set_aside_bytes: of those that were set aside as damaged.
        note: why it cannot be read; empty: it can.
    """

    holder: int | None = None
    batches: Sequence[Stored] = ()
    sums: Mapping[str, SpoolSums] | None = None
    file_bytes: int = 0
    set_aside_bytes: int = 0
    note: str = ""


def look_at_spool(folder: Path) -> SpoolLook:
    """Look at a spool; one that is not there holds nothing.

    Raises:
        SpoolCopyError: there is no room for a copy of it, or it changes all the time.
        OSError: it cannot be read.
    """
    path = folder / DATABASE_NAME
    set_aside = damaged_bytes(folder)
    try:
        path.stat()
    except FileNotFoundError:
        return SpoolLook(file_bytes=set_aside, set_aside_bytes=set_aside)
    holder = holder_of(path)
    log = path.with_name(f"{path.name}-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    file_bytes = path.stat().st_size + log_bytes + Reserve(folder / RESERVE_NAME, 0).held_bytes + set_aside
    with tempfile.TemporaryDirectory(prefix="ringbuf-spool-") as copies:
        copy = copied(path, Path(copies))
        try:
            database = SpoolDatabase(copy, PAGE_BYTES, PAGE_BYTES)
        except (sqlite3.Error, DamagedError) as error:
            return SpoolLook(holder, (), None, file_bytes, set_aside, f"{path}: {error}")
        try:
            return SpoolLook(holder, database.oldest(sys.maxsize), database.sums, file_bytes, set_aside)
        except (sqlite3.Error, DamagedError) as error:
            return SpoolLook(holder, (), database.sums, file_bytes, set_aside, f"{path}: {error}")
        finally:
            database.close()
