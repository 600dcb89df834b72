"""Records out of lanes into the hold: a lane is released as soon as what waits of it is held."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from drain.accounting.outcome import Outcome
from drain.otlp.encode_plan import only_spans
from drain.rings.segment import Segment
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import HoldFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    import numpy as np

    from drain.rings.ring import Ring
    from drain.rings.segment import Lane
    from drain.service.late_sampling import LateSampling

_POSITIONS: Final = 1 << 64


class LaneHolder:
    """Takes the records of lanes into the hold.

    Args:
        late: decides on them, and has the hold.
        count: counts spans of a ring that are released, in the span metrics.
    """

    def __init__(self, late: LateSampling, count: Callable[[Ring, np.ndarray], None]) -> None:
        self._late = late
        self._count = count
        self._joined: dict[RingKey, Ring] = {}
        self._copied: dict[Lane, tuple[int, np.ndarray]] = {}
        self._began_unix_nano = time.time_ns()
        self._again: dict[Lane, int] = {}  # records at which an earlier drain may have looked

    def read(self, ring: Ring, lane: Lane, most: int) -> int | None:
        """Hold a quantum of a lane and release it there.

        Args:
            ring: whose lane.
            lane: which; some of its records are ready.
            most: records.

        Returns:
            how many of them are no spans; None: there is no room, and they stay in the ring for now.

        Raises:
            RingFormatError: the ring is not sound.
        """
        key = key_of(ring)
        try:
            if self._joined.get(key) is not ring:
                self._join(key, ring)
                if not ring.ready(lane):
                    return 0
            copied = self._copied.pop(lane, None) or self._copy(ring, lane, most)
            return None if copied is None else self._hold(key, ring, lane, *copied)
        except HoldFullError:
            return None

    def has_copied(self, lane: Lane) -> bool:
        """Return whether records were copied out of a lane, and are not held yet."""
        return lane in self._copied

    def forget_gone(self, rings: Iterable[Ring]) -> None:
        """Let the rings go that are none of these any more."""
        there = {key_of(ring) for ring in rings}
        for key in [key for key in self._joined if key not in there]:
            ring = self._joined.pop(key)
            for lane in ring.lanes:
                self._copied.pop(lane, None)
                self._again.pop(lane, None)
            self._late.leave(ring)
            self._late.hold.unreleased.forget(key)

    def forget_absent(self, inodes: Callable[[], Collection[int] | None]) -> None:
        """Let go of looks at rings that an earlier drain had and nobody will attach: each would keep a chunk for good.

        Args:
            inodes: of the rings that there are; None where that is not known now. Asked only where it matters.
        """
        unreleased = self._late.hold.unreleased
        there = inodes() if len(unreleased) else None
        if there is not None:
            unreleased.keep_only(there)

    def _copy(self, ring: Ring, lane: Lane, most: int) -> tuple[int, np.ndarray] | None:
        """Return the position of the first record and a copy of the records, if there is room for them."""
        most = ring.next_count(lane, min(most, self._again.get(lane, most)))
        most = min(most, self._late.most_at_once(ring.layout.slot_bytes))
        left = self._late.hold.room_left(ring.layout.slot_bytes)
        if left * 2 >= most:  # else a chunk would be left with that
            most = min(most, left)
        if not self._late.has_room(ring, most):
            return None
        return ring.next_position(lane), ring.copy(lane, most)

    def _hold(self, key: RingKey, ring: Ring, lane: Lane, start: int, records: np.ndarray) -> int:
        spans = only_spans(records, ring.layout)
        invalid = len(records) - len(spans)
        try:
            upto = (start + len(records)) % _POSITIONS
            taken = self._late.read(ring, lane.index, spans, start, upto, invalid, is_again=lane in self._again)
        except HoldFullError:  # a file went under it: they were read, and are held as soon as there is room
            self._copied[lane] = start, records.copy()
            raise
        outcome = Outcome(spooled=taken.held, invalid=invalid, sampled_out=taken.sampled_out)
        self._release(key, ring, lane, spans, outcome)
        if lane in self._again:
            self._again[lane] -= len(records)
            if self._again[lane] <= 0:
                del self._again[lane]
        return invalid

    def _join(self, key: RingKey, ring: Ring) -> None:
        """Take a ring in, and release what a drain that was killed had held of it."""
        self._late.join(ring)
        self._joined[key] = ring
        for lane in ring.lanes:
            head = ring.next_position(lane)
            end = self._late.hold.unreleased.end_of(key, lane.index, head, head + ring.ready(lane))
            while end is not None and any(end):
                records = ring.copy(lane, sum(end))
                now, end = _first(end, len(records))
                spans = only_spans(records, ring.layout) if now.invalid else records
                self._release(key, ring, lane, spans, now, are_stored=True)
            self._late.hold.unreleased.released(key, lane.index)
            if ring.created_unix_nano < self._began_unix_nano and ring.ready(lane):
                self._again[lane] = ring.ready(lane)

    def _release(
        self, key: RingKey, ring: Ring, lane: Lane, spans: np.ndarray, outcome: Outcome, *, are_stored: bool = False
    ) -> None:
        self._count(ring, spans)
        segment = Segment(ring, lane, outcome.spooled, outcome.invalid, outcome.sampled_out, outcome)
        lane.segments.append(segment)
        ring.release(lane, are_stored=are_stored)
        self._late.hold.unreleased.released(key, lane.index)


def key_of(ring: Ring) -> RingKey:
    """Return what tells a ring from all others, whatever its name is."""
    return RingKey(ring.file.inode, ring.created_unix_nano)


def _first(outcome: Outcome, count: int) -> tuple[Outcome, Outcome]:
    """Return an outcome of so many records, and of those behind them."""
    taken = []
    for word in outcome:
        taken.append(min(word, count))
        count -= taken[-1]
    return Outcome(*taken), Outcome(*(word - part for word, part in zip(outcome, taken, strict=True)))
