"""The end of an interpreter: what was emitted is in the ring, what comes too late is counted, nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.consumer import Consumer, rings_in
from tests.process.numbered import check_all_told, complaints, left_by
from tests.python import command, run

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120.0  # seconds
BEGIN = """
import atexit, os, signal, threading, time
from tests.process.numbered import FIRST_CLOCK, Numbered, append
ring_dir, told = sys.argv[1:3]
"""
EMIT = """
import ringbuf
numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1 << 16), told)
numbered.emit_some()
"""


def end_of(code: str, ring_dir: Path, told: Path, *arguments: object) -> tuple[int, int]:
    """Run a program to its end; return its pid and exit status. It may complain of nothing."""
    with subprocess.Popen(command(code, ring_dir, told, *arguments), stderr=subprocess.PIPE, text=True) as process:
        try:
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert not complaints(stderr)
    return process.pid, process.returncode


def is_closed(ring_dir: Path) -> bool:
    (path,) = rings_in(ring_dir)
    with Consumer(path, observe=True) as consumer:
        return bool(consumer.view().closed)


ENDS = {
    "os._exit": ("os._exit(0)", 0, False),
    "os.abort": (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
        -signal.SIGABRT,
        False,
    ),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, False),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", -signal.SIGTERM, False),
    "sys.exit": ("sys.exit(3)", 3, True),
    "the last line": ("", 0, True),
    "sys.exit in another thread": ("threading.Thread(target=sys.exit).start()", 0, True),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_emitted_just_before_the_end_is_there(ring_dir: Path, tmp_path: Path, end: str) -> None:
    code, status, closes = ENDS[end]
    # Told before the last span, which is counted here.
    pid, ended = end_of(BEGIN + EMIT + "assert numbered.emit()\n" + code, ring_dir, tmp_path / "told")
    assert ended == status
    assert left_by(ring_dir) == {pid: 61}
    assert is_closed(ring_dir) == closes


def test_threads_that_the_interpreter_waits_for_lose_nothing(ring_dir: Path, tmp_path: Path) -> None:
    # Each tells of one emitter: all counts must add up, so they share it and the last one tells.
    told = tmp_path / "told"
    end_of(
        BEGIN
        + EMIT
        + """
ended, lock = [], threading.Lock()
main = threading.main_thread()
def work():
    mine = Numbered(numbered.emitter, told)
    while main.is_alive():  # until the interpreter waits for us
        mine.emit()
        time.sleep(0.001)
    for _ in range(100):
        assert mine.emit()
    with lock:
        ended.append(mine.attempts)
        is_last = len(ended) == 4
    if is_last:
        numbered.attempts += sum(ended)
        numbered.tell()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
""",
        ring_dir,
        told,
    )
    check_all_told(ring_dir, told, 1)
    assert is_closed(ring_dir)


@pytest.mark.parametrize(
    "door", ["emit", pytest.param("block", marks=pytest.mark.prove), pytest.param("ring", marks=pytest.mark.prove)]
)
def test_daemon_threads_may_emit_into_the_end(ring_dir: Path, tmp_path: Path, door: str) -> None:
    for _ in range(5):
        pid, status = end_of(
            BEGIN
            + EMIT
            + """
def work():
    mine = Numbered(numbered.emitter, told)
    while True:
        if sys.argv[3] == "emit":
            mine.emit()
        elif sys.argv[3] == "block":
            mine.emit_block()
        else:
            # In C without the GIL, as its making takes long: the interpreter may end meanwhile.
            mine.site.emit
            Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=64), told).emit()
        started.set()
started = threading.Event()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
assert started.wait(120)
""",
            ring_dir,
            tmp_path / "told",
            door,
        )
        assert status == 0
        spans = left_by(ring_dir)
        assert spans.keys() == {pid}
        assert spans[pid] > 60
        for path in rings_in(ring_dir):
            path.unlink()


def test_an_emitter_that_cannot_be_closed_does_not_keep_the_others_from_it(ring_dir: Path) -> None:
    code = """
import sys, ringbuf
class Broken(ringbuf.Emitter):
    def close(self):
        raise OSError("gone")
