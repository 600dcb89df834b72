"""Python's signal handlers that emit whatever the main thread does: each attempt is counted, none is torn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nursery import output_of
from tests.process.numbered import check_all_told, left_by, told_in

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import os, signal, threading, time, warnings, ringbuf
from tests.process.numbered import Numbered
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
ring_dir, told = sys.argv[1:3]
numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1 << 16, lanes=int(sys.argv[3])), told)
handled = 0
def handle(*_):
    global handled
    handled += 1
    numbered.emit_block()  # within whatever span is open
    numbered.emit()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
def until_handled(work):
    first, end = handled, time.monotonic() + 100
    while handled < first + 100:
        assert time.monotonic() < end, handled
        work()
"""
END = """
signal.setitimer(signal.ITIMER_REAL, 0)
numbered.tell()
assert numbered.emitter.stats().published >= 300
"""
WORK = {
    "emits": "until_handled(numbered.emit)",
    "is in spans": "until_handled(numbered.emit_block)",
    "looks at its counts": "until_handled(numbered.emitter.stats)",
    "waits for a drain": "until_handled(lambda: numbered.emitter.wait_drained(0.001))",
    "makes and closes rings": """
def make():
    with ringbuf.Emitter("other", ring_dir=ring_dir, capacity=16):
        pass
until_handled(make)
""",
    "loses its ring": """
from ringbuf import emitter as module
module._RETRY_SECONDS = 0.0  # else it could lose one a second
def lose():
    try:
        os.unlink(numbered.emitter.stats().path)
    except FileNotFoundError:  # the handler has lost and replaced it
        pass
until_handled(lose)
""",
}


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("work", WORK)
def test_a_handler_may_emit_while_the_program(ring_dir: Path, tmp_path: Path, work: str, lanes: int) -> None:
    output_of(BEGIN + WORK[work] + END, ring_dir, tmp_path / "told", lanes)
    if work == "loses its ring":
        assert left_by(ring_dir) <= told_in(tmp_path / "told")
        return
    check_all_told(ring_dir, tmp_path / "told", 1)


def test_a_handler_may_emit_beside_forks(ring_dir: Path, tmp_path: Path) -> None:
    output_of(
        BEGIN
        + """
def fork():
    global numbered
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    pid = os.fork()
    if pid == 0:
        numbered = Numbered(numbered.emitter, told)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)  # a child has no timers
        until_handled(numbered.emit)
        signal.setitimer(signal.ITIMER_REAL, 0)
        numbered.tell()
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    until_handled(numbered.emit)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for _ in range(5):
    fork()
"""
        + END,
        ring_dir,
        tmp_path / "told",
        1,
    )
    check_all_told(ring_dir, tmp_path / "told", 6)
