"""What has several things to close closes all of them, though one of them raises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import ringbuf
from drain.exporters.gateways.gateways import Gateways
from drain.rings.directory import RingDirectory
from drain.rings.ring import Ring
from drain.sampling.hold.hold import Hold
from drain.service.late_sampling import LateSampling
from drain.telemetry.telemetry import Telemetry
from drain.tools.looking.watched_rings import WatchedRings
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


class Part:
    """Something to be closed, which raises where it is to."""

    path = SimpleNamespace(name="a ring")
    encoding, endpoint = "protobuf", "somewhere"

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises
        self.is_closed = False

    def close(self) -> bool:
        self.is_closed = True
        if self.raises:
            raise OSError("this one does not")
        return True


def of_telemetry(parts: list[Any]) -> Any:
    telemetry = Telemetry(lambda: None, max_series=0, log=structlog.get_logger())  # type: ignore[arg-type, return-value]
    telemetry._listener, telemetry._export, telemetry._manager = parts
    return telemetry


def of_hold(parts: list[Any]) -> Any:
    hold = object.__new__(Hold)
    hold._chunks, hold.decisions = parts[:2]
    parts[2].close = None  # there are two
    parts[2].is_closed = True
    return hold


def of_late_sampling(parts: list[Any]) -> Any:
    late = object.__new__(LateSampling)
    late._keep_rates = parts[0].close  # type: ignore[method-assign]
    late._show = lambda: None  # type: ignore[method-assign]
    late.hold = SimpleNamespace(close=lambda: [part.close() for part in parts[1:]])  # type: ignore[assignment]
    return late


def of_watched_rings(parts: list[Any]) -> Any:
    watched = WatchedRings([], None)
    watched.rings = [*parts]
    return watched


def of_gateways(parts: list[Any]) -> Any:
    return Gateways({str(number): part for number, part in enumerate(parts)}, "trace")


@pytest.mark.parametrize("make", [of_telemetry, of_hold, of_late_sampling, of_watched_rings, of_gateways])
def test_the_first_that_does_not_close_keeps_none_of_the_others(make: Any) -> None:
    parts = [Part(raises=number == 0) for number in range(3)]
    with pytest.raises(OSError, match="this one does not"):
        make(parts).close()
    assert [part.is_closed for part in parts] == [True] * 3
