"""Looks at lanes that are in the hold and of which the ring does not know: the next drain begins behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.accounting.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from drain.sampling.hold.chunk import Chunk, RingKey, Segment

_POSITIONS: Final = 1 << 64
_HALF: Final = 1 << 63


class Unreleased:
    """The last look at each lane, until the ring is released so far; its chunk is needed for as long."""

    def __init__(self) -> None:
        self._looks: dict[RingKey, dict[int, tuple[Chunk, Segment]]] = {}

    def __len__(self) -> int:
        """Return of how many rings there are such looks."""
        return len(self._looks)

    def inodes(self) -> set[int]:
        """Return those of these rings."""
        return {ring.inode for ring in self._looks}

    def add(self, chunk: Chunk, segment: Segment) -> None:
        """Note a look; of two at one lane the later counts, as the earlier was released before it."""
        lanes = self._looks.setdefault(segment.ring, {})
        before = lanes.get(segment.lane)
        if before is not None:
            if (segment.upto - before[1].upto) % _POSITIONS >= _HALF:
                return
            before[0].pins -= 1
        lanes[segment.lane] = (chunk, segment)
        chunk.pins += 1

    def end_of(self, ring: RingKey, lane: int, head: int, tail: int) -> Outcome | None:
        """Return what is to be released of a lane when a drain begins with it.

        Args:
            ring: whose lane it is.
            lane: which.
            head: the ring's own; what it says of itself is not believed beyond the lane.
            tail: the same.

        Returns:
            what became of the records from `head` on that are in the hold: those that are there as spooled; None where
            there are none.
        """
        _, segment = self._looks.get(ring, {}).get(lane, (None, None))
        if segment is None:
            return None
        ahead = (segment.upto - head) % _POSITIONS
        if not 0 < ahead <= (tail - head) % _POSITIONS:
            return None
        outcome = Outcome(spooled=segment.count, invalid=segment.invalid, sampled_out=segment.sampled_out)
        if segment.start == head and sum(outcome) == ahead:
            return outcome
        # Of a part nobody can say which they were; a lane that has one was written to by somebody else.
        return Outcome(spooled=ahead) if ahead <= (segment.upto - segment.start) % _POSITIONS else None

    def released(self, ring: RingKey, lane: int) -> None:
        """Note that a lane is released as far as it is held."""
        lanes = self._looks.get(ring, {})
        if lane in lanes:
            chunk, _ = lanes.pop(lane)
            chunk.pins -= 1
        if not lanes:
            self._looks.pop(ring, None)

    def forget(self, ring: RingKey) -> None:
        """Note that nothing more is read out of a ring."""
        for lane in [*self._looks.get(ring, ())]:
            self.released(ring, lane)

    def keep_only(self, inodes: Collection[int]) -> None:
        """Forget the rings whose files are not there any more."""
        for ring in [ring for ring in self._looks if ring.inode not in inodes]:
            self.forget(ring)
