"""What a drain costs while nothing happens: processor time and anonymous memory, with many idle rings.

Beside the processor time stands a process that only takes the drain's naps, and looks at no ring: what the kernel takes
for so many wakes. Beside the memory stands an interpreter that has imported nothing. Where another build is asked for,
both stand beside its drain instead, which has as many rings of its own.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.build import HERE, Build
from bench.deliver.end_to_end import drain
from bench.measure import Figure, clean_environment, processor_seconds
from bench.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

RINGS: Final = 100
_NAP_NANO: Final = 40_000_000  # drain/service/pace.py's, of a drain that is quiet
_SETTLE_SECONDS: Final = 4.0  # imports, and the first looks at the rings
_NAPS: Final = """
import sys
from pathlib import Path
from drain.rings.doorbell import Doorbell
from ringbuf._ringbuf import ffi, lib
doorbell = Doorbell(Path(sys.argv[1]), 0o600)
print(flush=True)
while True:
    lib.rb_sleep(doorbell.pointer, doorbell.value(), ffi.NULL, 0, int(sys.argv[2]), 10**9)
"""
_RINGS: Final = """
import sys
import ringbuf
emitters = [ringbuf.Emitter(f"idle-{number}", ring_dir=sys.argv[1]) for number in range(int(sys.argv[2]))]
print(flush=True)
input()
"""
_NOTHING: Final = "print(flush=True); input()"


def measure(rounds: int, seconds: float, beside: Build | None = None) -> list[Result]:
    """Measure drain, naps and bare interpreter at the same time, round after round.

    Args:
        rounds: how many.
        seconds: of each.
        beside: the build whose drain stands in the place of naps and interpreter.
    """
    with ExitStack() as cleanup:
        mine = _idle_drain(cleanup, HERE)
        if beside is None:
            naps = cleanup.enter_context(_running(HERE, _NAPS, _folder(cleanup), str(_NAP_NANO)))
            bare = cleanup.enter_context(_running(HERE, _NOTHING))
        else:
            naps = bare = _idle_drain(cleanup, beside)
        time.sleep(_SETTLE_SECONDS)
        shares: list[list[float]] = [[], []]
        memory: list[list[float]] = [[], []]
        for _ in range(rounds):
            before, began = [processor_seconds(mine), processor_seconds(naps)], time.monotonic()
            time.sleep(seconds)
            lasted = time.monotonic() - began
            for at, process in enumerate((mine, naps)):
                shares[at].append(100 * (processor_seconds(process) - before[at]) / lasted)
            for at, process in enumerate((mine, bare)):
                memory[at].append(anonymous_megabytes(process))
    drains, sleeps = (Figure.of(found) for found in shares)
    held, least = (Figure.of(found) for found in memory)
    title = f"drain with {RINGS} idle rings"
    share_peer, memory_peer = "the same naps, no ring and no Python", "Python alone"
    share_ratio, memory_ratio = drains.over(sleeps), held.over(least)
    if beside is not None:
        share_peer = memory_peer = f"at {beside.name}"
        share_ratio, memory_ratio = sleeps.over(drains), least.over(held)
    return [
        Result("idle", f"{title}, of a core", share_peer, "%", "<= 0.2 %", drains, sleeps, share_ratio),
        Result("idle", f"{title}, RssAnon", memory_peer, "MB", "<= 80 MB", held, least, memory_ratio),
    ]


def _idle_drain(cleanup: ExitStack, build: Build) -> int:
    """Start a drain whose rings are idle; return its pid."""
    rings, output = _folder(cleanup), _folder(cleanup)
    cleanup.enter_context(_running(build, _RINGS, rings, str(RINGS)))
    return cleanup.enter_context(drain(rings, "file", "--output", f"{output}/spans.jsonl", build=build))


def _folder(cleanup: ExitStack) -> str:
    return cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))


def anonymous_megabytes(pid: int) -> float:
    """Return RssAnon: memory that is the process's own, neither files nor rings."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no RssAnon")


@contextmanager
def _running(build: Build, code: str, *arguments: str) -> Iterator[int]:
    """Run code in a build's interpreter, which says when it is ready; yield its pid."""
    process = subprocess.Popen(
        [build.python, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=build.folder,
        env=clean_environment(),
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()
