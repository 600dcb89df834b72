"""What an emitter did: the producer's side of the conservation law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EmitterStats:
    """What an emitter did in this process: the producer's side of the conservation law, in spans.

    Attributes:
        attempts: `local + unsampled + full + contended + published`.
        published: written to a ring.
        unsampled: not written because the parent or the sampler said so.
        full: dropped because every lane was full, or the last that was tried.
        contended: dropped because every lane was in use by another thread.
        local: dropped without a ring, or after the close.
        truncated: values (not spans) that were cut to their field.
        invalid_values: values (not spans) that were left out because they do not fit their attribute.
        pending: published in the present ring and not yet taken by a drain.
        capacity: slots of the present ring, 0 without one.
        drain_attached: whether a drain reads the present ring (or was killed while it did).
        path: the present ring's file, None without one.
    """

    attempts: int
    published: int
    unsampled: int
    full: int
    contended: int
    local: int
    truncated: int
    invalid_values: int
    pending: int
    capacity: int
    drain_attached: bool
    path: Path | None

    @classmethod
    def of(cls, counts: Any, path: Path | None) -> Self:
        """Return the counts of an `rb_producer_stats *`.

        Args:
            counts: of the producer.
            path: of its latest ring.
        """
        return cls(
            attempts=counts.published + counts.full + counts.contended + counts.unsampled + counts.local,
            published=counts.published,
            unsampled=counts.unsampled,
            full=counts.full,
            contended=counts.contended,
            local=counts.local,
            truncated=counts.truncated,
            invalid_values=counts.invalid_values,
            pending=counts.pending,
            capacity=counts.capacity_slots,
            drain_attached=counts.consumer_state == lib.RB_CONSUMER_ATTACHED,
            path=path if counts.capacity_slots else None,
        )
