"""Forks a producer, kills it at a random moment and reads what it left, over and over.

argv: ring directory, number of kills, seed, door. The zygote has everything loaded, so that a round takes milliseconds
and the kill may come anywhere from the making of the ring on.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import ringbuf
from ringbuf._ringbuf import lib
from tests.consumer import Consumer, rings_in
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 16
BATCH = 5
PATIENCE = 120.0  # seconds
# Wide enough that a record takes several cache lines: the kill should find many half written.
CHECKS = [f"check{index}" for index in range(20)]
LAYOUT = ringbuf.SpanLayout(
    span_names=["work"], attributes=[ringbuf.Attribute(key, "u64") for key in ["number", *CHECKS]]
)
PRESENT = (1 << len(LAYOUT.attributes)) - 1


def checks_of(number: int) -> list[int]:
    """Return what the check fields of a record say."""
    return [(number + 1) * (index + 3) for index in range(len(CHECKS))]


def emit_one_by_one(emitter: ringbuf.Emitter) -> NoReturn:
    """Emit every number once, waiting for room."""
    emit = emitter.site("work", varying=["number", *CHECKS]).emit
    number = 0
    while True:
        values = checks_of(number)
        while not emit(number, number, number, *values):
            pass
        number += 1


def emit_batches(emitter: ringbuf.Emitter) -> NoReturn:
    number = 0
    records = LAYOUT.empty(BATCH)
    while True:
        records["trace_id"] = records["span_id"] = 0
        emitter.fill_ids(records)
        records["flags"], records["present"] = 0x101, PRESENT
        numbers = np.arange(number, number + BATCH, dtype="u8")
        records["start_unix_nano"] = records["end_unix_nano"] = records["number"] = numbers
        for index, key in enumerate(CHECKS):
            records[key] = (numbers + 1) * (index + 3)
        number += emitter.emit_batch(records)


def emit_spans(emitter: ringbuf.Emitter) -> NoReturn:
    here = emitter.site("work", varying=["number", *CHECKS])
    number = 0
    while True:
        before = emitter.stats().published
        with here.span(number, *checks_of(number)):
            pass
        number += emitter.stats().published - before


DOORS: dict[str, Callable[[ringbuf.Emitter], NoReturn]] = {
    "emit": emit_one_by_one,
    "emit_batch": emit_batches,
    "span": emit_spans,
}


def produce(ring_dir: Path, door: str) -> NoReturn:
    """Be the producer, until the kill."""
    DOORS[door](ringbuf.Emitter("killed", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1))


def check(records: np.ndarray[Any, np.dtype[np.void]], first: int) -> int:
    """See that records are whole and follow each other from the number `first` on; return the next number."""
    for record in records:
        assert record["number"] == first, (record["number"], first)
        assert [int(record[key]) for key in CHECKS] == checks_of(first), (first, record)
        assert record["present"] & ~np.uint32(lib.RB_PRESENT_ALONE) == PRESENT
        assert record["trace_id"].any()
        assert record["span_id"].any()
        assert record["flags"] & ~np.uint32(2) == 0x101  # roots say W3C's "random", too
        first += 1
    return first


def start_producer(ring_dir: Path, door: str) -> int:
    """Fork a producer; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            produce(ring_dir, door)
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def run_round(ring_dir: Path, door: str, life: float, *, drain: bool) -> int:
    """Let a producer live for `life` seconds; return how many records it left, all of them checked."""
    consumer = None
    total = 0
    pid = start_producer(ring_dir, door)
    try:
        end = time.monotonic() + life
        while time.monotonic() < end:
            if drain and consumer is None and (found := rings_in(ring_dir)):
                consumer = Consumer(found[0])
            if consumer is not None:
                total = check(consumer.take(), total)
    finally:
        kill(pid)
    left = list(ring_dir.iterdir())
    assert left == rings_in(ring_dir)  # no temporary file
    assert len(left) <= 1
    if consumer is None and left:
        consumer = Consumer(left[0])
    if consumer is not None:
        total = check(consumer.take(), total)
        assert consumer.poll() == 0
        consumer.close()
        left[0].unlink()
    return total


def time_to_first_record(ring_dir: Path, door: str) -> float:
    """Return how many seconds a producer takes to its first record."""
    start = time.monotonic()
    pid = start_producer(ring_dir, door)
    try:
        until(lambda: any(map(pending, rings_in(ring_dir))), lambda: None)
        taken = time.monotonic() - start
    finally:
        kill(pid)
    rings_in(ring_dir)[0].unlink()
    return taken


def pending(path: Path) -> int:
    with Consumer(path, observe=True) as consumer:
        return consumer.poll()


def main() -> None:
    """Run all rounds and print how many rings and records there were."""
    ring_dir, rounds, seed, door = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    order = random.Random(seed)  # noqa: S311 - moments, no secret
    longest_life = 3 * time_to_first_record(ring_dir, door)
    totals: list[int] = []
    # And more rounds where most of these came to nothing: the machine may have become slower than it was.
    while len(totals) < rounds or sum(total > 0 for total in totals) <= rounds // 5:
        totals.append(run_round(ring_dir, door, order.uniform(0, longest_life), drain=order.random() < 0.7))
        # About a third of the kills shall come before the first record, whatever else this machine has to do.
        longest_life *= 0.95 if totals[-1] else 1.1
    print(sum(total > 0 for total in totals), sum(totals))  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
