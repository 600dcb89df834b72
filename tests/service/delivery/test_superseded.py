"""A drain that finds another one at its rings touches them no more, whatever becomes of what it has sent."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import ringbuf
from ringbuf._ringbuf import lib
from tests.consumer import Consumer
from tests.service.draining import LAYOUT, SECONDS, MemoryBackend, SteppedDrain, emit, ring_files

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_is_delivered_after_the_other_was_found_is_not_released(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    drain = SteppedDrain(ring_dir, backend)
    service = drain.service
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter,
        (ring_dir / "other").open("w") as other,
    ):
        emit(emitter, range(5))
        drain.until(lambda: backend.waiting)
        fcntl.flock(other, fcntl.LOCK_EX)
        (ring_dir / "other").rename(ring_dir / "drain.lock")
        monkeypatch.setattr(service._upkeep, "_next_look", 0.0)
        stop = service._delivery.stop

        def deliver_and_stop(_seconds: float) -> bool:
            backend.let_go()
            return stop(SECONDS)  # it would wait for a moment only

        monkeypatch.setattr(service._delivery, "stop", deliver_and_stop)
        assert service.run() == 5
        assert service.is_superseded
        assert service.close()
        assert backend.numbers == list(range(5))
        (path,) = ring_files(ring_dir)
        with Consumer(path, observe=True) as seen:
            assert seen.view().released == 0
            assert seen.view().consumer_state == lib.RB_CONSUMER_ATTACHED
        assert service.accounts.sums()["shop"].pending == 5
        assert service.accounts.sums()["shop"].unaccounted == 0
        other.close()
        with SteppedDrain(ring_dir, backend) as next_drain:
            next_drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == [*range(5), *range(5)]
