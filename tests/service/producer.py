"""A producer process: emits spans 0 to COUNT - 1 into RING_DIR, says `ready`, and then does what its input tells it.

Input lines: `emit FIRST END` emits further spans, `close` closes the emitter; the end of the input ends the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import ringbuf
from ringbuf.layout.layout import Attribute, SpanLayout

LAYOUT = SpanLayout(span_names=["work"], attributes=[Attribute("number", "u64")], scope_name="test")


def emit(emitter: ringbuf.Emitter, first: int, end: int) -> None:
    made = np.zeros(end - first, LAYOUT.dtype)
    made["number"] = made["start_unix_nano"] = np.arange(first, end)
    made["present"] = 1
    made["flags"] = 0x101
    emitter.fill_ids(made)
    print("emitted", emitter.emit_batch(made), flush=True)  # noqa: T201 - it is what the test waits for


def main() -> None:
    ring_dir, service, count = sys.argv[1:]
    emitter = ringbuf.Emitter(service, ring_dir=Path(ring_dir), layout=LAYOUT)
    emit(emitter, 0, int(count))
    for line in sys.stdin:
        match line.split():
            case ["emit", first, end]:
                emit(emitter, int(first), int(end))
            case ["close"]:
                emitter.close()
                print("closed", flush=True)  # noqa: T201 - as above
            case _:
                raise ValueError(line)


if __name__ == "__main__":
    main()
