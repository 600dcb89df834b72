"""Real records: what the demo's memory worker writes, read from a ring that no drain takes.

Their leases, operations, sizes and times are those of a program that works, not of a random generator.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

import ringbuf
from ringbuf._ringbuf import ffi
from ringbuf.dataplane import DATAPLANE_LAYOUT

_EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
_CAPACITY: Final = 1 << 15
_SEED: Final = 219


def demo_records(count: int) -> np.ndarray:
    """Let the worker work in this process, through its shared emitter; return its first spans.

    Args:
        count: how many, at most 32768.
    """
    sys.path.append(str(_EXAMPLES))
    from memory import MemoryWork

    with tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as folder:
        ringbuf.configure("demo-memory", ring_dir=folder, capacity=_CAPACITY)
        work = MemoryWork(Random(_SEED))  # noqa: S311 - a workload, repeatable
        for _ in range(count):
            work.step()
        work.close()
        (ring,) = Path(folder).glob("*.ring")
        return _records_of(ring, count)


def _records_of(ring: Path, count: int) -> np.ndarray:
    """Return the first records of a ring's first lane; none was released yet."""
    raw = ring.read_bytes()
    header = ffi.from_buffer("rb_header *", raw[: ffi.sizeof("rb_header")])
    first = header.header_bytes + ffi.sizeof("rb_lane")
    return np.frombuffer(raw, DATAPLANE_LAYOUT.dtype, count, first)
