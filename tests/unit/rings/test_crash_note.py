"""A process that dies of a fault leaves a line about it; one that is killed leaves none."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from drain.rings.directory import RingDirectory

if TYPE_CHECKING:
    from pathlib import Path

DIE = """
import ctypes, faulthandler, os, signal, sys, threading
from pathlib import Path
from drain.rings.directory import RingDirectory
from ringbuf._ringbuf import lib
directory = RingDirectory(Path(sys.argv[1]))
directory.note_crashes()
lib.rb_guard_install()
{0}
"""
OVERFLOW = "import sys; sys.setrecursionlimit(1 << 30)\ndef f(): return ctypes.PYFUNCTYPE(None)(f)()\nf()"
WAYS = {
    "segmentation fault": ("ctypes.string_at(0)", signal.SIGSEGV),
    "abort": ("os.abort()", signal.SIGABRT),
    "abort in a thread": ("threading.Thread(target=os.abort).start()", signal.SIGABRT),
    "overflow of the stack": (OVERFLOW, signal.SIGSEGV),
    "with faulthandler after it": ("faulthandler.enable(); os.abort()", signal.SIGABRT),
    **{
        f"{number.name} from outside": (f"os.kill(os.getpid(), {number.value})", number)
        for number in (signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGTRAP, signal.SIGSYS)
    },
}


def die(ring_dir: Path, how: str) -> int:
    command = [sys.executable, "-I", "-c", DIE.format(how), str(ring_dir)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


@pytest.mark.parametrize("way", WAYS)
def test_a_fault_is_noted_for_the_next_who_has_the_directory(ring_dir: Path, way: str) -> None:
    how, number = WAYS[way]
    assert die(ring_dir, how) == -number
    for _ in range(2):  # a directory that is taken and left does not forget
        directory = RingDirectory(ring_dir)
        assert directory.crash == f"crashed by signal {number.value}"
        directory.close()
    directory = RingDirectory(ring_dir)
    directory.forget_crash()
    directory.close()
    directory = RingDirectory(ring_dir)
    assert directory.crash == ""
    directory.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU])
def test_a_kill_is_no_fault(ring_dir: Path, number: signal.Signals) -> None:
    assert die(ring_dir, f"os.kill(os.getpid(), {number.value})") == -number
    directory = RingDirectory(ring_dir)
    assert directory.crash == ""
    directory.close()


def test_no_fault_is_noted_once_the_directory_is_left_nor_in_a_lock_that_is_another_s(ring_dir: Path) -> None:
    assert die(ring_dir, "directory.close(); os.abort()") == -signal.SIGABRT
    assert die(ring_dir, "(directory.path / 'drain.lock').unlink(); directory.lock_again()") == 0
    directory = RingDirectory(ring_dir)
    assert directory.crash == ""
    directory.close()
    assert die(ring_dir, "(directory.path / 'drain.lock').unlink(); directory.lock_again(); os.abort()") < 0
    directory = RingDirectory(ring_dir)
    assert directory.crash == "crashed by signal 6"
    directory.close()
