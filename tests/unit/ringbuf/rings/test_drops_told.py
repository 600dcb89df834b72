"""Drops are told of once, by another thread; a close counts them, and leaves no ring that never had a span."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.log import wait_until_told
from tests.consumer import Consumer, records_in, rings_in
from tests.python import output_of, run
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE = LeaseId(7)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged so far on the logger `ringbuf`."""

    def messages() -> list[str]:
        wait_until_told(60)
        return [record.getMessage() for record in caplog.records if record.name == "ringbuf"]

    return messages


def fill(emitter: ringbuf.Emitter, door: str, count: int) -> None:
    read = site(OpType.FBMU_READ, emitter=emitter)
    for _ in range(count):
        if door == "emit":
            read.emit(LEASE, 1, 2)
        elif door == "block":
            with read.span(LEASE):
                pass
        elif door == "record":
            emitter.emit(fresh_records(emitter, 1)[0])
        else:
            emitter.emit_batch(fresh_records(emitter, 2))


@pytest.mark.parametrize("door", ["emit", "block", "record", "batch"])
def test_the_first_drop_is_told_of_and_no_other(ring_dir: Path, told: Callable[[], list[str]], door: str) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4)
    fill(emitter, door, 2)
    assert told() == []
    fill(emitter, door, 20)
    (message,) = told()
    assert "dropped" in message
    assert f"--ring-dir {ring_dir}" in message
    records_in(ring_dir)
    fill(emitter, door, 20)
    assert len(told()) == 1
    stats = emitter.stats()
    emitter.close()
    exit_message = told()[1]
    assert f"{stats.full} of {stats.attempts} spans" in exit_message
    assert exit_message.endswith(f"dropped: {stats.full} found the ring full")  # what did not happen is not told


def test_unsampled_spans_are_no_drops(
    ring_dir: Path, told: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        for door in ("emit", "block"):
            fill(emitter, door, 10)
        assert emitter.stats().unsampled == 20
    assert told() == []
    assert len(rings_in(ring_dir)) == 1  # for the drain to count them


def test_a_forked_child_tells_of_its_own(ring_dir: Path) -> None:
    done = run(
        """
import os, ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.log import wait_until_told
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4)
read = site(OpType.FBMU_READ, emitter=emitter)
def fill():
    for _ in range(10):
        read.emit(LeaseId(7), 1, 2)
    wait_until_told(60)
fill()
child = os.fork()
if child == 0:
    fill()
    emitter.close()
    os._exit(0)
os.waitpid(child, 0)
""",
        ring_dir,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no slot of") == 2
    assert done.stderr.count("6 of 10 spans") == 2


def test_a_drop_where_a_log_handler_holds_its_lock_is_told_of_later(ring_dir: Path) -> None:
    """As in a signal handler that interrupts the putting of a record into a queue, whose lock is no RLock."""
    output_of(
        """
import logging, logging.handlers, os, queue, signal, threading
import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.log import wait_until_told
records = queue.Queue()
logging.getLogger("ringbuf").addHandler(logging.handlers.QueueHandler(records))
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4)
read = site(OpType.FBMU_READ, emitter=emitter)
def on_signal(*_):
    for _ in range(10):
        read.emit(LeaseId(7), 1, 2)
signal.signal(signal.SIGALRM, on_signal)
with records.mutex:
    os.kill(os.getpid(), signal.SIGALRM)
    assert emitter.stats().full == 6
    assert records.queue.__len__() == 0
wait_until_told(60)
assert "no slot of" in records.get(timeout=60).getMessage()
""",
        ring_dir,
    )


def test_without_another_thread_nothing_is_said_and_nothing_raised(
    ring_dir: Path, told: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        fill(emitter, "emit", 10)
    assert told() == []
    emitter.close()
    assert "6 of 10 spans" in told()[0]
    records_in(ring_dir)


@pytest.mark.parametrize("end", ["emitter.close()", "pass", "sys.exit(3)", "raise ValueError"])
def test_a_process_without_spans_leaves_no_ring(ring_dir: Path, end: str) -> None:
    run(f"import ringbuf\nemitter = ringbuf.Emitter('service', ring_dir=sys.argv[1])\n{end}", ring_dir)
    assert rings_in(ring_dir) == []


@pytest.mark.parametrize("emit", ["emit", "block", "record", "batch"])
def test_a_ring_that_had_a_span_stays(ring_dir: Path, emit: str) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        fill(emitter, emit, 1)
        records_in(ring_dir)
    assert len(rings_in(ring_dir)) == 1


def test_an_empty_ring_that_a_drain_reads_is_left_to_it(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4), Consumer(rings_in(ring_dir)[0]) as consumer:
        consumer.set_state(lib.RB_CONSUMER_ATTACHED)
    assert len(rings_in(ring_dir)) == 1


def test_a_ring_that_took_the_path_of_ours_is_not_removed(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        path = emitter.stats().path
        assert path is not None
        path.unlink()
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's"
