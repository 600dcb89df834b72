"""The spool gives back what was put, oldest first, and says what became of every span of it."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

from drain.accounting.outcome import Outcome
from drain.accounting.spool_sums import SpoolSums
from drain.otlp.request import Request
from tests.unit.spool.bench import SECONDS, connection, noise, put, put_back, request, settled
from tests.waiting import until

if TYPE_CHECKING:
    from concurrent.futures import Future

    from drain.spool.database import Addition
    from drain.spool.spool import Entry, Spool
    from drain.spool.spool_time import Moment
    from drain.spool.store import Removal
    from tests.unit.spool.bench import Bench


def test_a_batch_comes_back_as_it_was_put(bench: Bench) -> None:
    spool = bench.open()
    body = noise(100_000)
    put_back(spool, body, 7)
    line = Request(b'{"resourceSpans":[]}\n', 1, "json")
    spool.back(spool.put(line).result(SECONDS))
    part = Request(b"part", 3, "protobuf", "partition 7", {"shop": 1, "bank": 2})
    spool.back(spool.put(part).result(SECONDS))
    entries = spool.take(5)
    assert [entry.request for entry in entries] == [Request(body, 7, "protobuf"), line, part]
    assert entries[2].request.services == {"shop": 1, "bank": 2}


def test_what_became_of_the_spans_adds_up_by_service(bench: Bench) -> None:
    spool = bench.open()
    entry = spool.put(Request(b"body", 10, "protobuf", services={"shop": 6, "bank": 4})).result(SECONDS)
    spool.done(entry, Outcome(delivered=3, rejected=5, dead_lettered=2))
    put(spool, spans=2, service="bank")
    status = settled(spool)
    assert status.services == {
        "shop": SpoolSums(spooled=6, rejected=5, dead_lettered=1),
        "bank": SpoolSums(spooled=6, delivered=3, dead_lettered=1, waiting=2),
    }
    assert [sums.unaccounted for sums in status.services.values()] == [0, 0]
    assert (status.batches, status.held) == (1, 1)


def test_batches_and_sums_outlive_the_process(bench: Bench) -> None:
    spool = bench.open()
    spool.done(put(spool, b"a"), Outcome(delivered=3))
    put(spool, b"b")  # still held when the spool is closed
    assert spool.close(SECONDS)
    bench.clock.seconds += 60
    spool = bench.open()
    status = spool.status()
    assert status.services == {"shop": SpoolSums(spooled=6, delivered=3, waiting=3)}
    assert (status.batches, status.oldest_age_seconds) == (1, 60)
    assert [entry.request.body for entry in spool.take(5)] == [b"b"]


def test_what_became_of_a_batch_is_heard_behind_the_stop_by_which_it_was_stored(bench: Bench) -> None:
    spool = bench.open()
    write, may_write = spool._store.write, threading.Event()

    def wait_and_write(additions: list[Addition], removals: list[Removal]) -> Any:
        assert may_write.wait(SECONDS)
        return write(additions, removals)

    def stop_and_say(future: Future[Entry]) -> None:  # in the spool's thread
        threading.Thread(target=spool.close).start()
        until(lambda: not spool._jobs.empty())
        spool.done(future.result(), Outcome(delivered=3))

    spool._store.write = wait_and_write  # type: ignore[assignment,method-assign]  # it waits
    spool.put(request()).add_done_callback(stop_and_say)
    may_write.set()
    spool._thread.join(SECONDS)
    assert not spool._thread.is_alive()
    status = bench.open().status()
    assert (status.batches, status.services["shop"]) == (0, SpoolSums(spooled=3, delivered=3))


def test_the_oldest_batch_that_nobody_holds_is_taken_first(bench: Bench) -> None:
    spool = bench.open()
    held = put(spool, b"held")
    for body in (b"1", b"2", b"3"):
        put_back(spool, body)
    (first,) = spool.take()
    assert first.request.body == b"1"
    assert [entry.request.body for entry in spool.take(2)] == [b"2", b"3"]
    assert spool.take() == []
    assert not spool.can_take("")
    spool.back(first)
    spool.back(held)
    assert spool.can_take("")
    assert [entry.request.body for entry in spool.take(9)] == [b"held", b"1"]


def test_a_batch_that_is_to_rest_is_not_taken_before_its_time(bench: Bench) -> None:
    spool = bench.open()
    put_back(spool, b"1")
    put_back(spool, b"2")
    (first,) = spool.take()
    spool.back(first, not_before=bench.clock() + 5)
    assert [entry.request.body for entry in spool.take(9)] == [b"2"]
    assert not spool.can_take("")
    bench.clock.seconds += 5
    assert spool.can_take("")
    assert [entry.request.body for entry in spool.take(9)] == [b"1"]


def test_what_waits_together_becomes_one_transaction(bench: Bench) -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait_at_the_first() -> Moment:
        if spools:
            entered.set()
            assert gate.wait(SECONDS)
        return bench.clock.now()

    spools: list[Spool] = []
    spool = bench.open(now=wait_at_the_first)
    spools.append(spool)
    commits: list[str] = []
    connection(spool).set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    first = spool.put(request())
    assert entered.wait(SECONDS)
    futures = [spool.put(request()) for _ in range(50)]
    gate.set()
    for future in [first, *futures]:
        future.result(SECONDS)
    assert len(commits) == 2


def test_the_law_is_the_schema_s(bench: Bench) -> None:
    spool = bench.open()
    put(spool)
    assert spool.close(SECONDS)
    with sqlite3.connect(bench.folder / "spool.db") as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE service SET delivered = delivered + 1")
    database.close()


def test_saying_twice_what_became_of_a_batch_counts_once(bench: Bench) -> None:
    spool = bench.open()
    entry = put(spool)
    spool.done(entry, Outcome(delivered=3))
    spool.done(entry, Outcome(delivered=3))
    assert settled(spool).services == {"shop": SpoolSums(spooled=3, delivered=3)}
    assert settled(spool).set_aside == 0


def test_an_outcome_that_does_not_add_up_is_refused(bench: Bench) -> None:
    spool = bench.open()
    with pytest.raises(ValueError, match="does not add up to 3"):
        spool.done(put(spool), Outcome(delivered=2))


def test_closing_does_the_jobs_that_wait(bench: Bench) -> None:
    spool = bench.open()
    futures = [spool.put(request(noise(100_000), 1)) for _ in range(50)]
    assert spool.close(SECONDS)
    assert all(future.done() and future.exception() is None for future in futures)
