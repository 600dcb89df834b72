"""What becomes of a spool's files that cannot be read: they are kept for a look, under a name with the time."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED_PREFIX: Final = "damaged-"

_WAL_SUFFIX: Final = "-wal"
_KEPT: Final = 3  # a disk that keeps breaking the spool must not fill up with what it broke


def set_aside_database(path: Path) -> Path:
    """Rename a database and its write-ahead log so that a new one can be begun; the oldest of those before go.

    Args:
        path: of a database that nobody has open.

    Returns:
        its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    to = _new_name(path.parent, path.stem, path.suffix)
    path.rename(to)
    # It is set aside now: whoever believed that it is not would take the next database's batches for this one's.
    with contextlib.suppress(OSError):
        path.with_name(path.name + _WAL_SUFFIX).rename(to.with_name(to.name + _WAL_SUFFIX))
    _remove_oldest(path.parent, path.suffix)
    return to


def set_aside_body(folder: Path, body: bytes) -> Path:
    """Write the stored body of one batch to a file of its own; the oldest of those before go.

    Raises:
        OSError: it cannot be written.
    """
    to = _new_name(folder, "batch", ".gz")
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(body)
    _remove_oldest(folder, ".gz")
    return to


def damaged_bytes(folder: Path) -> int:
    """Return how many bytes the files take that were set aside."""
    total = 0
    for path in folder.glob(f"{DAMAGED_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # taken away this moment
            total += path.stat().st_size
    return total


def remove_oldest_damaged(folder: Path) -> Path | None:
    """Remove what was set aside first, and return its path; None where nothing is.

    Raises:
        OSError: it cannot be removed.
    """
    kept = [path for path in _by_age(folder, "") if not path.name.endswith(_WAL_SUFFIX)]
    if not kept:
        return None
    kept[0].unlink()
    kept[0].with_name(kept[0].name + _WAL_SUFFIX).unlink(missing_ok=True)
    return kept[0]


def _new_name(folder: Path, stem: str, suffix: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 0
    while True:
        to = folder / f"{DAMAGED_PREFIX}{stamp}-{number}-{stem}{suffix}"
        if not to.exists():
            return to
        number += 1


def _remove_oldest(folder: Path, suffix: str) -> None:
    with contextlib.suppress(OSError):  # then there are more than are to be kept, which the spool's bound sees to
        for path in _by_age(folder, suffix)[:-_KEPT]:
            path.unlink()
            path.with_name(path.name + _WAL_SUFFIX).unlink(missing_ok=True)


def _by_age(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"{DAMAGED_PREFIX}*{suffix}"), key=lambda path: path.stat().st_ctime_ns)
