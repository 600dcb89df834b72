"""The SIGBUS guard: a ring that is cut while it is mapped costs the drain that ring, and nothing else its signal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.nursery import run

if TYPE_CHECKING:
    from pathlib import Path

# A reader that dies must not take the tests with it: each scenario is a process of its own.
SETUP = """
import ctypes, faulthandler, os, signal, sys, threading
from pathlib import Path
import ringbuf
from ringbuf._ringbuf import ffi, lib
from tests.consumer import Consumer, RefusedError, rings_in
from tests.records import fresh_records

folder = Path(sys.argv[1])
emitter = ringbuf.Emitter("service", ring_dir=folder, capacity=1024, lanes=2)
path, = rings_in(folder)
emitter.emit_batch(fresh_records(emitter, 900))

def truncate(size=8192):
    os.truncate(path, size)

bell = ffi.new("rb_doorbell **")
assert lib.rb_doorbell_open(bytes(folder / "doorbell"), 0o600, bell, ffi.NULL) == 0

def scan():
    found = ffi.new("uint32_t[1]")
    assert lib.rb_scan([consumer.pointer], 1, found) == 1
    consumer.poll()  # only this says why

def sleep():
    value = lib.rb_doorbell_value(bell[0])
    assert lib.rb_sleep(bell[0], value, [consumer.pointer], 1, 1000, 60 * 10**9) == 1
    consumer.poll()

def refused(call, *arguments):
    try:
        call(*arguments)
    except RefusedError as error:
        assert error.status == lib.RB_E_TRUNCATED, error
        return True
    return False

def leave():
    sys.stdout.flush()
    os._exit(0)  # the emitter's own mapping is cut too: it would die closing
"""


def survives(code: str, ring_dir: Path) -> None:
    done = run(SETUP + code + "\nprint('survived')\nleave()\n", ring_dir)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


def dies_of_sigbus(code: str, ring_dir: Path) -> None:
    done = run(SETUP + code + "\nprint('survived')\nleave()\n", ring_dir)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, ""), done.stderr


CALLS = [
    *("consumer.poll", "consumer.copy", "consumer.release"),
    *("consumer.set_state, 1", "consumer.set_sleeping, 1", "consumer.set_sleeping, 0", "scan", "sleep"),
]


def test_without_the_guard_a_cut_ring_kills_its_reader(ring_dir: Path) -> None:
    dies_of_sigbus("consumer = Consumer(path)\ntruncate()\nconsumer.copy()", ring_dir)


def test_every_call_on_a_cut_ring_is_refused(ring_dir: Path) -> None:
    calls = "".join(f"    assert refused({call})\n" for call in CALLS)
    survives(
        f"lib.rb_guard_install()\nconsumer = Consumer(path)\ntruncate(4096)\nfor _ in range(3):\n{calls}", ring_dir
    )


@pytest.mark.parametrize("call", CALLS)
def test_the_guard_outlives_a_fault_handler_that_came_after_it(ring_dir: Path, call: str) -> None:
    survives(
        "lib.rb_guard_install()\nconsumer = Consumer(path)\nconsumer.copy(count=1)\n"
        f"faulthandler.enable()\ntruncate(0)\nassert refused({call})",
        ring_dir,
    )


@pytest.mark.parametrize("call", CALLS)
def test_the_guard_outlives_a_fault_handler_that_went_after_it(ring_dir: Path, call: str) -> None:
    survives(
        "faulthandler.enable()\nlib.rb_guard_install()\nconsumer = Consumer(path)\nconsumer.copy(count=1)\n"
        f"faulthandler.disable()\ntruncate(0)\nassert refused({call})",
        ring_dir,
    )


@pytest.mark.parametrize("call", CALLS)
def test_a_thread_that_blocks_the_signal_survives(ring_dir: Path, call: str) -> None:
    survives(
        f"""
lib.rb_guard_install()
consumer = Consumer(path)
consumer.copy(count=1)
truncate(0)
results = []
def work():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
    results.append(refused({call}))
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert results == [True]
""",
        ring_dir,
    )


def test_a_file_cut_before_the_attach_is_no_ring(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
truncate(0)
try:
    Consumer(path)
except RefusedError as error:
    assert error.status == lib.RB_E_NOT_A_RING
else:
    raise AssertionError("it was attached")
""",
        ring_dir,
    )


def test_an_observer_survives_too(ring_dir: Path) -> None:
    survives(
        "lib.rb_guard_install()\nconsumer = Consumer(path, observe=True)\ntruncate(0)\nassert refused(consumer.poll)",
        ring_dir,
    )


