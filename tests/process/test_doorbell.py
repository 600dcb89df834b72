"""The doorbell: a producer wakes the sleeping drain, and neither comes to harm by a bad bell."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf._ringbuf import ffi, lib
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import Consumer, records_in, rings_in
from tests.nursery import output_of
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000_000
PATIENCE = 120 * SECOND
LEASE = LeaseId(7)


class Drain:
    """The sleeping side: a doorbell, and the ring that is being watched."""

    def __init__(self, ring_dir: Path) -> None:
        self.bell = open_doorbell(ring_dir / "doorbell")
        self.ring_dir = ring_dir

    def sleep_until_rung(self, timeout: int = PATIENCE) -> threading.Thread:
        """Begin a wait in another thread, and return that thread once the wait has begun or is about to."""
        self.woken: list[int] = []
        value = lib.rb_doorbell_value(self.bell)
        thread = threading.Thread(
            target=lambda: self.woken.append(lib.rb_doorbell_wait(self.bell, value, timeout)), daemon=True
        )
        thread.start()
        return thread

    def was_woken_by(self, thread: threading.Thread) -> bool:
        thread.join(2 * PATIENCE / SECOND)
        return self.woken == [1]


def open_doorbell(path: Path, mode: int = 0o600) -> Any:
    made, error = ffi.new("rb_doorbell **"), ffi.new("rb_error *")
    if lib.rb_doorbell_open(os.fsencode(path), mode, made, error) != lib.RB_OK:
        raise OSError(error.os_errno, ffi.string(error.detail).decode())
    return ffi.gc(made[0], lib.rb_doorbell_free)


@pytest.fixture
def drain(ring_dir: Path) -> Drain:
    return Drain(ring_dir)


@pytest.fixture
def emitter(drain: Drain, ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    """Return an emitter whose ring was made after the doorbell; a quarter of it is two spans."""
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1) as made:
        yield made
        records_in(ring_dir)


def test_a_quarter_of_a_lap_wakes_the_sleeping_drain(emitter: ringbuf.Emitter, drain: Drain) -> None:
    read = site(OpType.FBMU_READ, emitter=emitter)
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        for _ in range(20):
            assert consumer.set_sleeping(1) == 0
            thread = drain.sleep_until_rung()
            assert read.emit(LEASE, 1, 2)
            assert read.emit(LEASE, 1, 2)
            assert drain.was_woken_by(thread)
            consumer.set_sleeping(0)
            assert len(consumer.take()) == 2


def test_a_batch_across_a_quarter_wakes_the_sleeping_drain(emitter: ringbuf.Emitter, drain: Drain) -> None:
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        assert consumer.set_sleeping(1) == 0
        thread = drain.sleep_until_rung()
        assert emitter.emit_batch(fresh_records(emitter, 3)) == 3
        assert drain.was_woken_by(thread)


def test_who_would_sleep_beside_ready_records_is_told(emitter: ringbuf.Emitter, drain: Drain) -> None:
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        emitter.emit_batch(fresh_records(emitter, 1))
        assert consumer.set_sleeping(1) == 1
        consumer.copy()
        assert consumer.set_sleeping(1) == 0


def test_nobody_rings_while_the_drain_is_awake(emitter: ringbuf.Emitter, drain: Drain) -> None:
    before = lib.rb_doorbell_value(drain.bell)
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        consumer.set_sleeping(1)
        consumer.set_sleeping(0)
        emitter.emit_batch(fresh_records(emitter, 8))
    assert lib.rb_doorbell_value(drain.bell) == before


def test_within_a_quarter_nobody_rings(emitter: ringbuf.Emitter, drain: Drain) -> None:
    before = lib.rb_doorbell_value(drain.bell)
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        consumer.set_sleeping(1)
        emitter.emit_batch(fresh_records(emitter, 1))
        assert lib.rb_doorbell_value(drain.bell) == before
        emitter.emit_batch(fresh_records(emitter, 1))
        assert lib.rb_doorbell_value(drain.bell) == before + 1


def test_a_ring_before_the_wait_ends_it_too(drain: Drain) -> None:
    value = lib.rb_doorbell_value(drain.bell)
    lib.rb_doorbell_ring(drain.bell)
    assert lib.rb_doorbell_wait(drain.bell, value, PATIENCE) == 1


def test_a_wait_for_nobody_ends_by_its_time(drain: Drain) -> None:
    assert lib.rb_doorbell_wait(drain.bell, lib.rb_doorbell_value(drain.bell), 1000) == 0


def test_a_forked_child_rings_too(emitter: ringbuf.Emitter, drain: Drain, ring_dir: Path) -> None:
    # Before its first span the child has no doorbell: it is mapped anew with the child's ring.
    output_of(
        """
