"""A row of the spool is a part: it keeps its destination, and is found by it; a spool of before has one destination."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.accounting.sums import MAX_SERVICES, OTHER_SERVICES
from drain.otlp.batch_number import BatchNumber
from drain.otlp.request import Request
from drain.spool.database import SpoolDatabase
from drain.spool.limits import SpoolLimits
from drain.spool.schema import PLACE
from drain.spool.spool_time import this_moment
from tests.unit.spool.bench import MEBIBYTE, SECONDS, settled

if TYPE_CHECKING:
    from tests.unit.spool.bench import Bench

# 4 spans of "shop" delivered and rejected; waiting: 3 of "shop" and "bank" in protobuf, 5 of "shop" in JSON. Written by
# 0.1.0 as it was before a row had a destination.
SPOOL_OF_BEFORE = Path(__file__).parent / "spools_of_before" / "0.1.0.db.gz"


def part(body: bytes, destination: str) -> Request:
    return Request(body, 1, "protobuf", destination, {"shop": 1})


@pytest.fixture
def database(tmp_path: Path) -> SpoolDatabase:
    database = SpoolDatabase(tmp_path / "spool.db", MEBIBYTE, MEBIBYTE)
    database.begin()
    for number, destination in enumerate(("1", "0", "1", "2")):
        database.add(this_moment(), "protobuf", {"shop": 1}, b"%d" % number, destination)
    database.commit()
    return database


def bodies(database: SpoolDatabase, destination: str | None, *, newest: bool = False) -> list[bytes]:
    return [database.body(stored) for stored in database.oldest(9, {1}, newest=newest, destination=destination)]


def test_parts_are_found_by_their_destination(database: SpoolDatabase) -> None:
    assert bodies(database, None) == [b"1", b"2", b"3"]
    assert [bodies(database, destination) for destination in ("0", "1", "2", "3")] == [[b"1"], [b"2"], [b"3"], []]
    assert bodies(database, None, newest=True) == [b"3", b"2", b"1"]


def test_parts_are_counted_by_their_destination_as_of_the_last_commit(database: SpoolDatabase, tmp_path: Path) -> None:
    assert database.by_destination == {"0": 1, "1": 2, "2": 1}
    before = database.by_destination
    database.begin()
    for stored in database.oldest(2):
        database.remove(stored, {"delivered": 1})
    database.add(this_moment(), "protobuf", {"shop": 1}, b"4", "3")
    assert database.by_destination == before, "it may be undone"
    database.commit()
    assert database.by_destination == {"1": 1, "2": 1, "3": 1}
    assert before == {"0": 1, "1": 2, "2": 1}, "whoever has the old one reads it without a lock"
    database.begin()
    database.remove(database.oldest(1)[0], None)
    database.rollback()
    assert database.by_destination == {"1": 1, "2": 1, "3": 1}
    database.close()
    again = SpoolDatabase(tmp_path / "spool.db", MEBIBYTE, MEBIBYTE)
    assert again.by_destination == {"1": 1, "2": 1, "3": 1}
    again.close()


@pytest.mark.parametrize("which", ["", "WHERE destination = '7'"])
@pytest.mark.parametrize("order", ["ASC", "DESC"])
def test_the_search_for_the_oldest_passes_nothing_over(
    database: SpoolDatabase, tmp_path: Path, which: str, order: str
) -> None:
    database.close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        (plan,) = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT id FROM batch {which} ORDER BY {PLACE} {order}, id {order}"  # noqa: S608 - of this test
        )
    assert ("batch_by_destination_and_place (destination=?)" if which else "USING INDEX batch_by_place") in plan[3]


def test_pieces_have_the_age_and_the_place_of_the_part_that_was_put(bench: Bench) -> None:
    spool = bench.open(SpoolLimits(64 * MEBIBYTE, max_age_seconds=100))
    first = spool.put(Request(b"first", 2, "protobuf", "1", {"shop": 2})).result(SECONDS)
    bench.clock.seconds += 50
    # More than are looked at when what is too old is removed.
    later = [spool.put(part(b"later", "1")) for _ in range(300)]
    for future in later:
        spool.back(future.result(SECONDS))
    spool.divide(first, [part(b"one", "2"), part(b"two", "1")])
    (again,) = spool.take(destination="2")
    spool.divide(again, [part(b"three", "1")])
    assert spool.status().oldest_age_seconds == 50
    assert [entry.request.body for entry in spool.take(3, destination="1")] == [b"two", b"three", b"later"]
    spool.close()
    bench.clock.seconds += 60
    spool = bench.open(SpoolLimits(64 * MEBIBYTE, max_age_seconds=100))
    sums = settled(spool).services["shop"]
    assert (sums.expired, sums.waiting) == (2, 300)


def test_pieces_of_more_services_than_are_told_apart_add_up(bench: Bench) -> None:
    spool = bench.open()
    known = [Request(b"known", 1, "protobuf", "1", {f"service {number}": 1}) for number in range(MAX_SERVICES)]
    for future in [spool.put(request) for request in known]:
        future.result(SECONDS)
    whole = {"service 0": 1, "late 1": 2, "late 2": 3}
    entry = spool.put(Request(b"whole", 6, "protobuf", "1", whole)).result(SECONDS)
    pieces = [{"service 0": 1, "late 2": 1}, {"late 1": 2, "late 2": 2}]
    spool.divide(entry, [Request(b"piece", sum(one.values()), "protobuf", "2", one) for one in pieces])
    found = [taken.request.services for taken in spool.take(2, destination="2")]
    assert found == [{"service 0": 1, OTHER_SERVICES: 1}, {OTHER_SERVICES: 4}]
    assert spool.status().services[OTHER_SERVICES].waiting == 5


def test_a_spool_of_before_is_delivered_and_goes_on(bench: Bench) -> None:
    bench.folder.mkdir(mode=0o700)
    (bench.folder / "spool.db").write_bytes(gzip.decompress(SPOOL_OF_BEFORE.read_bytes()))
    spool = bench.open()
    assert spool.status().services == {
        "bank": SpoolSums(spooled=2, waiting=2),
        "shop": SpoolSums(spooled=10, delivered=3, rejected=1, waiting=6),
    }
    spool.back(spool.put(part(b"new", "7")).result(SECONDS))
    entries = spool.take(9)
    assert [entry.request for entry in entries] == [
        Request(b"first", 3, "protobuf"),
        Request(b'{"resourceSpans":[]}\n', 5, "json"),
        part(b"new", "7"),
    ]
    for entry in entries:
        spool.done(entry, Outcome(delivered=entry.request.spans))
    sums = settled(spool).services
    assert (sums["shop"].delivered, sums["bank"].delivered) == (10, 2)
    assert not any(one.waiting or one.unaccounted for one in sums.values())


def test_a_drain_of_before_reads_what_one_of_today_wrote(database: SpoolDatabase, tmp_path: Path) -> None:
    """Its own statements, on the columns that it knows."""
    database.close()
    connection = sqlite3.connect(tmp_path / "spool.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.execute(
        "INSERT INTO batch (spooled_unix_nano, boot_id, boot_nano, encoding, spans, services, body)"
        " VALUES (1, '', 1, 'protobuf', 1, '{\"shop\": 1}', x'00')"
    )
    columns = "id, spooled_unix_nano, boot_id, boot_nano, encoding, spans, services, length(body)"
    rows = connection.execute(f"SELECT {columns} FROM batch ORDER BY id ASC").fetchall()  # noqa: S608 - of this test
    assert len(rows) == 5
    connection.commit()
    connection.close()
    again = SpoolDatabase(tmp_path / "spool.db", MEBIBYTE, MEBIBYTE)
    assert again.by_destination == {"": 1, "0": 1, "1": 2, "2": 1}
    again.close()


def test_the_number_of_a_batch_is_kept_over_a_restart(bench: Bench) -> None:
    number = BatchNumber("00f1e2d3c4b5a697", 7, 100, 512)
    spool = bench.open()
    for batch in (number, None):
        spool.back(spool.put(Request(b"a", 1, "protobuf", services={"shop": 1}, batch=batch)).result(SECONDS))
    spool.close()
    assert [entry.request.batch for entry in bench.open().take(9)] == [number, None]
