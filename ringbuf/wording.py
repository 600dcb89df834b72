"""Numbers with what they count, for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with what it counts.

    Args:
        count: the number.
        one: the word for one.
        several: the word for other numbers; empty: the same with an s.

    >>> counted(1, "batch", "batches"), counted(1200, "batch", "batches"), counted(0, "ring")
    ('1 batch', '1,200 batches', '0 rings')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"
