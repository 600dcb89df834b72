"""The machine's own limits, and the stock way to call C: what our doors are measured against, beside the SDK."""

from __future__ import annotations

import functools
import mmap
import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.emit.ours import BURST, TIMES, busy_thread, sampled
from bench.measure import bursts
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.measure import Round


@contextmanager
def memcpy() -> Iterator[Round]:
    """Copy as many bytes as a batch has to shared memory that was touched before, in one numpy call."""
    region = mmap.mmap(-1, BURST * DATAPLANE_LAYOUT.slot_bytes)
    to = np.frombuffer(region, "u1")
    source = np.ones_like(to)

    def burst(_count: int) -> None:
        np.copyto(to, source)

    yield lambda: bursts(burst, _nothing, BURST, TIMES)


@contextmanager
def clock() -> Iterator[Round]:
    """Read the wall clock, as a caller of `emit` does twice."""
    now = time.time_ns

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            now()

    yield lambda: bursts(burst, _nothing, BURST, TIMES)


@contextmanager
def beside_busy_thread(call: Callable[[], object]) -> Iterator[Round]:
    """Measure single calls while another thread of this process computes."""
    with busy_thread():
        yield lambda: sampled(call, _nothing, 1 << 30)


def _nothing() -> None:
    """Do nothing between bursts: there is no ring to empty."""


PROBES: Final = {
    "numpy.memcpy": memcpy,
    "cffi.time_ns": clock,
    # A function that returns at once, in the module that gives the GIL up around each call, as cffi does by itself.
    "cffi.stock_call_beside_busy_thread": functools.partial(beside_busy_thread, functools.partial(lib.rb_strerror, 0)),
}
