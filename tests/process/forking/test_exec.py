"""exec, posix_spawn and vfork: the old image's ring is dead for the drain with all its spans, and nobody else's is."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from ringbuf._ringbuf import lib
from tests.consumer import rings_in
from tests.process.forking.test_fork import is_alive
from tests.process.numbered import check_all_told, left_by, told_in
from tests.python import PREAMBLE, command, output_of
from tests.sampled import every
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120.0  # seconds
BEGIN = """
import os, subprocess, warnings, ringbuf
from tests.process.numbered import Numbered
ring_dir, told = sys.argv[1:3]
numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
numbered.emit_some()
"""
# What the programs below start: it emits and tells, like them.
ANOTHER = PREAMBLE + BEGIN + "numbered.tell()\n"


def test_a_program_that_executes_another_leaves_all_its_spans(ring_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    image = PREAMBLE + BEGIN + "import time; numbered.tell(); print('again', flush=True); sys.stdin.read()"
    arguments = command(
        BEGIN + "numbered.tell(); os.execv(sys.executable, [sys.executable, '-Ic', sys.argv[3], *sys.argv[1:3]])",
        ring_dir,
        told,
        image,
    )
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "again\n"
        alive = []
        for path in rings_in(ring_dir):
            with path.open("rb") as file:
                alive.append(lib.rb_producer_alive(file.fileno()))
        assert sorted(alive) == [0, 1]  # though it is one process
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert told_in(told) == {process.pid: 2 * 60}
    assert left_by(ring_dir) == {process.pid: 2 * 60}
    assert len(rings_in(ring_dir)) == 2


# In `make test` those that replace the process without a fork, with one, and through a shell.
WAYS = {
    "subprocess, which uses vfork": "subprocess.run(child, check=True)",
    "os.posix_spawn": "os.waitpid(os.posix_spawn(sys.executable, child, os.environ), 0)",
    "subprocess that keeps descriptors": "subprocess.run(child, check=True, close_fds=False)",
    "subprocess, which uses fork": "subprocess.run(child, check=True, preexec_fn=lambda: None)",
    "os.spawnv": "os.spawnv(os.P_WAIT, sys.executable, child)",
    "os.system": "import shlex; assert os.system(shlex.join(child)) == 0",
    "a shell": "import shlex; subprocess.run(shlex.join(child), shell=True, check=True)",
}


@pytest.mark.parametrize("way", every(3, WAYS))
def test_a_started_program_has_its_own_ring(ring_dir: Path, tmp_path: Path, way: str) -> None:
    told = tmp_path / "told"
    output_of(
        BEGIN
        + "child = [sys.executable, '-Ic', sys.argv[3], *sys.argv[1:3]]\n"
        + WAYS[way]
        + "\nnumbered.emit_some()\nnumbered.tell()",
        ring_dir,
        told,
        ANOTHER,
    )
    check_all_told(ring_dir, told, 2)


def test_what_is_emitted_between_fork_and_exec_is_kept(ring_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    output_of(
        BEGIN
        + """
def emit_and_tell():
    child = Numbered(numbered.emitter, told)
    child.emit_some(3)
    child.tell()
subprocess.run([sys.executable, "-Ic", sys.argv[3], *sys.argv[1:3]], check=True, preexec_fn=emit_and_tell)
pid = os.fork()
if pid == 0:
    emit_and_tell()
    subprocess.run([sys.executable, "-Ic", sys.argv[3], *sys.argv[1:3]], check=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
numbered.tell()
""",
        ring_dir,
        told,
        ANOTHER,
    )
    # The parent; the child that became a program; the forked child, and the program that it ran.
    check_all_told(ring_dir, told, 4)
    assert sorted(told_in(told).values()) == [9, 60, 60, 9 + 60]


SPAWNS_BESIDE_A_THREAD = """
import os, subprocess, threading, ringbuf
from tests.process.numbered import Numbered
ring_dir, told = sys.argv[1:3]
done = False
def make_rings_and_emit():
    while not done:
        numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16), told)
        numbered.emit_some(2)
        numbered.tell()
        numbered.emitter.close()
        rings.append(numbered.emitter.stats().path)
rings = []
thread = threading.Thread(target=make_rings_and_emit)
thread.start()
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
children = [subprocess.Popen(["sleep", "60"], close_fds=False, **quiet) for _ in range(30)]
done = True
thread.join()
print(*(child.pid for child in children), flush=True)
os._exit(0)
"""


def test_programs_that_live_on_hold_no_ring(ring_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    children = [int(pid) for pid in output_of(SPAWNS_BESIDE_A_THREAD, ring_dir, told).split()]
    try:
        assert all(is_alive(pid) for pid in children)
        assert left_by(ring_dir) == told_in(told)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        until(lambda: not any(is_alive(pid) for pid in children))