broken = Broken("service", ring_dir=sys.argv[1])
others = [ringbuf.Emitter("service", ring_dir=sys.argv[1]) for _ in range(2)]
"""
    done = run(code, ring_dir)
    assert done.returncode == 0
    assert done.stderr == "an emitter could not be closed: OSError: gone\n"
    assert len(rings_in(ring_dir)) == 1  # of a ring without a span a close leaves nothing
    rings_in(ring_dir)[0].unlink()


def test_atexit_before_our_own_emits_and_after_it_is_counted(ring_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    pid, _ = end_of(
        """
import atexit, os, sys
said = sys.argv[3]
@atexit.register  # before ringbuf is imported: it runs after ours
def late():
    with numbered.site.span(LeaseId(1)):
        pass
    stats = numbered.emitter.stats()
    append(said, f"late {numbered.emit()} {stats.local} ")
"""
        + BEGIN
        + EMIT
        + """
from ringbuf.dataplane import LeaseId
@atexit.register  # after ringbuf was imported: it runs before ours
def early():
    append(said, f"early {numbered.emit()} ")
    numbered.emit_block()
""",
        ring_dir,
        told,
        tmp_path / "said",
    )
    assert (tmp_path / "said").read_text() == "early True late False 1 "
    assert left_by(ring_dir) == {pid: 60 + 3}
    assert is_closed(ring_dir)


@pytest.mark.parametrize("kept_in", ["a global", "a cycle", "sys.modules", "a thread-local"])
def test_del_at_the_very_end_may_emit(ring_dir: Path, tmp_path: Path, kept_in: str) -> None:
    # After ours: the ring is closed, perhaps gone with its emitter, and modules are being taken down.
    pid, status = end_of(
        BEGIN
        + EMIT
        + """
class Last:
    def __init__(self):
        self.emit, self.block, self.append = numbered.emit, numbered.emit_block, append
        self.said, self.emitter = sys.argv[3], numbered.emitter
    def __del__(self):
        try:
            self.block()
            self.append(self.said, f"{self.emit()} {self.emitter.stats().local}")
        except Exception as error:  # the interpreter would only print it
            self.append(self.said, repr(error))
kept_in = sys.argv[4]
last = Last()
if kept_in == "a cycle":
    last.itself = last
elif kept_in == "sys.modules":
    sys.modules["last"] = last
elif kept_in == "a thread-local":
    local = threading.local()
    local.last = last
if kept_in != "a global":
    del last
""",
        ring_dir,
        tmp_path / "told",
        tmp_path / "said",
        kept_in,
    )
    assert status == 0
    assert (tmp_path / "said").read_text() == "False 3"
    assert left_by(ring_dir) == {pid: 60}


def test_an_emitter_that_is_gone_leaves_nothing_for_the_end(ring_dir: Path, tmp_path: Path) -> None:
    pid, _ = end_of(
        BEGIN
        + EMIT
        + """
import gc
from pathlib import Path
def mappings():
    return Path("/proc/self/maps").read_text().count(ring_dir)
def blocks():
    gc.collect()
    return sys.getallocatedblocks()
def make(count):
    for _ in range(count):
        emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16)
        os.unlink(emitter.stats().path)
before, callbacks = mappings(), atexit._ncallbacks()
make(50)
first = blocks()
make(500)
assert blocks() - first < 500, (first, blocks())
assert atexit._ncallbacks() == callbacks
assert mappings() == before
""",
        ring_dir,
        tmp_path / "told",
    )
    assert left_by(ring_dir) == {pid: 60}


def test_a_process_that_is_stopped_and_goes_on_loses_nothing(ring_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    arguments = command(
        BEGIN
        + EMIT
        + """
print("there", flush=True)
while not os.path.exists(sys.argv[3]):
    for _ in range(100):
        numbered.emit()
numbered.tell()
""",
        ring_dir,
        told,
        tmp_path / "enough",
    )
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            for _ in range(50):
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)
                process.send_signal(signal.SIGCONT)
            (tmp_path / "enough").touch()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    check_all_told(ring_dir, told, 1)
