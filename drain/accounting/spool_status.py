"""What a spool holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.accounting.spool_sums import SpoolSums


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What a spool holds, and what it did.

    Attributes:
        services: the sums of each service, since the spool was begun.
        services_before: what they were when this drain opened it, before it found any of it damaged.
        batches: stored ones.
        held: of them, those that somebody sends now, or that are to rest.
        body_bytes: of the stored batches, compressed.
        file_bytes: of the spool's files, those that were set aside included.
        oldest_age_seconds: of the oldest stored batch; 0 without one.
        refused_full: batches that were refused since the spool was full, since its start.
        refused_failing: batches that were refused since it could not be written.
        set_aside: databases that were set aside as damaged, or were removed or replaced by somebody.
        is_writable: whether the last write was possible, and none hangs.
    """

    services: Mapping[str, SpoolSums]
    services_before: Mapping[str, SpoolSums]
    batches: int
    held: int
    body_bytes: int
    file_bytes: int
    oldest_age_seconds: float
    refused_full: int
    refused_failing: int
    set_aside: int
    is_writable: bool
