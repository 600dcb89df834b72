"""Whether rings know how far they are held: of one that does not, what lies in the hold would be read once more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from drain.rings.directory import RING_SUFFIX
from drain.rings.ring import OPEN_FLAGS, Ring, Scratch
from drain.service.lane_holder import key_of
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from pathlib import Path

    from drain.otlp.request import Encoding
    from drain.rings.segment import Lane
    from drain.sampling.hold.hold import Hold

_SCRATCH_BYTES: Final = 4096  # nothing is copied


def are_lanes_behind(hold: Hold, ring_dir: Path, *, encoding: Encoding, max_bytes: int) -> bool:
    """Return whether a lane of a ring there is held further than its ring says; rings are only looked at.

    Args:
        hold: what was found in it.
        ring_dir: of the rings.
        encoding: as `Ring`.
        max_bytes: as `Ring`.
    """
    inodes = hold.unreleased.inodes() if len(hold.unreleased) else set()
    if not inodes:
        return False
    scratch = Scratch(_SCRATCH_BYTES)
    for path in ring_dir.glob(f"*{RING_SUFFIX}"):
        try:
            fd = os.open(path, OPEN_FLAGS)
        except OSError:
            continue
        if os.fstat(fd).st_ino not in inodes:
            os.close(fd)
            continue
        try:
            ring = Ring(path.name, path, fd, max_bytes=max_bytes, encoding=encoding, scratch=scratch, is_trial=True)
        except (RingFormatError, OSError):
            continue
        is_behind = any(_is_behind(hold, ring, lane) for lane in ring.lanes)
        ring.close()
        if is_behind:
            return True
    return False


def _is_behind(hold: Hold, ring: Ring, lane: Lane) -> bool:
    head = ring.next_position(lane)
    return hold.unreleased.end_of(key_of(ring), lane.index, head, head + ring.ready(lane)) is not None