def test_a_second_reader_of_the_ring_survives_as_well(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
consumers = [Consumer(path), Consumer(path)]
truncate()
assert [refused(consumer.copy) for consumer in consumers] == [True, True]
""",
        ring_dir,
    )


def test_other_rings_go_on(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
other = ringbuf.Emitter("other", ring_dir=folder / "other")
other.emit_batch(fresh_records(other, 5))
whole = Consumer(rings_in(folder / "other")[0])
consumer = Consumer(path)
truncate()
assert refused(consumer.copy)
assert len(whole.take()) == 5
""",
        ring_dir,
    )


def test_a_ring_cut_and_grown_again_stays_refused(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
consumer = Consumer(path)
size = path.stat().st_size
truncate(0)
assert refused(consumer.poll)
truncate(size)
assert refused(consumer.poll) and refused(consumer.copy)
""",
        ring_dir,
    )


def test_a_ring_cut_while_it_is_copied_again_and_again(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
emitter = None
for round in range(100):
    made = ringbuf.Emitter("round", ring_dir=folder / str(round), capacity=4096)
    made.emit_batch(fresh_records(made, 4096))
    ring, = rings_in(folder / str(round))
    consumer = Consumer(ring)
    cutter = threading.Thread(target=os.truncate, args=(ring, round * 4096))
    cutter.start()
    try:
        for _ in range(20):
            consumer.poll()
            consumer.copy(count=50)
    except RefusedError as error:
        assert error.status in (lib.RB_E_TRUNCATED, lib.RB_E_POSITION), error
    cutter.join()
    refused(consumer.copy)
    consumer.close()
    made = None
""",
        ring_dir,
    )


def test_a_punched_hole_reads_as_records_that_are_invalid(ring_dir: Path) -> None:
    survives(
        """
lib.rb_guard_install()
consumer = Consumer(path)
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(path, os.O_RDWR)
KEEP_SIZE, PUNCH_HOLE = 1, 2
start = consumer.header.header_bytes + 4096
assert libc.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, ctypes.c_long(start), ctypes.c_long(8192)) == 0
records = consumer.copy()
assert len(records) == 900
assert (~records["trace_id"].any(axis=1)).sum() >= 60
""",
        ring_dir,
    )


FAULT = """
import mmap
fd = os.open(folder / "foreign", os.O_RDWR | os.O_CREAT)
os.truncate(fd, 4096)
foreign = mmap.mmap(fd, 4096)
os.truncate(fd, 0)
"""


@pytest.mark.parametrize("before", ["", "consumer.copy()", "truncate(0); refused(consumer.copy)"])
def test_a_fault_in_other_memory_still_kills(ring_dir: Path, before: str) -> None:
    dies_of_sigbus(f"lib.rb_guard_install()\nconsumer = Consumer(path)\n{before}\n{FAULT}\nforeign[0]", ring_dir)


def test_a_fault_where_records_are_copied_to_still_kills(ring_dir: Path) -> None:
    dies_of_sigbus(
        f"lib.rb_guard_install()\nconsumer = Consumer(path)\n{FAULT}\n"
        "lib.rb_copy(consumer.pointer, 0, ffi.from_buffer(foreign), 10)",
        ring_dir,
    )


def test_a_fault_in_other_memory_still_reaches_the_fault_handler(ring_dir: Path) -> None:
    code = f"faulthandler.enable()\nlib.rb_guard_install()\nconsumer = Consumer(path)\n{FAULT}\nforeign[0]"
    done = run(SETUP + code, ring_dir)
    assert done.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in done.stderr


def test_a_fault_in_other_memory_kills_with_a_fault_handler_that_came_later(ring_dir: Path) -> None:
    code = f"lib.rb_guard_install()\nfaulthandler.enable()\nConsumer(path).poll()\n{FAULT}\nforeign[0]"
    done = run(SETUP + code, ring_dir)
    assert done.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in done.stderr


def test_a_signal_that_somebody_sends_still_kills(ring_dir: Path) -> None:
    dies_of_sigbus("lib.rb_guard_install()\nos.kill(os.getpid(), signal.SIGBUS)", ring_dir)


def test_a_producer_never_installs_the_guard(ring_dir: Path) -> None:
    survives("assert signal.getsignal(signal.SIGBUS) == signal.SIG_DFL\n" + HANDLER_IS_DEFAULT, ring_dir)


HANDLER_IS_DEFAULT = """
caught = next(line for line in open("/proc/self/status") if line.startswith("SigCgt:"))
assert not int(caught.split()[1], 16) & 1 << (signal.SIGBUS - 1)
"""
