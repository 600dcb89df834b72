"""The spool's database with all that may happen to it: full, too old, no disk, damaged. One thread uses it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.log import RepeatedTrouble
from drain.private_folder import ensure_private_folder
from drain.spool.damage import set_aside_database
from drain.spool.database import SpoolDatabase
from drain.spool.open_files import Found
from drain.spool.reserve import Reserve
from drain.spool.room import Room
from drain.spool.sqlite_errors import DamagedError, is_damage, is_full, is_locked
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.spool_sums import SpoolSums
    from drain.spool.database import Addition, Fate, Stored
    from drain.spool.holds import Holds
    from drain.spool.limits import SpoolLimits
    from drain.spool.spool_time import Moment, SpoolTime

RESERVE_NAME: Final = "spool.reserve"

_LARGEST_CHECKPOINT_BYTES: Final = 1 << 20  # what the disk must take at once, if it is full
_CHECKPOINT_SHARE: Final = 32
_PAUSE_SECONDS: Final = 1.0  # after a failed write
_SHRUNK_AT_ONCE: Final = 4096
_SHRUNK_IN_PASSING: Final = 256
_KEPT_FREE_PAGES: Final = 1024


class SpoolLockedError(RingBufferError):
    """Another process has this spool."""


class Removal(NamedTuple):
    """A stored part that is done with, the generation it is of, and what became of its spans.

    Without fates it is as if it had never been stored: its spans are counted where they came from.
    """

    stored: Stored
    generation: int
    fates: Mapping[Fate, int] | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds, as of its last commit.

    Attributes:
        services: the sums of each service.
        batches: how many parts.
        by_destination: of them, how many for each destination.
        body_bytes: of them, compressed.
        file_bytes: of the spool's files, those that were set aside included.
        oldest: when the oldest batch was stored; None without one.
    """

    services: Mapping[str, SpoolSums]
    batches: int = 0
    body_bytes: int = 0
    file_bytes: int = 0
    oldest: Moment | None = None
    by_destination: Mapping[str, int] = field(default_factory=dict)


