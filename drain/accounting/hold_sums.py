"""What became of the spans that the hold took: the numbers that must add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class HoldSums:
    """What became of the held spans of one service, since the drain's start.

    Attributes:
        taken_up: waited there when the drain began.
        held: came since, out of rings; with `taken_up` the sum of all below.
        delivered: accepted by the backend.
        spooled: in the spool, which has its own sums.
        rejected: refused by the backend in a partial success, or for good without a place to keep them.
        dead_lettered: refused by the backend for good, and kept.
        sampled_out: not wanted by the rules.
        invalid: no spans, as the encoder found.
        lost: not readable any more: their file was cut or damaged, or what says how to read them is gone.
        waiting: in the hold.
    """

    taken_up: int = 0
    held: int = 0
    delivered: int = 0
    spooled: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    sampled_out: int = 0
    invalid: int = 0
    lost: int = 0
    waiting: int = 0

    @property
    def unaccounted(self) -> int:
        """Held spans of which nobody knows what became: 0, or the law is broken."""
        accounted: int = sum(getattr(self, name) for name in HOLD_SUM_NAMES[2:])
        return self.taken_up + self.held - accounted


HOLD_SUM_NAMES: Final = tuple(one.name for one in fields(HoldSums))


@dataclass(frozen=True, slots=True)
class HoldStatus:
    """What the hold does now.

    Attributes:
        services: what became of the spans of each, since the drain began.
        used_bytes: of its memory.
        capacity_bytes: what it may take.
        remade: files that somebody removed or cut.
        kept_spans: that are to be delivered, of those that wait.
        unsound: files that the drain found at its start and cannot use, or not all that is in them.
    """

    services: Mapping[str, HoldSums]
    used_bytes: int
    capacity_bytes: int
    remade: int = 0
    kept_spans: int = 0
    unsound: int = 0
