"""What of a chunk killed a drain that handled it."""

from __future__ import annotations

from typing import NamedTuple


class Unsafe(NamedTuple):
    """Records of a chunk that are not to be handled.

    Attributes:
        slots: theirs.
        reason: why all of the chunk is not to be read; empty: it may, without those.
    """

    slots: frozenset[int]
    reason: str = ""
