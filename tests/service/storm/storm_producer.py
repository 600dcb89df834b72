"""Emits numbered spans in batches of random size for as long as its input is open; then says how many were published.

argv: ring directory, service, seed. A number that finds no room is emitted again later: what is published is 0, 1, 2, …
"""

from __future__ import annotations

import random
import select
import sys
import time
from pathlib import Path

import numpy as np

import ringbuf
from ringbuf.layout.layout import Attribute, SpanLayout

LAYOUT = SpanLayout(span_names=["work"], attributes=[Attribute("number", "u64")], scope_name="test")


def main() -> None:
    ring_dir, service, seed = sys.argv[1:]
    dice = random.Random(int(seed))  # noqa: S311 - a seed is what is wanted
    with ringbuf.Emitter(service, ring_dir=Path(ring_dir), layout=LAYOUT, capacity=4096) as emitter:
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            made = np.zeros(dice.randint(1, 600), LAYOUT.dtype)
            made["number"] = made["start_unix_nano"] = np.arange(number, number + len(made))
            made["present"] = 1
            made["flags"] = 0x101
            emitter.fill_ids(made)
            number += emitter.emit_batch(made)
            time.sleep(dice.random() * 0.004)
    print(number, flush=True)  # noqa: T201 - it is what the test waits for


if __name__ == "__main__":
    main()
