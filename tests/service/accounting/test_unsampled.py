"""AlwaysRecord: what the head did not want is counted in the span metrics, delivered or not, and adds up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog

import ringbuf
from drain.exporters.measured import MeasuredExporter
from drain.rings.ring import Ring
from drain.telemetry.telemetry import Telemetry
from ringbuf._ringbuf import ffi
from ringbuf.exceptions import RingFormatError
from tests.consumer import Consumer, rings_in
from tests.service.draining import LAYOUT, SMALL, MemoryBackend, SteppedDrain, emit, records, run_once, spans_in_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from drain.rings.segment import Lane

COUNTING = replace(SMALL, counts_unsampled=True)


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter(
        "shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1, emit_unsampled=True
    ) as emitter:
        yield emitter


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry(MeasuredExporter(MemoryBackend()).state, max_series=100, log=structlog.get_logger())
    yield made
    made.close()


def unsampled(emitter: ringbuf.Emitter, numbers: Iterable[int]) -> np.ndarray[Any, Any]:
    made = records(emitter, numbers)
    made["flags"] = 0x100
    return made


def counted(telemetry: Telemetry) -> int:
    assert telemetry.spans is not None
    return sum(sum(series.counts) for series in telemetry.spans.series())


def test_all_are_counted_and_the_sampled_ones_delivered(
    ring_dir: Path, emitter: ringbuf.Emitter, telemetry: Telemetry
) -> None:
    backend = MemoryBackend()
    both = np.concatenate([records(emitter, range(10)), unsampled(emitter, range(10, 17))])
    both = both[np.random.default_rng(7).permutation(17)]
    with SteppedDrain(ring_dir, backend, COUNTING, telemetry=telemetry) as drain:
        assert emitter.emit_batch(both) == 17
        drain.until(lambda: emitter.stats().pending == 0)
        sums = drain.sums()
        assert (sums.published, sums.delivered, sums.sampled_out, sums.unaccounted) == (17, 10, 7, 0)
        assert sorted(backend.numbers) == list(range(10))
        assert counted(telemetry) == 17
        assert drain.service._copier.not_delivered == 0
    path = rings_in(ring_dir)[0]
    with Consumer(path, observe=True) as observer:
        assert (observer.view().delivered, observer.view().sampled_out) == (10, 7)
        lane = ffi.from_buffer("rb_lane *", path.read_bytes()[observer.header.header_bytes :])
    assert (lane.delivered, lane.sampled_out) == (17, 7), "drains of before rest `head` on the words that they know"


def test_where_there_is_nothing_else_nothing_is_sent(
    ring_dir: Path, emitter: ringbuf.Emitter, telemetry: Telemetry
) -> None:
    backend = MemoryBackend()
    with SteppedDrain(ring_dir, backend, COUNTING, telemetry=telemetry) as drain:
        assert emitter.emit_batch(unsampled(emitter, range(5))) == 5
        drain.until(lambda: emitter.stats().pending == 0)
        assert (drain.sums().sampled_out, backend.requests, counted(telemetry)) == (5, [], 5)


def test_the_default_delivers_them(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    backend = MemoryBackend()
    with SteppedDrain(ring_dir, backend) as drain:
        assert emitter.emit_batch(unsampled(emitter, range(5))) == 5
        drain.until(lambda: emitter.stats().pending == 0)
        assert (drain.sums().delivered, drain.sums().sampled_out) == (5, 0)
        assert backend.numbers == list(range(5))


def test_what_is_no_span_is_invalid_also_where_it_is_not_sampled(
    ring_dir: Path, emitter: ringbuf.Emitter, telemetry: Telemetry
) -> None:
    emitter.emit_batch(np.concatenate([records(emitter, range(2)), unsampled(emitter, range(2, 5))]))
    (path,) = rings_in(ring_dir)
    with path.open("r+b") as ring, Consumer(path, observe=True) as observer:
        for slot in (1, 3):  # a kind that there is not
            ring.seek(observer.header.header_bytes + 384 + slot * LAYOUT.slot_bytes + 54)
            ring.write(b"\xff")
    with SteppedDrain(ring_dir, MemoryBackend(), COUNTING, telemetry=telemetry) as drain:
        drain.until(lambda: emitter.stats().pending == 0)
        sums = drain.sums()
        assert (sums.delivered, sums.sampled_out, sums.invalid, sums.unaccounted) == (1, 2, 2, 0)
        assert counted(telemetry) == 3


def test_what_is_on_its_way_out_of_a_ring_that_turns_out_unsound_is_settled(
    ring_dir: Path, emitter: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MemoryBackend()
    emitter.emit_batch(np.concatenate([unsampled(emitter, range(100)), records(emitter, range(100, 200))]))
    real, unsound = Ring.release, [RingFormatError("ring", "cut")]

    def release(ring: Ring, lane: Lane) -> int:
        released = real(ring, lane)
        if released and unsound:
            raise unsound.pop()
        return released

    monkeypatch.setattr(Ring, "release", release)
    with SteppedDrain(ring_dir, backend, replace(COUNTING, batch_bytes=4000)) as drain:
        drain.until(lambda: not unsound)
        drain.until(lambda: not drain.service._reader.rings)  # while something is on its way the ring stays
        sums = drain.sums()
        assert (sums.delivered, sums.sampled_out, sums.quarantined, sums.unaccounted) == (100, 100, 0, 0)


def test_a_batch_that_is_too_large_is_halved_all_the_same(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    backend = MemoryBackend()
    both = np.concatenate([records(emitter, range(100)), unsampled(emitter, range(100, 200))])
    with SteppedDrain(ring_dir, backend, replace(COUNTING, batch_bytes=2000)) as drain:
        emitter.emit_batch(both[np.random.default_rng(7).permutation(200)])
        drain.until(lambda: emitter.stats().pending == 0)
        assert (drain.sums().delivered, drain.sums().sampled_out) == (100, 100)
        assert sorted(backend.numbers) == list(range(100))
        assert len(backend.requests) > 1


def test_the_command_counts_them_and_exits_0(ring_dir: Path, emitter: ringbuf.Emitter, tmp_path: Path) -> None:
    emit(emitter, range(3))
    emitter.emit_batch(unsampled(emitter, range(3, 8)))
    log, output = tmp_path / "drain.log", tmp_path / "spans.jsonl"
    assert run_once(log, ring_dir, "--output", output, "--unsampled", "count") == 0
    assert len(spans_in_file(output)) == 3
    assert '"sampled_out": 5' in log.read_text()
