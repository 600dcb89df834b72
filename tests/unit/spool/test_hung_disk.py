"""A disk that hangs holds up the spool's own thread, and nobody else for long; what it does is said."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from drain.accounting.spool_sums import SpoolSums
from drain.spool import spool as module
from drain.spool.store import SpoolStore
from tests.unit.spool.bench import SECONDS, put_back, request, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.spool.bench import Bench

HANGS = "spool's disk does not answer, spans wait in the rings"
ANSWERS = "spool's disk answers again"


class Disk:
    """Lets each write of a store wait while it hangs; a look of a thread that has nothing to write is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.answers = threading.Event()
        self.is_waited_for = threading.Event()
        self.go_on()

    def hang(self) -> None:
        self._patch.setattr(module, "_TAKE_SECONDS", 0.05)
        self.is_waited_for.clear()
        self.answers.clear()

    def go_on(self) -> None:
        """Answer again: who asks from now on waits for as long as it takes."""
        self._patch.setattr(module, "_TAKE_SECONDS", SECONDS)
        self.answers.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    write = SpoolStore.write

    def write_when_it_answers(store: SpoolStore, *arguments: Any) -> Any:
        if any(arguments):
            disk.is_waited_for.set()
            assert disk.answers.wait(SECONDS)
        return write(store, *arguments)

    monkeypatch.setattr(SpoolStore, "write", write_when_it_answers)
    yield disk
    disk.answers.set()


def test_nobody_waits_long_for_a_disk_that_hangs_and_it_is_said_once(bench: Bench, disk: Disk) -> None:
    spool = bench.open()
    put_back(spool, b"before", 1)
    spool.look()
    assert (spool.status().is_writable, spool.can_take(""), spool.room() > 0) == (True, True, True)
    disk.hang()
    spool.put(request())
    assert disk.is_waited_for.wait(SECONDS)
    assert spool.take() == []
    spool.look()
    assert HANGS not in bench.events
    bench.clock.seconds += 4
    for _ in range(3):
        spool.look()
    assert bench.events.count(HANGS) == 1
    assert (spool.status().is_writable, spool.can_take(""), spool.room()) == (False, False, 0)
    disk.go_on()
    assert settled(spool).is_writable
    spool.look()
    assert bench.events.count(ANSWERS) == 1
    assert [entry.request.body for entry in spool.take(9)] == [b"before"], "who did not wait does not hold it"


def test_what_is_cancelled_or_withdrawn_is_counted_as_never_stored(bench: Bench, disk: Disk) -> None:
    spool = bench.open()
    disk.hang()
    begun = spool.put(request())
    assert disk.is_waited_for.wait(SECONDS)
    waiting = spool.put(request(spans=5))
    assert waiting.cancel()
    assert not begun.cancel()
    disk.go_on()
    entry = begun.result(SECONDS)
    assert settled(spool).services == {"shop": SpoolSums(spooled=3, waiting=3)}
    spool.withdraw(entry)
    status = settled(spool)
    assert (status.services, status.batches, status.held) == ({"shop": SpoolSums()}, 0, 0)


def test_no_more_batches_than_a_few_wait_for_the_disk(bench: Bench, disk: Disk) -> None:
    spool = bench.open()
    disk.hang()
    spool.put(request())
    assert disk.is_waited_for.wait(SECONDS)
    put = 0
    while spool.room():
        spool.put(request())
        put += 1
        assert put < 100
    disk.go_on()
