from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, Outcome, site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = 1_700_000_000_000_000_000


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Let commands hear SIGINT also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def shop(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    """Return a Phase 219 emitter with ten reads of 1 to 10 µs and two writes, of which one timed out."""
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=64, lanes=1) as emitter:
        read, write = site(OpType.FBMU_READ, emitter=emitter), site(OpType.FBBU_WRITE, emitter=emitter)
        for number in range(1, 11):
            assert read.emit(LeaseId(number), START + number, START + number + 1000 * number, 100 * number)
        assert write.emit(LeaseId(77), START, START + 2_000_000, 512, Outcome.OK)
        assert write.emit(LeaseId(78), START, START + 5_000_000, 512, Outcome.TIMEOUT)
        yield emitter
