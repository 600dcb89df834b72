"""What producers counted while no drain ran is told by the next one, once, whatever became of those before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf._ringbuf import ffi
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain, emit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CAPACITY = 4


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        yield emitter


def drained(ring_dir: Path) -> SteppedDrain:
    """Return a drain that has taken in the ring and emptied it."""
    drain = SteppedDrain(ring_dir, MemoryBackend())
    drain.until(lambda: drain.service.accounts.rings_seen() and not drain.sums().pending)
    return drain


def told(drain: SteppedDrain) -> int:
    """Return what a scrape shows of spans that were dropped."""
    return drain.service.accounts.snapshot().services["shop"].full


def test_spans_that_were_dropped_while_no_drain_ran_are_told_once(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(1000))
    with drained(ring_dir) as first:
        assert told(first) == 1000 - CAPACITY
        assert first.service.accounts.dropped() == 1000 - CAPACITY
    emit(emitter, range(100))
    with drained(ring_dir) as second:
        assert told(second) == 100 - CAPACITY
        assert second.sums().full == 1100 - 2 * CAPACITY, "the audit is of the ring's whole life"
    with drained(ring_dir) as third:
        assert told(third) == 0
        assert third.service.accounts.dropped() == 0


def test_what_a_drain_had_seen_and_told_nobody_is_told_by_the_next(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(10))
    with drained(ring_dir) as first:
        assert first.sums().full == 10 - CAPACITY
    with drained(ring_dir) as second:
        assert told(second) == 10 - CAPACITY


def test_an_audit_tells_it_too(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(10))
    with drained(ring_dir) as first:
        first.service.accounts.tell_audit()
    with drained(ring_dir) as second:
        assert told(second) == 0


def test_a_ring_that_claims_more_was_told_than_it_counts_hides_nothing_later(
    ring_dir: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(10))
    [path] = ring_dir.glob("*.ring")
    with path.open("r+b") as file:
        header = ffi.from_buffer("rb_header *", file.read(ffi.sizeof("rb_header")))
        file.seek(header.header_bytes + ffi.offsetof("rb_lane", "told_full"))
        file.write(b"\xff" * 8)
    with drained(ring_dir) as drain:
        assert told(drain) == 0
        emit(emitter, range(100))
        assert told(drain) > 0
