"""Runs a spool on a disk of 8 MiB (argv[1] is a tmpfs) that somebody else fills up, and prints what it did as JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drain.accounting.outcome import Outcome
from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits, SpoolRefusedError
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


def main(disk: Path) -> None:
    """Fill, remove, make room, go on."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    spool = Spool(disk / "spool", LIMITS, log=log)
    entries = [put(spool, number) for number in range(10)]
    fill(disk / "filler")
    said: dict[str, object] = {}
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
