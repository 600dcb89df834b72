"""The producer processes of the demo: each configures its emitter, works, and reports its side of the sums."""

from __future__ import annotations

import signal
import time
from contextlib import closing, contextmanager
from multiprocessing import parent_process
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from block import BlockWorker
from capability import Authority
from front import FrontWork
from gpu import GpuWork
from memory import MemoryWork

import ringbuf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from ringbuf import EmitterStats

START_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 10.0
_FILE_BYTES: Final = 64 << 20
_CAPABILITY_NANO: Final = 500_000_000
# A GPU session takes long where there is a GPU, and says the same each time where there is none.
_GPU_SESSIONS: Final = 100


class Job(NamedTuple):
    """What a producer process is told.

    Attributes:
        service: `service.name` of its spans.
        ring_dir: where its ring is made.
        operations: after so many it ends.
        seconds: after so long it ends.
        pause_seconds: after each operation it rests for so long.
        seed: of its random choices.
        start: all processes and the parent meet here.
        stop: set to 1 by the parent to end early.
        done: operations so far, for the parent to show.
        report: takes the emitter's statistics at the end.
    """

    service: str
    ring_dir: Path
    operations: int
    seconds: float
    pause_seconds: float
    seed: int
    start: Barrier
    stop: Any
    done: Any
    report: Connection


class Work(Protocol):
    """What a process repeats."""

    def step(self) -> None:
        """Do one operation."""

    def close(self) -> None:
        """Give back what it holds."""


def run_memory(job: Job) -> None:
    """Be a process that works on leased memory."""
    with emitter_of(job), closing(MemoryWork(dice_of(job))) as work:
        repeat(work, job)


def run_gpu(job: Job) -> None:
    """Be a process that opens GPU sessions."""
    with emitter_of(job), closing(GpuWork(dice_of(job))) as work:
        repeat(work, job if job.pause_seconds else job._replace(operations=min(job.operations, _GPU_SESSIONS)))


def run_front(job: Job, connection: Connection, key: bytes) -> None:
    """Be a front process, which asks the storage worker at the other end of the connection."""
    authority = Authority(key, _CAPABILITY_NANO)
    with emitter_of(job), connection, closing(FrontWork(dice_of(job), connection, authority, _FILE_BYTES)) as work:
        repeat(work, job)


def run_storage(job: Job, connection: Connection, key: bytes, path: Path) -> None:
    """Be a storage worker, until its client has closed the connection."""
    authority = Authority(key, _CAPABILITY_NANO)
    with emitter_of(job), connection, closing(BlockWorker(path, _FILE_BYTES, authority)) as worker:
        job.start.wait(START_SECONDS)
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(worker.serve(request))
            job.done.value += 1


def dice_of(job: Job) -> Random:
    """Return the chances of a process, the same in each run with its seed."""
    return Random(job.seed)  # noqa: S311 - a workload, repeatable


@contextmanager
def emitter_of(job: Job) -> Iterator[None]:
    """Configure the shared emitter that all sites of this process use; close and report it at the end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a whole group: the parent has it, too, and says when to stop
        signal.signal(number, signal.SIG_IGN)
    emitter = ringbuf.configure(job.service, ring_dir=job.ring_dir, capacity=1 << 15)
    try:
        yield
        emitter.wait_drained(_DRAIN_SECONDS)
    finally:
        emitter.close()
        statistics: EmitterStats = emitter.stats()
        job.report.send(statistics)


def repeat(work: Work, job: Job) -> None:
    """Work until the operations or the seconds are over, or the parent says stop."""
    job.start.wait(START_SECONDS)
    end = time.monotonic() + job.seconds
    for done in range(job.operations):
        if job.stop.value or time.monotonic() >= end:
            break
        work.step()
        job.done.value = done + 1
        if job.pause_seconds:
            time.sleep(job.pause_seconds)
            parent = parent_process()
            if parent is None or not parent.is_alive():  # it was killed, and would never say stop
                break
