"""What an outage of the backend costs the producer, and where it ends for memory and disk.

Three drains, one after the other, each with a producer that calls `site.emit` at an even rate: one whose receiver
takes everything; one whose receiver is away and that has a bounded spool; one whose receiver is away and that has none,
so that the ring is full after a moment. The producer's figure is its thread's processor time per call.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ringbuf
from bench.deliver.end_to_end import Sink, drain
from bench.deliver.idle import anonymous_megabytes
from bench.deliver.sender import CAPACITY, paced
from bench.measure import Figure, clean_environment
from ringbuf.dataplane import LeaseId, OpType, site

if TYPE_CHECKING:
    from collections.abc import Iterator

_WARM_SECONDS: Final = 2.0  # the first spans find the ring's pages in no cache


def main() -> None:
    """Run the three, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the receiver is away (60)")
    parser.add_argument("--rate", type=float, default=500_000.0, help="spans a second (500,000)")
    parser.add_argument("--spool-mebibytes", type=int, default=512, help="the bound of the spool (512)")
    parser.add_argument("--folder", type=Path, help="where the spool is: the disk that is asked about")
    options = parser.parse_args()
    rate, seconds = options.rate, options.seconds
    with ExitStack() as cleanup:
        sink = cleanup.enter_context(Sink("http", keeps=False))
        away = cleanup.enter_context(_nobody())
        state = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir=options.folder)))
        state.chmod(0o700)
        spool = ["--state-dir", str(state), "--spool-max-bytes", str(options.spool_mebibytes << 20)]
        for title, endpoint, settings in (
            ("receiver there", sink.endpoint, []),
            (f"receiver away, spool of {options.spool_mebibytes} MiB", away, spool),
            ("receiver away, no spool", away, []),
        ):
            print(f"{title}: {_run(endpoint, settings, state, rate, seconds)}", flush=True)


def _run(endpoint: str, settings: list[str], state: Path, rate: float, seconds: float) -> str:
    memory, spooled = [], []
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        quiet = ["--log-level", "error", "--shutdown-timeout", "1"]
        pid = cleanup.enter_context(drain(folder, "otlp-http", "--endpoint", endpoint, *quiet, *settings))
        producer = subprocess.Popen(
            [sys.executable, "-c", f"from bench.deliver.outage import produce; produce({folder!r}, {rate}, {seconds})"],
            stdout=subprocess.PIPE,
            env=clean_environment(),
            text=True,
        )
        while producer.poll() is None:
            time.sleep(1)
            memory.append(anonymous_megabytes(pid))
            spooled.append(sum(_size(file) for file in state.rglob("*")) / 1e6)
        result: dict[str, Any] = json.loads(producer.communicate()[0])
    calls = Figure.of(result["ns"])
    halves = memory[: len(memory) // 2], memory[len(memory) // 2 :]
    return (
        f"{calls.median:.0f} ns a call [{calls.low:.0f} … {calls.high:.0f}], "
        f"{result['attempts']:,} spans, {result['dropped']:,} dropped and counted; "
        f"drain RssAnon at most {max(halves[0]):.0f} MB in the first half, {max(halves[1]):.0f} MB in the second; "
        f"state folder at most {max(spooled):.0f} MB"
    )


def produce(ring_dir: str, rate: float, seconds: float) -> None:
    """Emit at a rate, and print the nanoseconds of each second's calls and what was dropped."""
    emitter = ringbuf.configure("bench", ring_dir=ring_dir, capacity=CAPACITY)
    emit, lease = site(OpType.FBMU_READ).emit, LeaseId(7)
    spent = count = 0

    def burst(spans: int) -> None:
        nonlocal spent, count
        start = time.time_ns()
        end = start + 1500
        before = time.thread_time_ns()
        for _ in range(spans):
            emit(lease, start, end, 4096)
        spent += time.thread_time_ns() - before
        count += spans

    paced(burst, rate, _WARM_SECONDS)
    nanos = []
    for _ in range(int(seconds)):
        spent = count = 0
        paced(burst, rate, 1.0)
        nanos.append(spent / count)
    emitter.close()
    stats = emitter.stats()
    print(json.dumps({"ns": nanos, "attempts": stats.attempts, "dropped": stats.attempts - stats.published}))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a journal of the database
        return 0


@contextmanager
def _nobody() -> Iterator[str]:
    """Yield an endpoint that nobody listens on, and that nobody else can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


if __name__ == "__main__":
    main()
