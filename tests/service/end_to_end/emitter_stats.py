"""What producers of a demo say of themselves, made up."""

from __future__ import annotations

from ringbuf import EmitterStats


def emitter_stats(published: int, *, full: int = 0) -> EmitterStats:
    """Return the sums of a producer whose ring had no room for `full` of its spans, and is empty now."""
    return EmitterStats(
        attempts=published + full,
        published=published,
        unsampled=0,
        full=full,
        contended=0,
        local=0,
        truncated=0,
        invalid_values=0,
        pending=0,
        capacity=8192,
        drain_attached=True,
        path=None,
    )
