"""A producer of the fleet: emits evenly until its input ends, then prints one line of JSON.

Before, each line of its input is answered by what it has done so far.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import sys
import time
from itertools import cycle, islice
from typing import Final

_BEAT_SECONDS: Final = 0.02
_CAPACITY: Final = 1 << 18


def main() -> None:
    """Emit."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.producer", description=__doc__)
    parser.add_argument("ring_dir")
    parser.add_argument("rate", type=float, help="spans a second")
    of = parser.parse_args()
    import ringbuf
    from ringbuf.dataplane import LeaseId, OpType, site

    rate = of.rate
    emitter = ringbuf.configure("fleet", ring_dir=of.ring_dir, capacity=_CAPACITY)
    emit, lease = site(OpType.FBMU_READ).emit, LeaseId(7)
    # Spans of a burst would else have nearly the same times, and compress as no real ones do.
    dice = random.Random(219)  # noqa: S311 - the same in each run
    ages = cycle([(dice.randrange(10_000_000, 20_000_000), dice.randrange(10_000_000)) for _ in range(8192)])
    done, bursts, processor = 0, 0, 0

    def tell() -> None:
        lost = done - emitter.stats().published
        told = {"spans": done, "lost": lost, "bursts": bursts, "processor": processor / 1e9}
        print(json.dumps(told), flush=True)

    begin = time.monotonic()
    is_open = True
    while is_open:
        if select.select([sys.stdin], [], [], _BEAT_SECONDS)[0]:
            is_open = bool(sys.stdin.readline())
            if is_open:
                tell()
        due = int((time.monotonic() - begin) * rate) - done
        # The loop alone: how often it wakes is this program's way, and not a producer's cost.
        processor -= time.thread_time_ns()
        for begun, ended in islice(ages, due):
            emit(lease, time.time_ns() - begun, time.time_ns() - ended, 4096)
        processor += time.thread_time_ns()
        done += due
        bursts += due > 0
    tell()
    emitter.close()


if __name__ == "__main__":
    main()
