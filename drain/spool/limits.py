"""What a spool may take of the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drain.settings.spool_choices import MIN_BYTES

if TYPE_CHECKING:
    from drain.settings.spool_choices import WhenFull


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What a spool may take.

    Attributes:
        max_bytes: of its files on disk: the database, its write-ahead log, the reserve, and what was set aside as
            damaged, which goes when there is no room for both.
        max_age_seconds: after which a batch expires; 0: never.
        when_full: "backpressure": a full spool refuses batches, which then wait in the rings; "drop-oldest": it makes
            room.

    Raises:
        ValueError: a number is out of its range.
    """

    max_bytes: int
    max_age_seconds: float = 0.0
    when_full: WhenFull = "backpressure"

    def __post_init__(self) -> None:
        """Refuse what could hold nothing."""
        if self.max_bytes < MIN_BYTES:
            raise ValueError(f"spool: at least {MIN_BYTES} bytes, not {self.max_bytes}")
        if self.max_age_seconds < 0:
            raise ValueError("spool: the age must not be negative")
