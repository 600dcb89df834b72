"""Rounds that take turns: each probe runs in a process of its own, one round at a time, one after the other."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from bench.build import HERE, Build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Round: TypeAlias = "Callable[[], Mapping[str, float]]"
"""Measures once: figures by name."""

_START_SECONDS: Final = 120.0
_CONFIGURATION: Final = ("OTEL_", "RINGBUF_", "STATE_DIRECTORY")


class Skipped(Exception):  # noqa: N818 - not an error
    """A probe that cannot run on this machine, and why."""


class ProbeError(Exception):
    """A probe's process failed."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over its rounds.

    Attributes:
        median: of the rounds.
        low: the smallest.
        high: the largest.
        rounds: each.
    """

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the figure of these rounds."""
        rounds = tuple(values)
        return cls(statistics.median(rounds), min(rounds), max(rounds), rounds)

    def over(self, other: Figure) -> Figure:
        """Return this divided by another, round by round: noise that both rounds had cancels out."""
        return Figure.of(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True))


def clean_environment() -> dict[str, str]:
    """Return the environment without the settings that this machine may have for producers, drains and the SDK.

    A drain in it keeps nothing on disk, unless it is told to: its state directory would be this user's own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURATION)}
    return {**environment, "RINGBUF_DRAIN_STATE_DIR": "off"}


class Side(NamedTuple):
    """What is measured: a probe, and of which build of ringbuf."""

    probe: str
    build: Build = HERE


class ProbeProcess:
    """The process of one probe.

    Args:
        side: the probe, and whose.
        cpu: where it is pinned; None: nowhere.

    Raises:
        Skipped: it cannot run here; or another revision has not what it calls.
        ProbeError: it failed.
    """

    def __init__(self, side: Side, cpu: int | None) -> None:
        self.side = side
        self._process = subprocess.Popen(
            side.build.command("bench.probe", side.probe, *([] if cpu is None else [str(cpu)])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=side.build.folder,
            env=clean_environment(),
            text=True,
        )
        try:
            answer = self._answer()
        except ProbeError as error:
            self.close()
            if side.build is HERE:
                raise
            raise Skipped(f"it does not run at {side.build.name}") from error
        if "skipped" in answer:
            self.close()
            raise Skipped(answer["skipped"])

    def round(self) -> dict[str, float]:
        """Let it measure once.

        Raises:
            ProbeError: it failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        try:
            self._process.communicate(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProbeError(f"{self.side.probe}: ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def take_turns(sides: Iterable[Side], rounds: int, cpu: int | None) -> dict[Side, dict[str, Figure] | str]:
    """Run probes in turns.

    Args:
        sides: the probes.
        rounds: how many each runs.
        cpu: where they are pinned; None: nowhere.

    Returns:
        for each probe its figures by name, or why it was skipped.
    """
    result: dict[Side, dict[str, Figure] | str] = {}
    running: list[ProbeProcess] = []
    try:
        for side in sides:
            try:
                running.append(ProbeProcess(side, cpu))
            except Skipped as reason:
                result[side] = str(reason)
        values: dict[Side, dict[str, list[float]]] = {probe.side: defaultdict(list) for probe in running}
        for number in range(rounds):
            # Whoever is first after a pause finds other caches and clocks: each is first in turn.
            first = number % len(running) if running else 0
            for probe in running[first:] + running[:first]:
                for figure, value in probe.round().items():
                    values[probe.side][figure].append(value)
    finally:
        for probe in running:
            probe.close()
    return result | {
        side: {figure: Figure.of(found) for figure, found in by_name.items()} for side, by_name in values.items()
    }


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process, with that of its threads that have ended."""
    # The clock that clock_getcpuclockid(3) returns. /proc has threads that run, or ticks of 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


def bursts(
    burst: Callable[[int], None], between: Callable[[], object], operations: int, times: int
) -> dict[str, float]:
    """Return the nanoseconds per operation of some bursts: `ns` of processor time, `wall_ns` of time.

    The processor time is the whole process's, all its threads. On a machine to itself the two agree; on a shared one
    time counts the neighbours, too.

    Args:
        burst: does so many operations.
        between: called before each burst with the clock stopped.
        operations: of a burst.
        times: how many bursts.
    """
    wall = processor = 0
    for _ in repeat(None, times):
        between()
        wall -= time.perf_counter_ns()
        processor -= time.process_time_ns()
        burst(operations)
        processor += time.process_time_ns()
        wall += time.perf_counter_ns()
    count = operations * times
    return {"ns": processor / count, "wall_ns": wall / count}


def percentiles(nanos: list[int]) -> dict[str, float]:
    """Return mean and tail of single calls."""
    ordered = sorted(nanos)

    def at(share: float) -> float:
        return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])

    return {
        "mean": statistics.fmean(ordered),
        "p50": at(0.5),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": float(ordered[-1]),
    }
