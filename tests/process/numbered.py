"""Numbered spans: a process emits them and tells how many, and the test reads back what all processes left.

A record is whole when its lease, its bytes and (but for spans of a block) its times say the same number.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import Consumer, rings_in, span_ids

if TYPE_CHECKING:
    from pathlib import Path

    import ringbuf

FIRST_CLOCK = 1 << 60  # nanoseconds since 1970 lie above, numbers below
PID_SHIFT = 24


class Numbered:
    """Emits this process's spans and counts them.

    Args:
        emitter: of the data plane's layout.
        told: the file to which `tell` appends.
    """

    def __init__(self, emitter: ringbuf.Emitter, told: Path | str) -> None:
        self.emitter = emitter
        self.told = told
        self.site = site(OpType.FBMU_READ, emitter=emitter)
        self.attempts = self.written = 0

    def emit(self) -> bool:
        """Emit one span."""
        self.attempts += 1
        number = os.getpid() << PID_SHIFT | self.attempts
        written = self.site.emit(LeaseId(number), number, number + 1, number)
        self.written += written
        return written

    def emit_block(self) -> None:
        """Emit a span around another."""
        self.attempts += 1
        number = os.getpid() << PID_SHIFT | self.attempts
        with self.site.span(LeaseId(number)) as span:
            span.nbytes = number
            self.emit()

    def emit_some(self, count: int = 20) -> None:
        """Emit `count` spans and as many blocks, all of which must be written."""
        for _ in range(count):
            assert self.emit()
            self.emit_block()

    def tell(self) -> None:
        """Append this process's counts, once it emits no more, after a look whether they are the emitter's too."""
        stats = self.emitter.stats()
        assert stats.attempts == self.attempts, (stats, self.attempts)
        append(self.told, f"{os.getpid()} {stats.attempts} {stats.published}\n")


def append(path: Path | str, line: str) -> None:
    """Append a line in one write, which other processes cannot break."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def left_by(ring_dir: Path) -> Counter[int]:
    """Return how many spans each process left, by pid.

    All rings must be those of dead processes, all records whole, all span ids different, and no other file there.
    """
    spans: Counter[int] = Counter()
    ids: list[bytes] = []
    paths = rings_in(ring_dir)
    assert {path.name for path in ring_dir.iterdir()} <= {path.name for path in paths} | {"doorbell", "drain.lock"}
    for path in paths:
        with path.open("rb") as file:
            assert lib.rb_producer_alive(file.fileno()) == 0, path
        with Consumer(path) as consumer:
            records = consumer.take_all()
            pid = consumer.header.pid
        for record in records:
            number = int.from_bytes(bytes(record["grafos.lease.id"]), "big")
            assert number >> PID_SHIFT == pid, record
            assert record["grafos.bytes"] == number, record
            times = (int(record["start_unix_nano"]), int(record["end_unix_nano"]))
            assert times == (number, number + 1) or FIRST_CLOCK < times[0] <= times[1], record
            assert record["trace_id"].any(), record
            assert record["reserved"] == 0, record
        spans[pid] += len(records)
        ids += span_ids(records)
    assert len(ids) == len(set(ids))
    return spans


def told_in(told: Path) -> Counter[int]:
    """Return how many spans each process says that it published, by pid."""
    spans: Counter[int] = Counter()
    for line in told.read_text().splitlines():
        pid, _attempts, published = map(int, line.split())
        spans[pid] += published
    return spans


def complaints(stderr: str) -> list[str]:
    """Return what programs said on standard error, but for what they say where no drain is."""
    return [line for line in stderr.splitlines() if "that no drain has taken" not in line]


def check_all_told(ring_dir: Path, told: Path, processes: int) -> None:
    """See that the rings hold what the processes told of, `processes` in number, and nothing else."""
    spans = told_in(told)
    assert len(spans) == processes, spans
    assert all(spans.values()), spans
    assert left_by(ring_dir) == spans
