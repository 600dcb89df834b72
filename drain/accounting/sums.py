"""What became of the spans of a ring, or of a service: the numbers that must add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

MAX_SERVICES: Final = 1000
"""Names come from the rings: without a bound a producer could fill memory or disk with new ones."""

OTHER_SERVICES: Final = "(other services)"
"""Who has the spans of all names beyond that."""


@dataclass(slots=True)
class Sums:
    """What became of the spans of a ring or of a service; the words of `rb_lane`, added up over lanes.

    Attributes:
        rings: how many rings these are the sums of.
        published: spans written to a ring since it was made.
        delivered: accepted by the backend.
        spooled: durable in the spool.
        rejected: refused by the backend.
        dead_lettered: refused by the backend, and kept.
        invalid: records that were no span.
        sampled_out: counted in the span metrics and not delivered, since their head did not want them.
        pending: in a ring, neither released nor counted by a drain that was killed before it could release them.
        quarantined: pending when their ring was set aside.
        repeated: counted by a drain that was killed before it could release them, and read out of the ring again; not
            part of the law, and a lower bound: what the backend had and that drain had not counted is sent again, too,
            and so is what waited in the hold for its delivery.
        full: not written, since every lane was full or busy and one was full.
        contended: not written, since every lane was busy.
        unsampled: not written, since the trace is not sampled.
        truncated: values cut to their field; the spans were written.
        invalid_values: values left out since they do not fit their attribute; the spans were written.
    """

    rings: int = 0
    published: int = 0
    delivered: int = 0
    spooled: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    invalid: int = 0
    sampled_out: int = 0
    pending: int = 0
    quarantined: int = 0
    repeated: int = 0
    full: int = 0
    contended: int = 0
    unsampled: int = 0
    truncated: int = 0
    invalid_values: int = 0

    def add(self, other: Sums) -> None:
        """Add each number of `other`."""
        for name in SUM_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def subtract(self, other: Sums) -> None:
        """Take each number of `other` away, down to 0."""
        for name in SUM_NAMES:
            setattr(self, name, max(0, getattr(self, name) - getattr(other, name)))

    @property
    def unaccounted(self) -> int:
        """Published spans of which nobody knows what became: 0, or the law is broken."""
        return self.published - (
            self.delivered
            + self.spooled
            + self.rejected
            + self.dead_lettered
            + self.invalid
            + self.sampled_out
            + self.pending
            + self.quarantined
        )


SUM_NAMES: Final = tuple(field.name for field in fields(Sums))