import os, ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import *
from tests.consumer import Consumer, rings_in
from pathlib import Path
ring_dir = Path(sys.argv[1])
emitter = ringbuf.Emitter("parent", ring_dir=ring_dir, capacity=8, lanes=1)
read = site(OpType.FBMU_READ, emitter=emitter)
before = set(rings_in(ring_dir))
pid = os.fork()
if pid == 0:
    read.emit(LeaseId(1), 1, 2)
    path, = set(rings_in(ring_dir)) - before
    with Consumer(path) as consumer:
        consumer.take()
        consumer.set_sleeping(1)
        for _ in range(2):
            read.emit(LeaseId(1), 1, 2)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        ring_dir,
    )
    made, crossed = 3, 1
    assert lib.rb_doorbell_value(drain.bell) == made + crossed


def test_a_new_ring_wakes_the_drain_that_has_not_seen_it(drain: Drain, ring_dir: Path) -> None:
    thread = drain.sleep_until_rung()
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1):
        assert drain.was_woken_by(thread)


def test_a_truncated_doorbell_harms_nobody(emitter: ringbuf.Emitter, drain: Drain) -> None:
    os.truncate(drain.ring_dir / "doorbell", 0)
    with Consumer(rings_in(drain.ring_dir)[0]) as consumer:
        consumer.set_sleeping(1)
        assert emitter.emit_batch(fresh_records(emitter, 8)) == 8
        assert lib.rb_doorbell_value(drain.bell) == 0
        lib.rb_doorbell_ring(drain.bell)
        assert lib.rb_doorbell_wait(drain.bell, 0, 1000) == 0
        assert len(consumer.take()) == 8


def test_without_a_doorbell_spans_are_written_all_the_same(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        with Consumer(rings_in(ring_dir)[0]) as consumer:
            consumer.set_sleeping(1)
            assert all(read.emit(LEASE, 1, 2) for _ in range(4))
            assert emitter.emit_batch(fresh_records(emitter, 4)) == 4
            assert emitter.stats().attempts == 8
            assert len(consumer.take()) == 8


def test_a_doorbell_that_came_after_the_ring_is_found(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1) as emitter:
        drain = Drain(ring_dir)
        read = site(OpType.FBMU_READ, emitter=emitter)
        with Consumer(rings_in(ring_dir)[0]) as consumer:
            consumer.set_sleeping(1)
            for _ in range(4):
                assert read.emit(LEASE, 1, 2)
            assert lib.rb_doorbell_value(drain.bell) >= 1
            consumer.take()


@pytest.mark.parametrize("what", ["symbolic link", "directory", "fifo"])
def test_what_is_no_file_is_no_doorbell(ring_dir: Path, what: str) -> None:
    path = ring_dir / "doorbell"
    if what == "symbolic link":
        (ring_dir / "elsewhere").write_bytes(bytes(4096))
        path.symlink_to("elsewhere")
    elif what == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match="doorbell"):
        open_doorbell(path)
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1) as emitter,
        Consumer(rings_in(ring_dir)[0]) as consumer,
    ):
        consumer.set_sleeping(1)
        assert emitter.emit_batch(fresh_records(emitter, 8)) == 8
        consumer.take()
    if what == "symbolic link":
        assert (ring_dir / "elsewhere").read_bytes() == bytes(4096)


def test_the_doorbell_is_made_once_and_keeps_its_count(ring_dir: Path) -> None:
    first = open_doorbell(ring_dir / "doorbell")
    inode = (ring_dir / "doorbell").stat().st_ino
    lib.rb_doorbell_ring(first)
    second = open_doorbell(ring_dir / "doorbell", 0o660)
    assert (ring_dir / "doorbell").stat().st_ino == inode
    assert stat.S_IMODE((ring_dir / "doorbell").stat().st_mode) == 0o660
    assert lib.rb_doorbell_value(first) == lib.rb_doorbell_value(second) == 1


@pytest.mark.parametrize("bell", ["whole", "truncated"])
@pytest.mark.parametrize("call", ["rb_doorbell_wait(bell, 0, LONG)", "rb_sleep(bell, 0, ffi.NULL, 0, LONG, LONG)"])
def test_the_wait_can_be_interrupted(ring_dir: Path, bell: str, call: str) -> None:
    # SIGALRM's handler raises: KeyboardInterrupt takes the same way. A truncated doorbell's word cannot be waited on.
    output = output_of(
        """
import os, signal
from ringbuf._ringbuf import ffi
from tests.process.test_doorbell import PATIENCE, open_doorbell, lib
from pathlib import Path
bell = open_doorbell(Path(sys.argv[1]) / "doorbell")
if sys.argv[2] == "truncated":
    os.truncate(Path(sys.argv[1]) / "doorbell", 0)
LONG = 10 * PATIENCE
class Interrupted(Exception):
    pass
def interrupt(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)  # it raises once
    raise Interrupted
signal.signal(signal.SIGALRM, interrupt)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    print("waited", eval("lib." + sys.argv[3]))
except Interrupted:
    print("interrupted")
""",
        ring_dir,
        bell,
        call,
    )
    assert output == "interrupted\n"
