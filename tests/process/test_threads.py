"""Threads and signal handlers that emit at once, and a close among them: every attempt is counted, nothing breaks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import Consumer, records_in, rings_in, span_ids
from tests.nursery import output_of
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE = LeaseId(7)
THREADS = 4


def in_threads(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("lanes", [1, 3])
def test_what_threads_emit_is_all_there(ring_dir: Path, lanes: int) -> None:
    written: list[int] = []

    def work() -> None:
        count = 0
        records = fresh_records(emitter, 7)
        for number in range(500):
            count += read.emit(LEASE, number, 0)
            records["span_id"] = 0
            emitter.fill_ids(records)
            count += emitter.emit_batch(records)
            with read.span(LEASE):
                pass
        written.append(count)

    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1 << 15, lanes=lanes) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        in_threads(work)
        ids = span_ids(records_in(ring_dir))
        stats = emitter.stats()
        assert stats.attempts == THREADS * 500 * 9
        assert stats.published == len(ids) == len(set(ids))
        # `with` does not say whether it was written.
        assert sum(written) <= stats.published <= sum(written) + THREADS * 500


def test_threads_that_emit_beside_a_close_get_false_and_are_counted(ring_dir: Path) -> None:
    for _ in range(30):
        check_close_beside_threads(ring_dir)


def check_close_beside_threads(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1024, lanes=2)
    emit = site(OpType.FBMU_READ, emitter=emitter).emit
    counts: list[tuple[int, int]] = []
    under_way = threading.Barrier(THREADS + 1)
    closed = threading.Event()

    def work() -> None:
        attempts, written = 1, int(emit(LEASE, 1, 2))
        under_way.wait(120)
        while not closed.is_set():
            attempts += 1
            written += emit(LEASE, 1, 2)
        assert not any(emit(LEASE, 1, 2) for _ in range(10))
        counts.append((attempts + 10, written))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    under_way.wait(120)
    emitter.close()
    closed.set()
    for thread in threads:
        thread.join()
    stats = emitter.stats()
    assert len(counts) == THREADS
    assert stats.attempts == sum(attempts for attempts, _ in counts)
    assert stats.published == sum(written for _, written in counts) == len(records_in(ring_dir))
    assert stats.local >= 10 * THREADS
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        assert [consumer.view(lane).closed for lane in range(2)] == [1, 1]
    path.unlink()


def test_threads_that_emit_while_rings_are_removed_are_all_counted(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=64)
    read = site(OpType.FBMU_READ, emitter=emitter)
    attempts = []
    done = threading.Event()

    def work() -> None:
        count = 0
        while not done.is_set():
            read.emit(LEASE, 1, 2)
            count += 1
        attempts.append(count)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        for path in rings_in(ring_dir):
            path.unlink()
        emitter.open()
        assert emitter.stats().capacity == 64
    done.set()
    for thread in threads:
        thread.join()
    assert emitter.stats().attempts == sum(attempts)
    assert len(rings_in(ring_dir)) == 1
    records_in(ring_dir)
    emitter.close()


def test_a_signal_handler_may_emit(ring_dir: Path) -> None:
    output_of(
        """
import signal, ringbuf
from ringbuf.dataplane import *
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=1 << 16)
read = site(OpType.FBMU_READ, emitter=emitter)
handled = 0
def handle(*_):
    global handled
    handled += 1
    assert read.emit(LeaseId(1), 1, 2)
    with read.span(LeaseId(1)):
        pass
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
attempts = 0
while handled < 200 and attempts < 40000:
    assert read.emit(LeaseId(1), 1, 2)
    with read.span(LeaseId(1)):
        pass
    attempts += 2
signal.setitimer(signal.ITIMER_REAL, 0)
assert handled
assert emitter.stats().published == emitter.stats().attempts == attempts + 2 * handled
""",
        ring_dir,
    )
    assert len(rings_in(ring_dir)) == 1
