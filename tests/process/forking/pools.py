"""Emits in the processes of a pool, argv[1] saying which, and in their parent: argv[2] ring directory, argv[3] told."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ringbuf
from tests.process.numbered import Numbered
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 3
TASKS = 24
PATIENCE = 120.0  # seconds

# Python 3.12 and later warn of what this program is about.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
mine: Numbered | None = None


def prepare(ring_dir: str, told: str) -> None:
    """Begin anew in a worker, with the emitter that it inherited if there is one."""
    global mine  # noqa: PLW0603 - what a worker inherits in it is the point
    emitter = ringbuf.Emitter("worker", ring_dir=ring_dir, capacity=1024) if mine is None else mine.emitter
    mine = Numbered(emitter, told)
    Finalize(mine, mine.tell, exitpriority=1)  # atexit does not run in these processes


def work(_number: int) -> None:
    assert mine is not None
    if not mine.attempts:
        wait_for_others(Path(mine.told))
    mine.emit_some(5)


def wait_for_others(told: Path) -> None:
    """Wait at the first task until each worker has one: else one of them might do all the work."""
    told.with_name(f"at-work-{os.getpid()}").touch()
    until(lambda: len(list(told.parent.glob("at-work-*"))) >= PROCESSES)


def with_executor(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with ProcessPoolExecutor(PROCESSES, context, initializer=prepare, initargs=(sys.argv[2], sys.argv[3])) as pool:
        assert len(list(pool.map(work, range(TASKS), timeout=PATIENCE))) == TASKS


def with_pool(method: str, **options: Any) -> None:
    with multiprocessing.get_context(method).Pool(PROCESSES, prepare, sys.argv[2:], **options) as pool:
        pool.map_async(work, range(TASKS), 1).get(PATIENCE)
        pool.close()
        pool.join()


def with_processes(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    processes = [context.Process(target=be_process, args=sys.argv[2:]) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


def be_process(ring_dir: str, told: str) -> None:
    prepare(ring_dir, told)
    work(0)


METHODS = ("fork", "spawn", "forkserver")
WAYS: dict[str, Callable[[], None]] = {
    **{f"ProcessPoolExecutor, {method}": partial(with_executor, method) for method in METHODS},
    **{f"multiprocessing.Pool, {method}": partial(with_pool, method) for method in METHODS},
    "multiprocessing.Pool that replaces workers": partial(with_pool, "fork", maxtasksperchild=3),
    **{f"multiprocessing.Process, {method}": partial(with_processes, method) for method in METHODS},
}


def main() -> None:
    """Be the parent."""
    global mine  # noqa: PLW0603 - as above
    mine = Numbered(ringbuf.Emitter("parent", ring_dir=sys.argv[2], capacity=1024), sys.argv[3])
    mine.emit_some()
    WAYS[sys.argv[1]]()
    mine.emit_some()
    mine.tell()


if __name__ == "__main__":
    main()
