"""A ring that is set aside while one batch holds several parts of it is let go of once."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import ringbuf
from ringbuf._ringbuf import ffi
from tests.service.draining import LAYOUT, SMALL, MemoryBackend, SteppedDrain, emit, quarantined, ring_files

if TYPE_CHECKING:
    from pathlib import Path


def test_two_parts_of_a_lane_in_one_batch(ring_dir: Path) -> None:
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter,
        SteppedDrain(ring_dir, backend, replace(SMALL, concurrency=1)) as drain,
    ):
        emit(emitter, range(5))
        drain.until(lambda: backend.waiting == 1)
        (ring,) = drain.service._reader.rings
        for first in (5, 10):  # these wait for the thread, in one batch
            emit(emitter, range(first, first + 5))
            drain.until(lambda first=first: ring.lanes[0].unreleased == first + 5)  # type: ignore[misc]  # a default has no type
        (path,) = ring_files(ring_dir)
        header = ffi.from_buffer("rb_header *", path.read_bytes())
        with path.open("r+b") as file:  # the tail, to where it cannot be
            file.seek(header.header_bytes)
            file.write(struct.pack("<Q", 1 << 40))
        drain.until(lambda: quarantined(ring_dir))
        backend.let_go()
        drain.until(lambda: not drain.service._reader.rings)
        sums = drain.sums()
        assert (sums.delivered, sums.unaccounted) == (15, 0)
    assert [request.spans for request in backend.requests] == [5, 10]
    assert backend.numbers == list(range(15))
