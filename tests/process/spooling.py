"""Puts batches into the spool of the folder in argv[1] until it is killed, and says on standard output what is sure.

Lines: `put N` once batch N is durable; `done N` before it is said to be delivered. Numbers begin at argv[2].
"""

from __future__ import annotations

import os
import random
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drain.accounting.outcome import Outcome
from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits

if TYPE_CHECKING:
    from concurrent.futures import Future

    from drain.spool.spool import Entry

SECONDS = 120
SPANS = 3


def body_of(number: int) -> bytes:
    """Return a body that tells its number and is 20 to 40 kB long."""
    return f"{number}:".encode() + random.Random(number).randbytes(20_000 + number % 20_000)  # noqa: S311 - the same for a number


def main(folder: Path, first: int, seed: int) -> None:
    """Keep eight puts under way, and take and finish batches in between."""
    rng = random.Random(seed)  # noqa: S311 - an order, no secret
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    spool = Spool(folder, SpoolLimits(256 << 20), log=log)
    under_way: deque[tuple[int, Future[Entry]]] = deque()
    number = first
    while True:
        while len(under_way) < 8:
            under_way.append((number, spool.put(Request(body_of(number), SPANS, "protobuf", services={"shop": SPANS}))))
            number += 1
        put_number, future = under_way.popleft()
        spool.back(future.result(SECONDS))
        say(f"put {put_number}")
        for entry in spool.take(rng.randrange(3)):
            if rng.random() < 0.8:
                say(f"done {int(entry.request.body.partition(b':')[0])}")
                spool.done(entry, Outcome(delivered=SPANS))
            else:
                spool.back(entry)


def say(line: str) -> None:
    """Write a line at once: what a killed process had in a buffer would be lost."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
