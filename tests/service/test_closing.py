"""A service closes everything that it has, though one of them raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.rings.directory import RingDirectory
from drain.rings.ring import Ring
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("step", ["close", "give_back", "sums"])
def test_one_ring_that_does_not_close_keeps_no_other_and_no_lock(
    step: str, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitters = [ringbuf.Emitter("shop", layout=LAYOUT, ring_dir=ring_dir, capacity=16) for _ in range(3)]
    drain = SteppedDrain(ring_dir, MemoryBackend())
    drain.until(lambda: len(drain.service._reader.rings) == 3)
    done: list[str] = []
    first, of_ring = next(iter(drain.service._reader.rings)), getattr(Ring, step)

    def fail_once(ring: Ring) -> object:
        is_first = ring is first and first.name not in done
        done.append(ring.name)
        result = of_ring(ring)
        if is_first:
            raise OSError("this one does not")
        return result

    monkeypatch.setattr(Ring, step, fail_once)
    with pytest.raises(OSError, match="this one does not"):
        drain.close()
    assert len(set(done)) == 3, "each"
    RingDirectory(ring_dir).close()  # raises where another has it
    for emitter in emitters:
        emitter.close()
