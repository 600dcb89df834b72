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
        services: the sums of each service.
        batches: stored ones.
        held: of them, those that somebody sends now, or that are to rest.
        body_bytes: of the stored batches, compressed.
        file_bytes: of the database's pages in use, the write-ahead log and the reserve.
        oldest_age_seconds: of the oldest stored batch; 0 without one.
        refused_full: batches that were refused since the spool was full, since its start.
        refused_failing: batches that were refused since it could not be written.
        set_aside: databases that were set aside as damaged.
        is_writable: whether the last write was possible.
    """

    services: Mapping[str, SpoolSums]
    batches: int
    held: int
    body_bytes: int
    file_bytes: int
    oldest_age_seconds: float
    refused_full: int
    refused_failing: int
    set_aside: int
    is_writable: bool
