"""What the pages promise for "within a second" and "20 milliseconds", by clocks that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from drain.rings.watch import Watch
from drain.service.service import Service
from ringbuf._ringbuf import lib
from tests.clocks import Clock
from tests.service.c_producer import CProducer
from tests.service.draining import ANY_RING, LAYOUT, SMALL, MemoryBackend, SteppedDrain, emit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def drain(ring_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SteppedDrain]:
    """Return a drain whose rounds see the clock, which moves only by the test."""

    def made(*arguments: Any, **named: Any) -> Service:
        return Service(*arguments, **named, clock=clock)

    monkeypatch.setattr("tests.service.draining.Service", made)
    with SteppedDrain(ring_dir, MemoryBackend(), SMALL, ANY_RING) as drain:
        drain.service._round()
        yield drain


def test_what_is_removed_is_made_anew_within_a_second(ring_dir: Path, clock: Clock, drain: SteppedDrain) -> None:
    for name in ("drain.lock", "doorbell"):
        (ring_dir / name).unlink()
    (ring_dir / "quarantine").rmdir()
    clock.now += 1.0
    drain.service._round()
    assert {path.name for path in ring_dir.iterdir()} == {"drain.lock", "doorbell", "quarantine"}


def test_a_producer_that_is_gone_is_seen_within_a_second(ring_dir: Path, clock: Clock, drain: SteppedDrain) -> None:
    producer = CProducer(ring_dir)
    clock.now += 1.0
    drain.service._round()
    (ring,) = drain.service._reader.rings
    assert ring.life.value == "alive"
    lib.rb_producer_free(producer._producer)  # without a close: as after a kill
    clock.now += 1.0
    drain.service._round()
    assert ring.life.value == "ending"


def test_naps_are_as_short_as_the_page_says(
    ring_dir: Path, clock: Clock, drain: SteppedDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def sleep(_watch: Watch, _doorbell: object, _value: int, nap: float, _seconds: float) -> bool:
        naps.append(nap)
        return False

    monkeypatch.setattr(Watch, "sleep", sleep)
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1) as emitter:
        for number in range(20):
            clock.now += 1.0
            if number == 10:
                emit(emitter, range(3))
            if not drain.service._round():
                drain.service._sleep()
    assert max(naps) == 0.04, "after a silence"
    assert 0.02 in naps
