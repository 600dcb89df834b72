"""Records in a hold of these tests, and where things lie in its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ringbuf._ringbuf import ffi, lib
from tests.points.hold_walk import CHUNK_BYTES, LANE, RING, places_by_number, records_of
from tests.points.victim import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.chunk import RingKey
    from drain.sampling.hold.hold import Hold
    from drain.sampling.hold.origins import Origin

HEAD = {name: field.offset for name, field in ffi.typeof("rb_chunk_head").fields}
SEGMENT = {name: lib.RB_CHUNK_HEAD_BYTES + field.offset for name, field in ffi.typeof("rb_segment").fields}
SEGMENT_BYTES = {count: lib.RB_SEGMENT_HEAD_BYTES + count * LAYOUT.slot_bytes for count in range(10)}
ALL_OF_A_CHUNK = (CHUNK_BYTES - 256) // (LAYOUT.slot_bytes + 4)


def held(hold: Hold, origin: Origin, first: int, count: int, ring: RingKey = RING) -> np.ndarray:
    """Hold records, released in their ring; return their places."""
    place = hold.append(origin, ring, LANE, first, first + count, records_of(first, count))
    hold.unreleased.released(ring, LANE)
    return np.arange(place, place + count, dtype=np.uint64)


def found_in(hold: Hold) -> set[int]:
    places = [place for found in hold.found for place in found.places.tolist()]
    return set(places_by_number(hold, np.array(places, np.uint64)))


def chunk_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("chunk-*"))
