"""What became of the spans that a spool took: the numbers that must add up."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SpoolSums:
    """What became of the spooled spans of one service, since its spool was begun.

    Attributes:
        spooled: put into the spool; the sum of all below.
        delivered: accepted by the backend.
        rejected: refused by the backend in a partial success, or for good without a place to keep them.
        dead_lettered: refused by the backend for good, and kept.
        expired: removed since they were older than the spool's age.
        dropped: removed since the spool was full and newer ones came.
        damaged: not readable any more, and set aside; or removed by somebody.
        waiting: in the spool.
    """

    spooled: int = 0
    delivered: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    expired: int = 0
    dropped: int = 0
    damaged: int = 0
    waiting: int = 0

    def plus(self, change: Mapping[str, int]) -> SpoolSums:
        """Return these sums with some of them changed."""
        return replace(self, **{name: getattr(self, name) + count for name, count in change.items()})

    @property
    def unaccounted(self) -> int:
        """Spooled spans of which nobody knows what became: 0, or the law is broken."""
        accounted: int = sum(getattr(self, name) for name in SPOOL_SUM_NAMES[1:])
        return self.spooled - accounted


SPOOL_SUM_NAMES: Final = tuple(field.name for field in fields(SpoolSums))
