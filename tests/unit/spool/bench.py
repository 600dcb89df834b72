"""A folder for a spool, which tests open, close and break as they like."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import structlog

from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits
from drain.spool.spool_time import Moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drain.accounting.spool_status import SpoolStatus
    from drain.spool.spool import Entry

SECONDS = 120.0  # bounds a wait that goes wrong
MEBIBYTE = 1 << 20
ROOMY = SpoolLimits(64 * MEBIBYTE)


class Clock:
    """All of the spool's clocks, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.boot_id = "first boot"
        self.set_by = 0.0  # the time of day

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> Moment:
        since = int(self.seconds * 1e9)
        return Moment(int((1_763_820_000 + self.set_by) * 1e9) + since, self.boot_id, since)


class Bench:
    """A folder for a spool, which is opened and closed as the test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.capture = structlog.testing.LogCapture()
        self.spools: list[Spool] = []

    def open(self, limits: SpoolLimits = ROOMY, now: Callable[[], Moment] | None = None) -> Spool:
        log = structlog.wrap_logger(structlog.PrintLogger(), processors=[self.capture])
        spool = Spool(self.folder, limits, log=log, now=now or self.clock.now, clock=self.clock)
        self.spools.append(spool)
        return spool

    def close(self) -> None:
        for spool in self.spools:
            if spool._thread.is_alive():
                assert spool.close(SECONDS)

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.capture.entries]

    def file_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def damaged(self) -> list[str]:
        return sorted(path.name.split("-", 3)[-1] for path in self.folder.glob("damaged-*"))


def request(body: bytes = b"body", spans: int = 3, service: str = "shop") -> Request:
    return Request(body, spans, "protobuf", services={service: spans})


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311 - only to be incompressible


def put(spool: Spool, body: bytes = b"body", spans: int = 3, service: str = "shop") -> Entry:
    return spool.put(request(body, spans, service)).result(SECONDS)


def put_back(spool: Spool, body: bytes = b"body", spans: int = 3, service: str = "shop") -> None:
    spool.back(put(spool, body, spans, service))


def settled(spool: Spool) -> SpoolStatus:
    """Return the status after all jobs handed in so far, and what the time brings after them."""
    spool.take(0)
    spool.take(0)
    return spool.status()


def connection(spool: Spool) -> Any:
    assert spool._store._database is not None
    return spool._store._database._connection
