"""A ring as somebody sees it who had it open before all others: also after its file is gone."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbuf._ringbuf import ffi, lib
from tests.points.victim import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

OUTCOMES = ("delivered", "spooled", "rejected", "dead_lettered", "invalid")
DROPS = ("full", "contended", "unsampled")


class Observed:
    """The words of a ring, read without the drain's or the producer's knowledge."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        memory = ffi.from_buffer(self._map)
        self.header: Any = ffi.cast("rb_header *", memory)
        stride = self.header.lane_stride_bytes
        self._lanes_at = [self.header.header_bytes + index * stride for index in range(self.header.lane_count)]
        self.lanes: list[Any] = [ffi.cast("rb_lane *", memory + at) for at in self._lanes_at]

    @property
    def published(self) -> int:
        return sum(lane.tail - self.header.first_position for lane in self.lanes)

    @property
    def dropped(self) -> int:
        return sum(getattr(lane, name) for lane in self.lanes for name in DROPS)

    @property
    def pending(self) -> int:
        return sum(lane.tail - lane.head for lane in self.lanes)

    @property
    def surplus(self) -> int:
        """What the drain has counted and not released."""
        counted = sum(getattr(lane, name) for lane in self.lanes for name in OUTCOMES)
        return int(counted - sum(lane.head - self.header.first_position for lane in self.lanes))

    def unreleased(self) -> set[int]:
        """Return the numbers in the slots that are not released; there must be no drain now."""
        numbers = set()
        for lane, at in zip(self.lanes, self._lanes_at, strict=True):
            records = np.frombuffer(self._map, LAYOUT.dtype, self.header.capacity_slots, at + lib.RB_LANE_BYTES)
            numbers |= {
                int(records["number"][position % self.header.capacity_slots])
                for position in range(lane.head, lane.tail)
            }
        return numbers

    def say_detached(self) -> None:
        """Do as a drain that gives the ring up."""
        for lane in self.lanes:
            lane.consumer_state = lib.RB_CONSUMER_DETACHED

    def break_tail(self) -> None:
        """Do as a producer whose memory is broken."""
        self.lanes[0].tail += 1 << 40
