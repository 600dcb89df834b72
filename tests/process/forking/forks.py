"""Emits, makes a child in the way argv[1], lets it emit, and emits again; the rings are in argv[2].

Parent and child write their pid as the lease and a number as the start of each span, and both end as programs do.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site

if TYPE_CHECKING:
    from collections.abc import Callable

SPANS = 20
SIGCHLD = 17
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]

# Python 3.12 and later warn of what this program is about.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
# PyDLL keeps the GIL: the child of a raw fork must not wait for a thread that it does not have.
libc = ctypes.PyDLL(None, use_errno=True)
emitter: ringbuf.Emitter | None = None


def emit_some(first: int) -> None:
    """Emit a span, and a span within a span, over and over."""
    assert emitter is not None
    read = site(OpType.FBMU_READ, emitter=emitter)
    lease = LeaseId(os.getpid())
    for number in range(first, first + SPANS, 2):
        assert read.emit(lease, number, 0)
        with read.span(lease) as span:
            assert read.emit(lease, number + 1, 0)
            assert span.traceparent
    stats = emitter.stats()
    assert stats.attempts == stats.published == (first + SPANS) * 3 // 2, stats


def work_in_child() -> None:
    """Do a child's work: an inherited emitter where there is one, else a new one."""
    global emitter  # noqa: PLW0603 - the point is what a child inherits in it
    if emitter is None:
        emitter = ringbuf.Emitter("child", ring_dir=sys.argv[2], capacity=256)
    emit_some(0)


def wait_for(pid: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def fork_by(fork: Callable[[], int], *, leave: Callable[[int], object] = os._exit) -> None:
    pid = fork()
    if pid == 0:
        work_in_child()
        leave(0)
    wait_for(pid)


def fork_twice() -> None:
    pid = os.fork()
    if pid == 0:
        work_in_child()
        fork_by(os.fork)
        os._exit(0)
    wait_for(pid)


def fork_in_a_thread() -> None:
    thread = threading.Thread(target=fork_by, args=(os.fork,))
    thread.start()
    thread.join()


def fork_in_a_span() -> None:
    assert emitter is not None
    with site(OpType.FBMU_READ, emitter=ringbuf.Emitter("outer", ring_dir=sys.argv[2], capacity=256)).span(LeaseId(1)):
        fork_by(os.fork)


def with_multiprocessing(method: str) -> None:
    context: Any = multiprocessing.get_context(method)  # whose type does not say that it has Process
    process = context.Process(target=work_in_child)
    process.start()
    process.join()
    assert process.exitcode == 0


def run_another_program() -> None:
    subprocess.run([sys.executable, __file__, "as a program", sys.argv[2]], check=True, close_fds=False)


def child_closes_what_it_inherited() -> None:
    def close_and_leave(status: int) -> None:
        assert emitter is not None
        emitter.close()
        os._exit(status)

    fork_by(os.fork, leave=close_and_leave)


def child_closes_before_it_emits() -> None:
    pid = os.fork()
    if pid == 0:
        assert emitter is not None
        emitter.close()
        read = site(OpType.FBMU_READ, emitter=emitter)
        assert not read.emit(LeaseId(1), 0, 0)
        assert emitter.stats().local == emitter.stats().attempts == 1
        os._exit(0)
    wait_for(pid)


def child_drops_what_it_inherited() -> None:
    pid = os.fork()
    if pid == 0:
        global emitter  # noqa: PLW0603 - as above
        emitter = None
        work_in_child()
        os._exit(0)
    wait_for(pid)


WAYS: dict[str, Callable[[], None]] = {
    "os.fork": lambda: fork_by(os.fork),
    "os.fork and sys.exit": lambda: fork_by(os.fork, leave=sys.exit),
    "os.fork twice": fork_twice,
    "os.fork in a thread": fork_in_a_thread,
    "os.fork in a span": fork_in_a_span,
    "a raw fork": lambda: fork_by(lambda: int(libc.syscall(SYS_CLONE, SIGCHLD, 0, 0, 0, 0))),
    "_Fork": lambda: fork_by(libc._Fork),
    "multiprocessing fork": lambda: with_multiprocessing("fork"),
    "multiprocessing spawn": lambda: with_multiprocessing("spawn"),
    "multiprocessing forkserver": lambda: with_multiprocessing("forkserver"),
    "subprocess": run_another_program,
    "a child that closes": child_closes_what_it_inherited,
    "a child that closes at once": child_closes_before_it_emits,
    "a child that drops the emitter": child_drops_what_it_inherited,
}


def main() -> None:
    """Be the parent, or the program that it runs."""
    global emitter  # noqa: PLW0603 - as above
    emitter = ringbuf.Emitter("parent", ring_dir=sys.argv[2], capacity=256)
    emit_some(0)
    if sys.argv[1] == "as a program":
        return
    print(os.getpid(), flush=True)  # noqa: T201 - for the test
    WAYS[sys.argv[1]]()
    emit_some(SPANS)


if __name__ == "__main__":
    main()
