"""Room in the spool: what is too old goes, and what was there first where newer parts are to have its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.spool.damage import damaged_bytes, remove_oldest_damaged
from drain.spool.schema import PAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from drain.log import RepeatedTrouble
    from drain.spool.database import SpoolDatabase, Stored
    from drain.spool.holds import Holds
    from drain.spool.limits import SpoolLimits
    from drain.spool.reserve import Reserve
    from drain.spool.spool_time import SpoolTime

_LARGEST_GROUP_BYTES: Final = 8 << 20
_GROUP_SHARE: Final = 16  # a group, of the whole
_WAL_GROUPS: Final = 3  # the write-ahead log: a group not yet written back, one on top, and its frames' headers
_EXPIRED_AT_ONCE: Final = 256
_PAGE_OVERHEAD_BYTES: Final = 64  # of a page, at most: chain pointers, and its share of the pointer map
_ROW_PAGES: Final = 8  # of the trees above the row, and of the counts


class Room:
    """Makes room in a spool's folder, within its limits.

    Args:
        folder: of the spool.
        limits: what it may take.
        holds: which batches stay, whatever happens.
        reserve: which is counted as taken.
        trouble: hears of what goes.
        time: for the age of batches.

    Attributes:
        group_bytes: of bodies that should make one transaction.
        damaged_bytes: of what was set aside, as of the last look.
    """

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits,
        holds: Holds,
        reserve: Reserve,
        *,
        trouble: RepeatedTrouble,
        time: SpoolTime,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._holds = holds
        self._reserve = reserve
        self._trouble = trouble
        self._time = time
        self.group_bytes = min(_LARGEST_GROUP_BYTES, limits.max_bytes // _GROUP_SHARE)
        self.damaged_bytes = 0

    def look(self) -> bool:
        """See how much is set aside now: an operator may have removed some; return whether that has changed."""
        before, self.damaged_bytes = self.damaged_bytes, damaged_bytes(self._folder)
        return self.damaged_bytes != before

    def make(self, database: SpoolDatabase, body_bytes: int) -> bool:
        """Return whether a body fits beside the log that its transaction may need; the oldest may have to go for it."""
        size = _stored_bytes(body_bytes)
        log_bytes = max(_WAL_GROUPS * self.group_bytes, database.wal_bytes + size)
        most_used = self._limits.max_bytes - size - log_bytes - self._reserve.size_bytes
        while database.used_bytes > most_used - self.damaged_bytes:
            if self.damaged_bytes and database.used_bytes <= most_used:
                if not self._is_damaged_removed():
                    return self._is_full()
                continue
            oldest = self._oldest_free(database, 1) if most_used > 0 else []
            if self._limits.when_full == "backpressure" or not oldest:
                return self._is_full()
            database.remove(oldest[0], {"dropped": oldest[0].spans})
            self._trouble.warn("spool is full, its oldest spans are dropped", spans=oldest[0].spans)
        return True

    def expire(self, database: SpoolDatabase) -> bool:
        """Remove what is too old, a bounded part of it at a time; return whether there was anything."""
        if not self._limits.max_age_seconds:
            return False
        free = self._oldest_free(database, _EXPIRED_AT_ONCE)
        age, most = self._time.age_seconds, self._limits.max_age_seconds
        expired = [stored for stored in free if age(stored.spooled) > most]
        if not expired:
            return False
        try:
            database.begin()
            for stored in expired:
                database.remove(stored, {"expired": stored.spans})
            database.commit()
        except BaseException:
            database.rollback()
            raise
        self._trouble.warn("spooled spans expired", spans=sum(stored.spans for stored in expired))
        return True

    def _is_full(self) -> bool:
        self._trouble.warn("spool is full, spans wait in the rings", max_bytes=self._limits.max_bytes)
        return False

    def _is_damaged_removed(self) -> bool:
        """Remove the oldest of what was set aside, which is counted as damaged; return whether that helps."""
        try:
            removed = remove_oldest_damaged(self._folder)
        except OSError as error:
            self._trouble.warn("spool is full, and a damaged file cannot be removed", reason=str(error))
            return False
        before = self.damaged_bytes
        self.look()
        if removed is not None:
            self._trouble.warn("spool is full, the oldest damaged file is removed", removed=str(removed))
        return self.damaged_bytes < before

    def _oldest_free(self, database: SpoolDatabase, most: int) -> list[Stored]:
        return database.oldest(most, self._holds.held())


def _stored_bytes(body_bytes: int) -> int:
    """Return an upper bound of what a body of so many bytes takes in the file."""
    return (body_bytes // (PAGE_BYTES - _PAGE_OVERHEAD_BYTES) + _ROW_PAGES) * PAGE_BYTES
