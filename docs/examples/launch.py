"""The parent's side of the producer processes: start them together, watch them, collect their reports."""

from __future__ import annotations

import multiprocessing
import secrets
import signal
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from producers import START_SECONDS, Job, run_front, run_gpu, run_memory, run_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from ringbuf import EmitterStats

_JOIN_SECONDS: Final = 30.0


class ProducerError(Exception):
    """A producer process ended without its report."""


class Producer(NamedTuple):
    """A producer process, seen from the parent.

    Attributes:
        service: `service.name` of its spans.
        process: the process.
        report: gives its `EmitterStats` at the end.
        done: counts its operations.
    """

    service: str
    process: SpawnProcess
    report: Connection
    done: Any


class Producers:
    """All producer processes; they wait for each other before they begin.

    Args:
        groups: memory processes, front processes and storage workers: so many of each. One more opens GPU sessions.
        operations: after so many each process ends.
        seconds: after so long each process ends.
        seed: of the random choices.
        ring_dir: of the drain.
        data_dir: where the storage workers make their files.
        pause_seconds: rest after each operation.
    """

    def __init__(
        self,
        *,
        groups: int,
        operations: int,
        seconds: float,
        seed: int,
        ring_dir: Path,
        data_dir: Path,
        pause_seconds: float = 0.0,
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start = self._context.Barrier(3 * groups + 2)  # with the GPU process and this one
        self._stop = self._context.Value("b", 0, lock=False)
        self._told: dict[str, Any] = {
            "ring_dir": ring_dir,
            "operations": operations,
            "seconds": seconds,
            "pause_seconds": pause_seconds,
            "start": self._start,
            "stop": self._stop,
        }
        self._seed = seed
        self._all: list[Producer] = []
        # Whoever starts ignores Ctrl-C from its first instruction on; the parent stops them in good order.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for number in range(groups):
                self._add("demo-memory", run_memory)
                client, worker = self._context.Pipe()
                key = secrets.token_bytes(32)
                with client, worker:  # each end lives on in its process only: then its end is seen at the other
                    self._add("demo-front", run_front, client, key)
                    self._add("demo-storage", run_storage, worker, key, data_dir / f"blocks-{number}")
            self._add("demo-gpu", run_gpu)
        except BaseException:
            self.kill()
            raise
        finally:
            signal.signal(signal.SIGINT, before)

    def __len__(self) -> int:
        return len(self._all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    @property
    def done(self) -> int:
        """Operations so far."""
        return sum(producer.done.value for producer in self._all)

    def begin(self) -> None:
        """Let them work, once all are ready.

        Raises:
            ProducerError: one of them is not.
        """
        try:
            self._start.wait(START_SECONDS)
        except BrokenBarrierError:
            raise ProducerError("a producer process did not start") from None

    def stop(self) -> None:
        """Let them end after the operation at hand; for signal handlers."""
        self._stop.value = 1

    def collect(self, each: Callable[[], None], every_seconds: float) -> list[EmitterStats]:
        """Return the last statistics of all.

        Args:
            each: called while they work.
            every_seconds: how often.

        Raises:
            ProducerError: one ended without them.
        """
        found: list[EmitterStats] = []
        working = {producer.report.fileno(): producer for producer in self._all}
        while working:
            for descriptor in wait([*working], every_seconds):
                producer = working.pop(descriptor)  # type: ignore[arg-type]  # an int, as it was given
                try:
                    found.append(producer.report.recv())
                except EOFError:
                    raise ProducerError(f"a {producer.service} process ended without its report") from None
            each()
        for producer in self._all:
            producer.process.join(_JOIN_SECONDS)
            if producer.process.exitcode != 0:
                raise ProducerError(f"a {producer.service} process ended with exit code {producer.process.exitcode}")
        return found

    def kill(self) -> None:
        """End those that still run."""
        for producer in self._all:
            with suppress(ValueError):
                producer.process.kill()
                producer.process.join(_JOIN_SECONDS)

    def _add(self, service: str, run: Callable[..., None], *arguments: object) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        done = self._context.Value("Q", 0, lock=False)
        job = Job(service=service, seed=self._seed + len(self._all), done=done, report=theirs, **self._told)
        process = self._context.Process(target=run, args=(job, *arguments), daemon=True)
        process.start()
        theirs.close()
        self._all.append(Producer(service, process, ours, done))


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[list[int]]:
    """End the work in good order at the first SIGINT or SIGTERM, at once at the second; yield those that came."""
    came: list[int] = []

    def handle(number: int, _frame: object) -> None:
        came.append(number)
        stop()
        if len(came) > 1:
            raise KeyboardInterrupt

    before = [(number, signal.signal(number, handle)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield came
    finally:
        for number, handler in before:
            signal.signal(number, handler)
