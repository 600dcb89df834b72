"""What became of records: the words of a lane that the drain writes."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """What became of records; `rb_outcome` of ringbuf.h."""

    delivered: int = 0
    spooled: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    invalid: int = 0
    sampled_out: int = 0
