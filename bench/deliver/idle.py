"""What a drain costs while nothing happens: processor time and anonymous memory, with many idle rings.

Beside the processor time stands a process that only takes the drain's naps, and looks at no ring: what the kernel takes
for so many wakes. Beside the memory stands an interpreter that has imported nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ringbuf
from bench.deliver.end_to_end import drain
from bench.measure import Figure, clean_environment
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
_NOTHING: Final = "print(flush=True); input()"


def measure(rounds: int, seconds: float) -> list[Result]:
    """Measure drain, naps and bare interpreter at the same time, round after round.

    Args:
        rounds: how many.
        seconds: of each.
    """
    with ExitStack() as cleanup:
        folder, other = (
            cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
            for _ in range(2)
        )
        for number in range(RINGS):
            cleanup.enter_context(ringbuf.Emitter(f"idle-{number}", ring_dir=folder))
        pid = cleanup.enter_context(drain(folder, "file", "--output", str(Path(other) / "spans.jsonl")))
        naps = cleanup.enter_context(_beside(_NAPS, other, str(_NAP_NANO)))
        bare = cleanup.enter_context(_beside(_NOTHING))
        time.sleep(_SETTLE_SECONDS)
        shares: list[list[float]] = [[], []]
        memory: list[list[float]] = [[], []]
        for _ in range(rounds):
            before, began = [processor_seconds(pid), processor_seconds(naps)], time.monotonic()
            time.sleep(seconds)
            lasted = time.monotonic() - began
            for at, process in enumerate((pid, naps)):
                shares[at].append(100 * (processor_seconds(process) - before[at]) / lasted)
            for at, process in enumerate((pid, bare)):
                memory[at].append(anonymous_megabytes(process))
    drains, sleeps = (Figure.of(found) for found in shares)
    held, least = (Figure.of(found) for found in memory)
    title = f"drain with {RINGS} idle rings"
    return [
        Result(
            "idle",
            f"{title}, of a core",
            "the same naps, no ring and no Python",
            "%",
            "<= 0.2 %",
            drains,
            sleeps,
            drains.over(sleeps),
        ),
        Result("idle", f"{title}, RssAnon", "Python alone", "MB", "<= 80 MB", held, least, held.over(least)),
    ]


def processor_seconds(pid: int) -> float:
    """Return the processor time of all threads of a process, to the nanosecond."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def anonymous_megabytes(pid: int) -> float:
    """Return RssAnon: memory that is the process's own, neither files nor rings."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no RssAnon")


@contextmanager
def _beside(code: str, *arguments: str) -> Iterator[int]:
    """Run code in an interpreter of its own that says when it is ready; yield its pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()
