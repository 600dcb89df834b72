"""wait_drained says what is known: nothing of a ring that has gone with spans in it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import Consumer, records_in, rings_in
from tests.process.test_doorbell import open_doorbell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 120.0  # seconds


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=64) as made:
        assert site(OpType.FBMU_READ, emitter=made).emit(LeaseId(1), 1, 2)
        yield made
        made.close()


def test_a_drained_ring_is_drained(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    assert not emitter.wait_drained(0.01)
    drain = threading.Timer(0.05, records_in, [ring_dir])
    drain.start()
    assert emitter.wait_drained(PATIENCE)
    drain.join()


def test_who_waits_rings_as_the_drain_may_let_more_gather(ring_dir: Path) -> None:
    bell = open_doorbell(ring_dir / "doorbell")
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=64) as made:
        assert made.wait_drained(0)
        before = lib.rb_doorbell_value(bell)
        assert made.wait_drained(0)
        assert lib.rb_doorbell_value(bell) == before, "there is nothing to wait for"
        assert site(OpType.FBMU_READ, emitter=made).emit(LeaseId(1), 1, 2)
        assert not made.wait_drained(0)
        assert lib.rb_doorbell_value(bell) == before + 1
        records_in(ring_dir)


def test_so_does_who_had_a_ring_before_there_was_a_doorbell(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=64) as made:
        assert site(OpType.FBMU_READ, emitter=made).emit(LeaseId(1), 1, 2)
        bell = open_doorbell(ring_dir / "doorbell")
        before = lib.rb_doorbell_value(bell)
        assert not made.wait_drained(0)
        assert lib.rb_doorbell_value(bell) == before + 1
        records_in(ring_dir)


def test_a_ring_that_has_gone_was_not_drained(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    rings_in(ring_dir)[0].unlink()
    assert not emitter.wait_drained(PATIENCE)
    assert emitter.stats().pending == 0  # the ring that was made since
    assert emitter.wait_drained(0)


def test_a_ring_that_goes_while_it_is_waited_for_was_not_drained(
    emitter: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []

    def lose(_seconds: float) -> None:
        if not removed:
            removed.append(rings_in(ring_dir)[0])
            removed[0].unlink()
            emitter.stats()  # makes another, as each thread may at any time

    monkeypatch.setattr(time, "sleep", lose)
    assert not emitter.wait_drained(PATIENCE)
    assert removed


def test_a_drained_ring_that_has_gone_was_drained(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        consumer.take_all()
    path.unlink()
    assert emitter.wait_drained(0)


def test_a_closed_ring_is_waited_for_too(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.close()
    assert not emitter.wait_drained(0.01)

    def drain_and_remove() -> None:
        records_in(ring_dir)
        rings_in(ring_dir)[0].unlink()

    drain = threading.Timer(0.05, drain_and_remove)
    drain.start()
    assert emitter.wait_drained(PATIENCE)
    drain.join()
