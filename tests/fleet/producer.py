"""Emits numbered spans at a steady pace, whether there is room or not, until its input ends; then says its counts.

argv: ring directory, service, capacity of the ring, spans a second. A number is emitted once: what finds no room is
gone, and counted as `full`.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

import numpy as np

import ringbuf
from ringbuf.layout.layout import Attribute, SpanLayout

LAYOUT = SpanLayout(span_names=["work"], attributes=[Attribute("number", "u64")], scope_name="test")
BEATS = 50  # a second


def main() -> None:
    ring_dir, service, capacity, rate = sys.argv[1:]
    count = max(1, int(rate) // BEATS)
    number = 0
    with ringbuf.Emitter(service, ring_dir=Path(ring_dir), layout=LAYOUT, capacity=int(capacity)) as emitter:
        beat = time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, beat - time.monotonic()))[0]:
            made = np.zeros(count, LAYOUT.dtype)
            made["number"] = made["start_unix_nano"] = np.arange(number, number + count)
            made["present"] = 1
            made["flags"] = 0x101
            emitter.fill_ids(made)
            emitter.emit_batch(made)
            number += count
            beat = max(
                beat + 1 / BEATS, time.monotonic() - 1
            )  # what a starved machine misses is not made up for at once
        stats = emitter.stats()
    counts = {name: getattr(stats, name) for name in ("attempts", "published", "full", "contended", "local")}
    print(json.dumps(counts), flush=True)  # noqa: T201 - it is what the test waits for


if __name__ == "__main__":
    main()
