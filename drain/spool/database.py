"""The spool's file: parts of batches in an SQLite database, and beside them what became of every span that was in one.

    spooled = delivered + rejected + dead_lettered + expired + dropped + damaged + waiting

The law is a CHECK of the table `service`, and a row of `batch` comes and goes in the transaction that counts it: no
kill and no loss of power can part the two.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from drain.accounting.spool_sums import SPOOL_SUM_NAMES, SpoolSums
from drain.accounting.sums import MAX_SERVICES, OTHER_SERVICES
from drain.otlp.batch_number import BatchNumber
from drain.spool.open_files import OpenFiles
from drain.spool.schema import NEW_SERVICE, PAGE_BYTES, PLACE, make_or_migrate, open_connection
from drain.spool.spool_time import Moment
from drain.spool.sqlite_errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path

    from drain.otlp.request import Encoding

Fate = Literal["delivered", "rejected", "dead_lettered", "expired", "dropped", "damaged"]

_ADD_TO_SERVICE: Final = (
    f"UPDATE service SET {', '.join(f'{name} = {name} + ?' for name in SPOOL_SUM_NAMES)} WHERE name = ?"  # noqa: S608 - names that are written in the code
)
_STORED_COLUMNS: Final = (
    "id, spooled_unix_nano, boot_id, boot_nano, encoding, destination, number, spans, services, length(body), cut_from"
)


class Addition(NamedTuple):
    """A part to be stored: its encoding, the spans of each service, its compressed body, its destination and number."""

    encoding: Encoding
    services: Mapping[str, int]
    body: bytes
    destination: str = ""
    number: BatchNumber | None = None


class Stored(NamedTuple):
    """A part in the database, without its body.

    Attributes:
        id: larger than those of all that were inserted before.
        spooled: when it was put.
        encoding: of the request.
        destination: of the request.
        number: of the batch, with the place in it; None: it was not numbered.
        spans: how many it has.
        services: how many of them each service has.
        body_bytes: as stored, compressed.
        cut_from: of a piece, the id of the part that was put, whose age and place it has; None: it is no piece.
    """

    id: int
    spooled: Moment
    encoding: Encoding
    destination: str
    number: BatchNumber | None
    spans: int
    services: Mapping[str, int]
    body_bytes: int
    cut_from: int | None = None


class SpoolDatabase:
    """An open database; one thread at a time uses it, and no other process can.

    Args:
        path: made with mode 0600 if it is not there.
        checkpoint_bytes: of the write-ahead log after which it is written back.
        wal_bytes: of the log's file that are kept when it has been larger.
        carried: sums to begin a new database with.

    Attributes:
        sums: by service, as of the last commit.
        batches: how many parts are stored, as of the last commit.
        by_destination: of them, how many for each destination; a new mapping with each commit.
        body_bytes: of their bodies together.
        files: the database and its log, as they were left.
        is_new: whether it was begun now, with the sums that were carried.

    Raises:
        sqlite3.Error: it cannot be opened; `sqlite_errors` tells the kinds apart.
        DamagedError: it is a database, but no spool.
        OSError: the file cannot be made.
    """

    def __init__(
        self, path: Path, checkpoint_bytes: int, wal_bytes: int, carried: Mapping[str, SpoolSums] | None = None
    ) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._connection = open_connection(path, checkpoint_bytes, wal_bytes)
        try:
            self.is_new = make_or_migrate(self._connection, carried or {})
            self.sums = self._read_sums()
            self.batches, self.body_bytes = self._one("SELECT batches, body_bytes FROM queue")
            self.by_destination = self._read_destinations()
        except BaseException:
            self._connection.close()
            raise
        self.files = OpenFiles(path, self._wal)
        self._changes: dict[str, Counter[str]] = {}
        self._parts_change: Counter[str] = Counter()  # by destination
        self._body_bytes_change = 0

    def begin(self) -> None:
        """Begin a transaction."""
        self._forget_changes()
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable, and its sums those of this object."""
        for service, change in self._changes.items():
            values = (*(change[name] for name in SPOOL_SUM_NAMES), service)
            if not self._connection.execute(_ADD_TO_SERVICE, values).rowcount:
                self._connection.execute(NEW_SERVICE, values)
        self._connection.execute(
            "UPDATE queue SET batches = batches + ?, body_bytes = body_bytes + ?",
            (self._parts_change.total(), self._body_bytes_change),
        )
        changed = {
            service: self.sums.get(service, SpoolSums()).plus(change) for service, change in self._changes.items()
        }
        sums = {**self.sums, **changed}  # a new one each time: whoever has the old one reads it without a lock
        by_destination = Counter(self.by_destination)
        by_destination.update(self._parts_change)
        by_destination = +by_destination  # without those that have none any more
        self._connection.execute("COMMIT")
        # Nothing here that may raise: what is durable is not to look as if it were undone.
        self.sums = sums
        self.batches += self._parts_change.total()
        self.by_destination = by_destination
        self.body_bytes += self._body_bytes_change
        self._changes = {}
        with contextlib.suppress(Exception):
            self.files.note_sizes()

    def rollback(self) -> None:
        """Undo the transaction, if one is open: some errors of SQLite have ended it already."""
        self._forget_changes()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.files.note_sizes()

    def add(
        self,
        now: Moment,
        encoding: Encoding,
        services: Mapping[str, int],
        body: bytes,
        destination: str = "",
        number: BatchNumber | None = None,
    ) -> Stored:
        """Store a part as the newest.

        Args:
            now: the moment that it is.
            encoding: of the request.
            services: how many spans each service has in it.
            body: compressed.
            destination: of the request.
            number: of the request.
        """
        services = self._within_bound(services)
        for service, count in services.items():
            self._change(service, spooled=count, waiting=count)
        return self._insert(now, Addition(encoding, services, body, destination, number))

    def divide(self, stored: Stored, parts: Sequence[Addition]) -> list[Stored]:
        """Put parts in the place of one: as old as that, and counted once as it was.

        Args:
            stored: which part.
            parts: have its spans.

        Returns:
            the parts; none where the one is not there any more.

        Raises:
            ValueError: their spans of each service do not add up to its own, or they are in another encoding.
        """
        if not self._connection.execute("DELETE FROM batch WHERE id = ?", (stored.id,)).rowcount:
            return []
        # Those beyond the bound were put down to others when it was stored.
        shares = [_within(stored.services, part.services) for part in parts]
        services = sum(shares, Counter())
        if services != Counter(stored.services) or any(part.encoding != stored.encoding for part in parts):
            raise ValueError(f"{services} in the place of {stored.services}")
        self._parts_change[stored.destination] -= 1
        self._body_bytes_change -= stored.body_bytes
        origin = stored.id if stored.cut_from is None else stored.cut_from
        return [
            self._insert(stored.spooled, part._replace(services=dict(share)), cut_from=origin)
            for part, share in zip(parts, shares, strict=True)
        ]

    def _insert(self, spooled: Moment, part: Addition, cut_from: int | None = None) -> Stored:
        encoding, services, body, destination, number = part
        spans, text = sum(services.values()), "" if number is None else number.text()
        cursor = self._connection.execute(
            "INSERT INTO batch (spooled_unix_nano, boot_id, boot_nano, encoding, destination, number, cut_from, spans,"
            " services, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*spooled, encoding, destination, text, cut_from, spans, json.dumps(services), body),
        )
        self._parts_change[destination] += 1
        self._body_bytes_change += len(body)
        identity = cast("int", cursor.lastrowid)
        return Stored(identity, spooled, encoding, destination, number, spans, services, len(body), cut_from)

    def remove(self, stored: Stored, fates: Mapping[Fate, int] | None) -> None:
        """Remove a part and count what became of its spans.

        Args:
            stored: which part.
            fates: how many spans met which; adds up to `stored.spans`. Which service met which is not known where
                there are several: they are put down to the first services. None: it is counted as never stored.
        """
        if not self._connection.execute("DELETE FROM batch WHERE id = ?", (stored.id,)).rowcount:
            return  # and counted, before
        left = dict(fates or {})
        for service, spans in stored.services.items():
            if fates is None:
                self._change(service, spooled=-spans, waiting=-spans)
            unassigned = spans
            for fate, count in left.items():
                part = min(unassigned, count)
                left[fate] -= part
                unassigned -= part
                self._change(service, **{fate: part, "waiting": -part})
        self._parts_change[stored.destination] -= 1
        self._body_bytes_change -= stored.body_bytes

    def count_lost(self, service: str, spans: int) -> None:
        """Count spans that were stored in a database that is gone."""
        self._change(service, spooled=spans, damaged=spans)

    def oldest(
        self,
        most: int,
        without: Container[int] = frozenset(),
        *,
        newest: bool = False,
        destination: str | None = None,
    ) -> list[Stored]:
        """Return the oldest parts.

        Args:
            most: how many at most.
            without: ids of those that are passed over.
            newest: the newest instead, the last first.
            destination: of those that are for this one; None: whatever they are for.

        Raises:
            DamagedError: a row is none that a spool wrote.
        """
        order = "DESC" if newest else "ASC"
        which = "" if destination is None else "WHERE destination = ?"
        rows = self._connection.execute(
            f"SELECT {_STORED_COLUMNS} FROM batch {which} ORDER BY {PLACE} {order}, id {order}",  # noqa: S608 - names that are written in the code
            () if destination is None else (destination,),
        )
        try:
            return [_stored(row) for row in islice((row for row in rows if row[0] not in without), most)]
        finally:
            rows.close()  # of a reading that goes on, no log can be written back

    def batch(self, identity: int) -> Stored | None:
        """Return the part that has this id; None: it is not there, or not any more.

        Raises:
            DamagedError: its row is none that a spool wrote.
        """
        row = self._connection.execute(f"SELECT {_STORED_COLUMNS} FROM batch WHERE id = ?", (identity,)).fetchone()  # noqa: S608 - names that are written in the code
        return None if row is None else _stored(row)

    def body(self, stored: Stored) -> bytes:
        """Return the stored body of a part."""
        (body,) = self._one("SELECT body FROM batch WHERE id = ?", stored.id)
        if not isinstance(body, bytes):
            raise DamagedError(f"the body of batch {stored.id} is {type(body).__name__}")
        return body

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold something; the open transaction's are included."""
        (pages,), (free,) = self._one("PRAGMA page_count"), self._one("PRAGMA freelist_count")
        return cast("int", (pages - free) * PAGE_BYTES)

    @property
    def file_bytes(self) -> int:
        """Bytes of its file, pages that hold nothing included, and of the write-ahead log's."""
        return _size_of(self._path) + self.wal_bytes

    @property
    def wal_bytes(self) -> int:
        """Bytes of the write-ahead log's file."""
        return _size_of(self._wal)

    def shrink(self, most_pages: int) -> None:
        """Give at most so many free pages back to the file system."""
        # Each step of this statement frees one page and shows no column: `execute` would stop after the first.
        self._connection.executescript(f"PRAGMA incremental_vacuum({most_pages})")
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write the write-ahead log back, so that its file can be used from its start."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            self.files.note_sizes()  # one that fails may have cut the file already

    def rescue_log(self) -> bool:
        """Write all of the log back, whatever has its name now; return whether the database has everything then."""
        (is_busy, _, _) = self._one("PRAGMA wal_checkpoint(TRUNCATE)")
        return not is_busy

    def is_mostly_free(self, least_pages: int) -> bool:
        """Return whether more pages hold nothing than something, and more than so many."""
        (pages,), (free,) = self._one("PRAGMA page_count"), self._one("PRAGMA freelist_count")
        return bool(free > max(least_pages, pages // 2))

    def close(self) -> None:
        """Close the database; an open transaction is undone."""
        self._connection.close()

    def _read_sums(self) -> dict[str, SpoolSums]:
        rows = self._connection.execute(f"SELECT name, {', '.join(SPOOL_SUM_NAMES)} FROM service").fetchall()  # noqa: S608 - names that are written in the code
        if not all(isinstance(row[0], str) and all(isinstance(count, int) for count in row[1:]) for row in rows):
            raise DamagedError("a sum is not a number")
        return {row[0]: SpoolSums(*row[1:]) for row in rows}

    def _read_destinations(self) -> Counter[str]:
        rows = self._connection.execute("SELECT destination, count(*) FROM batch GROUP BY destination").fetchall()
        if not all(isinstance(destination, str) for destination, _ in rows):
            raise DamagedError("a destination is no text")
        return Counter(dict(rows))

    def _one(self, statement: str, *values: object) -> tuple[Any, ...]:
        row = self._connection.execute(statement, values).fetchone()
        if row is None:
            raise DamagedError(f"no row: {statement}")
        return cast("tuple[Any, ...]", row)

    def _within_bound(self, services: Mapping[str, int]) -> Mapping[str, int]:
        within: Counter[str] = Counter()
        for service, count in services.items():
            is_known = service in self.sums or service in self._changes
            has_room = len(self.sums) + len(self._changes) + len(within) < MAX_SERVICES
            within[service if is_known or has_room else OTHER_SERVICES] += count
        return dict(within)

    def _change(self, service: str, **counts: int) -> None:
        self._changes.setdefault(service, Counter()).update(counts)

    def _forget_changes(self) -> None:
        self._changes = {}
        self._parts_change = Counter()
        self._body_bytes_change = 0


def _within(known: Container[str], services: Mapping[str, int]) -> Counter[str]:
    """Return how many spans each of the known services has; those of others are put down to `OTHER_SERVICES`."""
    within: Counter[str] = Counter()
    for service, count in services.items():
        within[service if service in known else OTHER_SERVICES] += count
    return within


def _stored(row: tuple[Any, ...]) -> Stored:
    identity, unix_nano, boot_id, boot_nano, encoding, destination, number, spans, text, body_bytes, cut_from = row
    try:
        services = json.loads(text)
        counts = (unix_nano, boot_nano, body_bytes, *services.values())
    except (ValueError, TypeError, AttributeError):
        raise DamagedError(f"the row of batch {identity} is not sound") from None
    are_numbers = all(isinstance(count, int) for count in counts) and isinstance(cut_from, int | None)
    are_texts = all(isinstance(value, str) for value in (boot_id, destination, number))
    is_sound = are_numbers and are_texts and sum(services.values()) == spans
    if encoding not in {"protobuf", "json"} or not is_sound:
        raise DamagedError(f"the row of batch {identity} is not sound")
    when = Moment(unix_nano, boot_id, boot_nano)
    number = BatchNumber.parse(number)
    return Stored(identity, when, encoding, destination, number, spans, services, body_bytes, cut_from)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
