"""The demo's processes without end, for a drain that is there already: compose/compose.yaml runs this beside one.

Exit codes: 0 it was told to stop (SIGINT, SIGTERM) or its seconds are over; 1 a process failed; 2 usage.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launch import ProducerError, Producers

from ringbuf.ring.directory import default_ring_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_SECONDS: Final = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the work, and return its exit code."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory(prefix="ringbuf-workload-") as data:
        try:
            return _work(options, Path(data))
        except ProducerError as error:
            print(f"workload: {error}", file=sys.stderr)
            return 1


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="workload.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ring-dir", type=Path, default=default_ring_dir(), help="that a drain serves (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="of each kind, and one GPU process (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds after each operation (%(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="so long (until it is stopped)")
    parser.add_argument("--seed", type=int, default=219, help="of the random choices (%(default)s)")
    options = parser.parse_args(arguments)
    if options.processes < 1 or not options.pause >= 0 or not options.seconds > 0:
        parser.error("--processes and --seconds must be greater than zero, --pause not less")
    return options


def _work(options: argparse.Namespace, data_dir: Path) -> int:
    with Producers(
        groups=options.processes,
        operations=sys.maxsize,
        seconds=options.seconds,
        seed=options.seed,
        ring_dir=options.ring_dir,
        data_dir=data_dir,
        pause_seconds=options.pause,
    ) as producers:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: producers.stop())
        producers.begin()
        print(f"{len(producers)} processes emit into {options.ring_dir}", flush=True)
        statistics = producers.collect(lambda: None, _LOOK_SECONDS)
    emitted = sum(one.attempts for one in statistics)
    written = sum(one.published for one in statistics)
    print(f"emitted {emitted:,} spans, of which {written:,} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
