"""Runs a spool on a disk of 8 MiB (argv[1] is a tmpfs) that somebody else fills up, and prints what it did as JSON."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drain.accounting.outcome import Outcome
from drain.otlp.request import Request
from drain.spool import spool as spool_module
from drain.spool.spool import DATABASE_NAME, Spool, SpoolLimits, SpoolRefusedError
from tests.waiting import comes_true

if TYPE_CHECKING:
    from drain.spool.spool import Entry

SECONDS = 120.0
LIMITS = SpoolLimits(64 << 20)


def put(spool: Spool, number: int) -> Entry:
    """Put a batch of one span and 200 kB."""
    body = random.Random(number).randbytes(200_000)  # noqa: S311 - only to be incompressible
    return spool.put(Request(body, 1, "protobuf", services={"shop": 1})).result(SECONDS)


def is_put(spool: Spool, number: int) -> bool:
    """Put a batch, or not while there is no room."""
    try:
        put(spool, number)
    except SpoolRefusedError:
        return False
    return True


def fill(path: Path) -> None:
    """Take all that the disk has left."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def delivered_after_a_start(disk: Path) -> int:
    """Start where the disk has been full for a while, with a spool of a drain of before; return what gets out of it."""
    folder, filler = disk / "before", disk / "filler"
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    spool = Spool(folder, LIMITS, log=log)
    for number in range(3):
        spool.back(put(spool, number))
    assert spool.close(SECONDS)
    with contextlib.closing(sqlite3.connect(folder / DATABASE_NAME)) as database:
        database.executescript("DROP INDEX batch_by_place; DROP INDEX batch_by_destination_and_place;")
    fill(filler)
    spool = Spool(folder, LIMITS, log=log)
    for entry in spool.take(3):
        spool.done(entry, Outcome(delivered=1))
    assert spool.close(SECONDS)
    filler.unlink()
    spool = Spool(folder, LIMITS, log=log)
    delivered = spool.status().services["shop"].delivered
    assert spool.close(SECONDS)
    shutil.rmtree(folder)
    return delivered


def main(disk: Path) -> None:
    """Fill, remove, make room, go on."""
    spool_module._TAKE_SECONDS = SECONDS  # type: ignore[misc]  # a disk of memory does not hang
    said: dict[str, object] = {"delivered_after_a_start": delivered_after_a_start(disk)}
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    spool = Spool(disk / "spool", LIMITS, log=log)
    entries = [put(spool, number) for number in range(10)]
    fill(disk / "filler")
    try:
        while len(entries) < 100:
            entries.append(put(spool, len(entries)))
    except SpoolRefusedError as error:
        said["refused"] = str(error)
    stored = len(entries)
    said["taken"] = len(entries[0].request.body)
    for entry in entries[:5]:
        spool.done(entry, Outcome(delivered=1))
    comes_true(lambda: spool.status().services["shop"].delivered >= 5)
    said["delivered_while_full"] = spool.status().services["shop"].delivered
    (disk / "filler").unlink()
    comes_true(lambda: is_put(spool, stored), lambda: time.sleep(0.05))
    said["writable_again"] = spool.status().is_writable
    said["closed"] = spool.close(SECONDS)
    spool = Spool(disk / "spool", LIMITS, log=log)
    status = spool.status()
    said["set_aside"] = status.set_aside
    said["adds_up"] = status.services["shop"].unaccounted == 0
    said["lost"] = stored + 1 - status.services["shop"].spooled
    said["waiting"] = status.batches == len(spool.take(1000)) == stored + 1 - 5
    said["told"] = [entry["event"] for entry in capture.entries].count("spool cannot be used, spans wait in the rings")
    spool.close(SECONDS)
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
