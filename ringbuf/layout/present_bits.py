"""Bits of a record's `present` that stand for no attribute, and say something of the span itself."""

from __future__ import annotations

from ringbuf._ringbuf import lib


def present_bits(attributes: int) -> int:
    """Return those of RB_PRESENT_ALONE and RB_PRESENT_ROOT_THRESHOLD that a layout of so many attributes leaves.

    >>> [present_bits(count).bit_count() for count in (0, 30, 31, 32)]
    [2, 2, 1, 0]
    """
    given: int = lib.RB_PRESENT_ALONE | lib.RB_PRESENT_ROOT_THRESHOLD
    return given & ~((1 << attributes) - 1)