class SpoolStore:
    """A database that is opened again and again until it can be, and begun anew where it is damaged.

    Args:
        path: of the database; its folder is made with mode 0700 if it is not there.
        limits: what it may take.
        holds: which batches may not be given out, expired or dropped.
        log: a line for each change of state.
        time: for the age of batches.
        clock: seconds that never go back.

    Attributes:
        contents: replaced as a whole, so that any thread may read it.
        found: the sums of the first database that could be opened, before anything of it was lost; empty until then.
        group_bytes: of bodies that should make one transaction.
        set_aside: how many databases were, or had gone.
        is_writable: whether the last write was possible.

    Raises:
        SpoolLockedError: another process has it.
        RingBufferError: the folder is not ours alone.
    """

    def __init__(
        self,
        path: Path,
        limits: SpoolLimits,
        holds: Holds,
        *,
        log: FilteringBoundLogger,
        time: SpoolTime,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._holds = holds
        self._log = log
        self._time = time
        self._clock = clock
        self._database: SpoolDatabase | None = None
        self._removals: list[Removal] = []  # not yet in the database
        self._pause_until = 0.0
        self._fails_with_additions = False
        self._is_contents_old = False
        self._lost: Counter[str] = Counter()  # of databases that are gone, by service; not yet in this one
        self._checkpoint_bytes = min(_LARGEST_CHECKPOINT_BYTES, limits.max_bytes // _CHECKPOINT_SHARE)
        self._reserve = Reserve(path.with_name(RESERVE_NAME), 2 * self._checkpoint_bytes)
        self._room = Room(path.parent, limits, holds, self._reserve, trouble=RepeatedTrouble(log, clock), time=time)
        self.group_bytes = self._room.group_bytes
        self.contents = Contents({})
        self.found: Mapping[str, SpoolSums] = {}
        self._has_found = False
        self.set_aside = 0
        self.is_writable = True
        self._open(is_start=True)

    def write(self, additions: Sequence[Addition], removals: Sequence[Removal]) -> list[Stored | None] | None:
        """Add and remove batches in one transaction.

        Args:
            additions: each is held once it is stored.
            removals: where they cannot be written now, they are later.

        Returns:
            what was added, None for each that found no room; None for all when nothing can be written now.
        """
        self._removals.extend(removals)
        if not (additions or self._removals):
            return []
        if not self._can_write():
            return None
        if additions and not self._reserve.take():
            self._note_failure(OSError("the disk is full"), with_additions=True)
            self._remove_alone()
            return None
        try:
            stored = self._transaction(additions)
        except (sqlite3.Error, DamagedError) as error:
            if self._set_aside_if_damaged(error):
                return self.write(additions, ())
            self._note_failure(error, with_additions=bool(additions))
            if is_full(error):
                self._use_the_reserve()
            self._remove_alone()
            return None
        # Once more: what was written into files that nobody finds again must not be said to be safe.
        generation = self._holds.generation
        try:
            is_safe = self._is_all_there(stored)
        except Exception as error:  # noqa: BLE001 - no memory: what is durable must not look as if it were undone
            self._log.error("spool met an unexpected error after a commit", reason=repr(error))
            is_safe = self._holds.generation == generation
        return stored if is_safe else None

    def take(
        self,
        most: int,
        without: frozenset[int] = frozenset(),
        *,
        newest: bool = False,
        destination: str | None = None,
        only: int | None = None,
    ) -> list[tuple[Stored, bytes]]:
        """Return the oldest parts that nobody holds, with their bodies, and hold them.

        Args:
            most: how many at most.
            without: ids of those that are passed over.
            newest: the newest instead.
            destination: of those that are for this one; None: whatever they are for.
            only: the one with this id, though it rests.
        """
        if self._database is None:
            return []
        taken: list[tuple[Stored, bytes]] = []
        try:
            if only is None:
                passed_over = self._holds.held(destination) | without
                found = self._database.oldest(most, passed_over, newest=newest, destination=destination)
            else:
                one = None if only in self._holds.held(even_resting=True) else self._database.batch(only)
                found = [] if one is None else [one]
            for stored in found:
                taken.append((stored, self._database.body(stored)))
                self._holds.hold(stored)
        except (sqlite3.Error, DamagedError) as error:
            self._holds.let_go(stored for stored, _ in taken)
            if not self._set_aside_if_damaged(error):
                self._note_failure(error, with_additions=False)
            return []
        except BaseException:
            self._holds.let_go(stored for stored, _ in taken)
            raise
        return taken

    def divide(self, stored: Stored, generation: int, parts: Sequence[Addition]) -> Sequence[Stored] | None:
        """Put parts in the place of one, in one transaction.

        Args:
            stored: which part; it is not held any more.
            generation: that it is of.
            parts: have its spans, each once, in its encoding.

        Returns:
            the parts, which nobody holds; none where the one is not there any more; None when nothing can be written.
        """
        if generation != self._holds.generation:
            return ()
        if not self._can_write() or self._database is None:
            return None
        database = self._database
        try:
            database.begin()
            made = database.divide(stored, parts)
            database.commit()
        except (sqlite3.Error, DamagedError) as error:
            self._roll_back(database)
            if self._set_aside_if_damaged(error):
                return ()
            self._note_failure(error, with_additions=True)
            if is_full(error):
                self._use_the_reserve()
            return None
        except BaseException:
            self._roll_back(database)
            raise
        try:
            self._holds.let_go([stored])
            self._note_contents(database)
        except Exception as error:  # noqa: BLE001 - what is durable must not look as if it were undone: it would be sent twice
            self._is_contents_old = True
            self._log.error("spool met an unexpected error after a commit", reason=repr(error))
        return made

    def _roll_back(self, database: SpoolDatabase) -> None:
        with contextlib.suppress(sqlite3.Error):
            database.rollback()

    def tend(self, *, is_idle: bool) -> None:
        """Do what time brings: remove batches that are too old, give pages back.

        Args:
            is_idle: nobody waits.
        """
        if self._database is None or not self._can_write():
            return
        try:
            if self._room.look() or self._is_contents_old:
                self._note_contents(self._database)
                self._is_contents_old = False
            if self._room.expire(self._database):
                self._note_contents(self._database)
            if self._database.is_mostly_free(_KEPT_FREE_PAGES):
                self._database.shrink(_SHRUNK_AT_ONCE if is_idle else _SHRUNK_IN_PASSING)
                self._note_contents(self._database)
        except (sqlite3.Error, DamagedError) as error:
            if not self._set_aside_if_damaged(error):
                self._note_failure(error, with_additions=False)

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()

    # ---- transactions ----

    def _can_write(self) -> bool:
        if self._clock() < self._pause_until:
            return False
        if self._database is None:
            self._open()
        else:
            self._is_all_there()
        return self._database is not None

    def _transaction(self, additions: Sequence[Addition]) -> list[Stored | None]:
        database = self._database
        assert database is not None, "`_can_write` has opened it"  # noqa: S101 - for mypy
        removals = [removal for removal in self._removals if removal.generation == self._holds.generation]
        stored: list[Stored | None] = []
        try:
            database.begin()
            for removal in removals:
                database.remove(removal.stored, removal.fates)
            stored.extend(self._add(database, addition) for addition in additions)
            database.commit()
        except BaseException:
            self._holds.let_go(kept for kept in stored if kept is not None)
            database.rollback()
            raise
        self._removals.clear()
        try:
            self._note_commit(database, removals, with_additions=bool(additions))
        except Exception as error:  # noqa: BLE001 - what is durable must not look as if it were undone: it would be stored twice
            self._is_contents_old = True
            with contextlib.suppress(Exception):  # what is gone and held for ever would hide one that waits
                self._holds.let_go([removal.stored for removal in removals])
            self._log.error("spool met an unexpected error after a commit", reason=repr(error))
        return stored

    def _note_commit(self, database: SpoolDatabase, removals: Sequence[Removal], *, with_additions: bool) -> None:
        self._holds.let_go([removal.stored for removal in removals])
        self._note_contents(database)
        self._note_success(with_additions=with_additions)

    def _use_the_reserve(self) -> None:
        """Let the log be written back and used again; what there is to remove then finds room in it."""
        self._reserve.give_up()
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):  # then the disk was filled up faster
                self._database.checkpoint()

    def _remove_alone(self) -> None:
        """Remove what is to be removed, where additions have no room: that may be what makes some."""
        if not self._removals:
            return
        try:
            self._transaction(())
        except (sqlite3.Error, DamagedError) as error:
            self._set_aside_if_damaged(error)  # other trouble was noted

    def _add(self, database: SpoolDatabase, addition: Addition) -> Stored | None:
        if not self._room.make(database, len(addition.body)):
            return None
        stored = database.add(self._time.now(), *addition)
        self._holds.hold(stored)
        return stored

    # ---- what may happen ----

    def _open(self, *, is_start: bool = False) -> None:
        try:
            ensure_private_folder(self._path.parent)
            self._room.look()
            database = SpoolDatabase(self._path, self._checkpoint_bytes, 2 * self.group_bytes, self.contents.services)
            try:
                if not self._has_found:
                    self._has_found = True
                    self.found, self.contents = database.sums, Contents(database.sums)
                self._count_lost(database)
                self._note_contents(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        except (sqlite3.Error, DamagedError, OSError, RingBufferError) as error:
            if is_start and isinstance(error, RingBufferError):
                raise
            if is_start and is_locked(error):
                raise SpoolLockedError(f"{self._path}: another process has this spool") from error
            if is_full(error) and self._reserve.held_bytes:  # to open it SQLite has to write
                self._reserve.give_up()
                self._open(is_start=is_start)
            elif not self._set_aside_if_damaged(error):
                self._note_failure(error, with_additions=False)
            return
        waiting = sum(sums.waiting for sums in self.contents.services.values())
        self._log.info("spool opened", batches=self.contents.batches, waiting=waiting)

    def _count_lost(self, database: SpoolDatabase) -> None:
        if self._lost and not database.is_new:  # a new one has them among the sums that were carried
            database.begin()
            for service, spans in self._lost.items():
                database.count_lost(service, spans)
            database.commit()
        self._lost.clear()

    def _is_all_there(self, just_stored: Sequence[Stored | None] = ()) -> bool:
        """Look whether the files are still there under their names; begin anew where they are not.

        Args:
            just_stored: what nobody was told of yet: it is not lost where it came from.

        Returns:
            whether everything that was stored is safe.
        """
        database = self._database
        found = Found.AS_LEFT if database is None else database.files.look()
        if database is None or found is Found.AS_LEFT:
            return True
        if found is Found.NOT_THE_DATABASE:
            self._begin_anew(database, just_stored)
        elif found is Found.NOT_THE_LOG and self._is_log_rescued(database):
            self._log.warning("spool's write-ahead log was removed or replaced: nothing is lost, it is begun anew")
            self._close_database()
            self._open()
            return self._database is not None
        else:
            self._forget_untold(database, just_stored)
            self._set_aside_if_damaged(DamagedError(found.value))
        return False

    def _is_log_rescued(self, database: SpoolDatabase) -> bool:
        try:
            return database.rescue_log()
        except (sqlite3.Error, DamagedError):
            return False

    def _begin_anew(self, database: SpoolDatabase, just_stored: Sequence[Stored | None]) -> None:
        self._close_database()
        database.files.remove_log()
        self._forget_untold(database, just_stored)
        lost = self._lose_everything()
        self._log.error(
            "spool's files were removed or replaced: what was in it is lost, a new one is begun", spans=lost
        )
        self._open()

    def _set_aside_if_damaged(self, error: Exception) -> bool:
        """Set a damaged database aside and open a new one, which goes on with its sums; return whether it was that."""
        if not is_damage(error):
            return False
        self._close_database()
        try:
            kept = set_aside_database(self._path)
        except OSError as second:
            self._note_failure(second, with_additions=False)
            return False
        lost = self._lose_everything()
        self._log.error(
            "spool is damaged: set aside, a new one is begun",
            reason=str(error),
            spans=lost,
            recover=f"ringbuf-drain replay {kept}",
        )
        self._open()
        return self._database is not None

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _forget_untold(self, database: SpoolDatabase, just_stored: Sequence[Stored | None]) -> None:
        services = dict(database.sums)
        for stored in just_stored:
            for service, spans in stored.services.items() if stored is not None else ():
                services[service] = services[service].plus({"spooled": -spans, "waiting": -spans})
        self.contents = Contents(services)

    def _lose_everything(self) -> int:
        """Count what waits as damaged; return how many spans that are."""
        lost = {service: sums.waiting for service, sums in self.contents.services.items() if sums.waiting}
        self._holds.begin_generation()
        self.set_aside += 1
        self._lost.update(lost)
        self.contents = Contents(
            {
                service: sums.plus({"damaged": lost.get(service, 0), "waiting": -lost.get(service, 0)})
                for service, sums in self.contents.services.items()
            }
        )
        return sum(lost.values())

    def _note_failure(self, error: Exception, *, with_additions: bool) -> None:
        self._pause_until = self._clock() + _PAUSE_SECONDS
        self._fails_with_additions = with_additions
        if self.is_writable:
            self.is_writable = False
            self._log.error("spool cannot be used, spans wait in the rings", reason=str(error))

    def _note_success(self, *, with_additions: bool) -> None:
        """On a full disk removals find room where additions find none: they prove nothing then."""
        if not self.is_writable and (with_additions or not self._fails_with_additions):
            self.is_writable = True
            self._log.info("spool works again")

    def _note_contents(self, database: SpoolDatabase) -> None:
        oldest = database.oldest(1)
        self.contents = Contents(
            database.sums,
            database.batches,
            database.body_bytes,
            database.file_bytes + self._reserve.held_bytes + self._room.damaged_bytes,
            oldest[0].spooled if oldest else None,
            database.by_destination,
        )
