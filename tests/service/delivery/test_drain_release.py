"""A span leaves its ring only when it was delivered, in order, and each one is accounted for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import ringbuf
from drain.exporters.protocol import Result, Verdict
from drain.rings.watch import Watch
from drain.service.copier import Copier
from drain.service.limits import Limits
from ringbuf._ringbuf import ffi, lib
from tests.service.c_producer import CProducer
from tests.service.draining import LAYOUT, SECONDS, SMALL, MemoryBackend, SteppedDrain, emit, ring_files, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from drain.rings.doorbell import Doorbell
    from drain.rings.ring import Ring
    from drain.service.copier import Become, Shares


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        yield emitter


@pytest.fixture
def backend() -> Iterator[MemoryBackend]:
    backend = MemoryBackend()
    yield backend
    backend.let_go()


@pytest.fixture
def drain(ring_dir: Path, backend: MemoryBackend) -> Iterator[SteppedDrain]:
    with SteppedDrain(ring_dir, backend) as drain:
        yield drain


def test_every_span_arrives_once_and_in_order(
    emitter: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    sent = 0
    while sent < 1000:
        sent += emit(emitter, range(sent, min(1000, sent + 23)))
        drain.step()
    drain.until(lambda: emitter.stats().pending == 0)
    assert sorted(backend.numbers) == list(range(1000))
    assert drain.sums().delivered == drain.sums().published == 1000


def test_more_gather_after_a_look_that_left_none(
    ring_dir: Path, emitter: ringbuf.Emitter, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[str] = []
    naps: list[float] = []

    def gather(_watch: Watch, _doorbell: Doorbell, _value: int, seconds: float) -> None:
        pauses.append("gathered")
        naps.append(seconds)

    monkeypatch.setattr(Watch, "gather", gather)
    monkeypatch.setattr(Watch, "sleep", lambda *_: pauses.append("slept"))
    backend.holds = lambda _request: True  # who settles nothing lets nobody go round at once

    def paused() -> str:
        pauses.clear()
        gathering.service._go_round()
        return " and ".join(pauses)

    with SteppedDrain(ring_dir, backend, replace(SMALL, batch_spans=20, batch_delay=3600.0)) as gathering:
        gathering.until(lambda: gathering.service._reader.rings)
        emit(emitter, range(1))
        assert paused() == "gathered"
        assert 0.0 < naps.pop() < 1.0, "a nap, not the batch's delay"
        assert paused() == "slept"
        emit(emitter, range(1, 50))
        assert [paused(), paused(), paused()] == ["", "", "gathered"], "19, 20 and 10"
        assert gathering.service._batcher.spans == 10, "a look takes what the batch has room for"
        gathering.service.request_audit()
        emit(emitter, range(50, 55))
        gathering.service._round()
        gathering.service.request_audit()
        pauses.clear()
        gathering.service._gather()
        assert not pauses, "who asks for an audit does not wait"


def test_what_has_waited_enough_does_not_wait_for_more_to_gather(
    emitter: ringbuf.Emitter, drain: SteppedDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[float] = []
    monkeypatch.setattr(Watch, "gather", lambda *given: seconds.append(given[-1]))
    drain.until(lambda: drain.service._reader.rings)
    emit(emitter, range(1))
    drain.service._serve_rings()  # into a batch whose delay is 0
    drain.service._gather()
    assert seconds == [0.0]


def test_nothing_is_encoded_twice_where_batches_are_bounded_by_their_bytes(
    ring_dir: Path, emitter: ringbuf.Emitter, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = Copier._encode

    def counted(self: Copier, ring: Ring, records: np.ndarray, become: Become) -> Shares | None:
        encoded.append(len(records))
        return encode(self, ring, records, become)

    monkeypatch.setattr(Copier, "_encode", counted)
    with SteppedDrain(ring_dir, backend, replace(SMALL, batch_bytes=1000)) as bounded:
        for first in range(0, 120, 60):
            emit(emitter, range(first, first + 60))
            bounded.until(lambda: emitter.stats().pending == 0)
            assert len(encoded) > 1
            if first:
                assert sum(encoded) == 60
            encoded.clear()
    assert all(len(request.body) <= 1000 for request in backend.requests)


def test_nothing_is_released_before_the_backend_has_it(
    emitter: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda _request: True
    emit(emitter, range(10))
    drain.until(lambda: backend.waiting)
    for _ in range(20):
        drain.step()
    assert emitter.stats().pending == 10
    backend.let_go()
    drain.until(lambda: emitter.stats().pending == 0)
    assert drain.sums().delivered == 10


def test_a_batch_that_is_delivered_first_is_not_released_before_the_one_that_was_read_first(
    emitter: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda request: request.spans == 3
    emit(emitter, range(3))
    drain.until(lambda: backend.waiting == 1)
    emit(emitter, range(3, 8))
    drain.until(lambda: len(backend.requests) == 1)
    for _ in range(20):
        drain.step()
    assert emitter.stats().pending == 8
    assert drain.sums().delivered == 0
    backend.let_go()
    drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == [3, 4, 5, 6, 7, 0, 1, 2]


def test_the_lanes_of_a_ring_are_released_independently(ring_dir: Path, backend: MemoryBackend) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=8, lanes=2) as emitter:
        assert emit(emitter, range(12)) == 12  # eight in the first lane, four in the second
        limits = Limits(8, 4_000_000, 0.0, concurrency=2, shutdown_timeout=SECONDS)
        with SteppedDrain(ring_dir, backend, limits) as drain:
            backend.holds = lambda request: request.spans == 8
            drain.until(lambda: len(backend.requests) == 1 and emitter.stats().pending == 8)
            assert drain.sums().delivered == 4
            backend.let_go()
            drain.until(lambda: emitter.stats().pending == 0)
            assert sorted(backend.numbers) == list(range(12))


def test_a_backend_that_does_not_get_on_stops_the_reading_and_then_the_ring_fills(
    emitter: ringbuf.Emitter, backend: MemoryBackend, ring_dir: Path
) -> None:
    limits = Limits(batch_spans=4, batch_bytes=4_000_000, batch_delay=0.0, concurrency=1, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        backend.holds = lambda _request: True
        assert emit(emitter, range(64)) == 64
        drain.until(lambda: backend.waiting)
        for _ in range(50):
            drain.step()
        ring = drain.service._reader.rings[0]
        assert ring.unreleased == 3 * 4, "one batch in the thread, one waiting for it, one that finds no room"
        assert not emit(emitter, [64]), "the ring is full, and the producer is told at once"
        assert emitter.stats().full == 1
        backend.let_go()
        drain.until(lambda: emitter.stats().pending == 0)
        assert sorted(backend.numbers) == list(range(64))
        assert drain.sums().full == 1


def test_spans_of_several_rings_go_into_one_request(ring_dir: Path, backend: MemoryBackend) -> None:
    emitters = [ringbuf.Emitter(name, ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) for name in ("a", "b")]
    try:
        for at, emitter in enumerate(emitters):
            emit(emitter, range(at * 10, at * 10 + 5))
        with SteppedDrain(ring_dir, backend) as drain:
            drain.until(lambda: not any(emitter.stats().pending for emitter in emitters))
    finally:
        for emitter in emitters:
            emitter.close()
    assert [request.spans for request in backend.requests] == [10]
    assert sorted(backend.numbers) == [*range(5), *range(10, 15)]


def test_a_batch_waits_for_more_spans_until_its_delay_is_over(
    emitter: ringbuf.Emitter, backend: MemoryBackend, ring_dir: Path
) -> None:
    now = 0.0
    limits = Limits(8192, 4_000_000, batch_delay=10.0, concurrency=2, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        drain.service._clock = drain.service._copier._clock = lambda: now
        emit(emitter, range(3))
        drain.until(lambda: drain.service._batcher.spans == 3)
        now = 9.0
        emit(emitter, range(3, 5))
        drain.until(lambda: drain.service._batcher.spans == 5)
        assert backend.requests == []
        now = 10.0
        drain.until(lambda: emitter.stats().pending == 0)
    assert [request.spans for request in backend.requests] == [5]


def test_a_lane_that_fills_up_does_not_wait_for_the_delay(
    emitter: ringbuf.Emitter, backend: MemoryBackend, ring_dir: Path
) -> None:
    limits = Limits(8192, 4_000_000, batch_delay=1e9, concurrency=2, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        emit(emitter, range(15))
        for _ in range(20):
            drain.step()
        assert emitter.stats().pending == 15
        emit(emitter, [15])  # a quarter of 64 slots
        drain.until(lambda: emitter.stats().pending == 0)
    assert [request.spans for request in backend.requests] == [16]


@pytest.mark.parametrize(("most", "enough"), [(10_000, 8192), (16_384, 8192), (24_000, 12_000)])
def test_a_batch_of_many_spans_waits_for_no_more(
    ring_dir: Path, backend: MemoryBackend, most: int, enough: int
) -> None:
    limits = Limits(most, 4_000_000, batch_delay=1e9, concurrency=2, shutdown_timeout=SECONDS)
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1 << 17, lanes=1) as emitter,
        SteppedDrain(ring_dir, backend, limits) as drain,
    ):
        emit(emitter, range(enough - 1))
        drain.until(lambda: drain.service._batcher.spans == enough - 1)
        for _ in range(20):
            drain.step()
        assert backend.requests == []
        emit(emitter, [enough - 1])
        drain.until(lambda: emitter.stats().pending == 0)
    assert [request.spans for request in backend.requests] == [enough]


def test_what_is_in_the_rings_goes_along_in_a_batch_of_many(ring_dir: Path, backend: MemoryBackend) -> None:
    limits = Limits(16_384, 4_000_000, batch_delay=1e9, concurrency=2, shutdown_timeout=SECONDS)
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1 << 17, lanes=1) as emitter,
        SteppedDrain(ring_dir, backend, limits) as drain,
    ):
        emit(emitter, range(16_384 + 8192))
        drain.until(lambda: emitter.stats().pending == 0)
    assert sorted(request.spans for request in backend.requests) == [8192, 16_384]


def test_a_request_never_has_more_bytes_than_a_batch_may(
    emitter: ringbuf.Emitter, backend: MemoryBackend, ring_dir: Path
) -> None:
    limits = Limits(8192, batch_bytes=1000, batch_delay=0.0, concurrency=2, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        emit(emitter, range(64))
        drain.until(lambda: emitter.stats().pending == 0)
    assert len(backend.requests) > 3
    assert max(len(request.body) for request in backend.requests) <= 1000
    assert sorted(backend.numbers) == list(range(64))


def test_what_the_backend_rejects_is_counted_and_released(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    backend = MemoryBackend(Result(Verdict.DELIVERED, rejected=3), Verdict.REFUSED)
    with SteppedDrain(ring_dir, backend) as drain:
        emit(emitter, range(10))
        drain.until(lambda: emitter.stats().pending == 0)
        emit(emitter, range(10, 14))
        drain.until(lambda: emitter.stats().pending == 0)
        sums = drain.sums()
    assert (sums.published, sums.delivered, sums.rejected) == (14, 7, 7)
    assert sums.unaccounted == 0


def test_records_that_are_no_spans_are_counted_and_released(
    emitter: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    emit(emitter, range(4))
    spoil_slots(emitter.stats().path, [1, 3])
    drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == [0, 2]
    assert (drain.sums().delivered, drain.sums().invalid) == (2, 2)
    emit(emitter, [7])
    spoil_slots(emitter.stats().path, [4])
    drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == [0, 2]
    assert drain.sums().invalid == 3


def test_a_noisy_ring_does_not_starve_the_others(ring_dir: Path, backend: MemoryBackend) -> None:
    limits = Limits(batch_spans=16, batch_bytes=4_000_000, batch_delay=0.0, concurrency=1, shutdown_timeout=SECONDS)
    with (
        ringbuf.Emitter("noisy", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as noisy,
        ringbuf.Emitter("quiet", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as quiet,
        SteppedDrain(ring_dir, backend, limits) as drain,
    ):
        emit(quiet, [1_000_000])

        def fill_and_step() -> None:
            emit(noisy, range(64))
            drain.step()

        until(lambda: not quiet.stats().pending, fill_and_step)
        assert noisy.stats().pending
        (turn,) = (at for at, number in enumerate(backend.numbers) if number == 1_000_000)
        assert turn < 200, "not behind all that the other has"


def test_a_lane_that_was_half_full_is_told_once_as_found_late(
    emitter: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    emit(emitter, range(40))
    drain.until(lambda: emitter.stats().pending == 0)
    late = [drain.service._copier.came_late() for _ in range(2)]
    emit(emitter, range(10))
    drain.until(lambda: emitter.stats().pending == 0)
    assert [*late, drain.service._copier.came_late()] == [True, False, False]
    assert len(backend.numbers) == 50


def spoil_slots(path: Path | None, slots: Iterable[int]) -> None:
    """Zero the trace id of these slots of a ring with one lane, as no producer does."""
    assert path is not None
    with path.open("r+b") as file:
        header = np.frombuffer(file.read(24), "<u4")
        for slot in slots:
            file.seek(int(header[3]) + 384 + slot * LAYOUT.slot_bytes + 16)
            file.write(bytes(16))


def test_once_counts_a_record_that_is_no_span_as_not_delivered(ring_dir: Path, backend: MemoryBackend) -> None:
    with CProducer(ring_dir) as producer:
        producer.emit(range(3))
        (path,) = ring_files(ring_dir)
        with path.open("r+b") as file:
            file.seek(slot_at(path, 1) + ffi.offsetof("rb_record", "kind"))
            file.write(b"\xff")
    with SteppedDrain(ring_dir, backend) as drain:
        assert drain.service.drain_once() == 1
        assert (drain.sums().delivered, drain.sums().invalid) == (2, 1)


def slot_at(path: Path, slot: int) -> int:
    """Return where a slot of the first lane lies in the file."""
    header = ffi.from_buffer("rb_header *", path.read_bytes())
    return int(header.header_bytes + lib.RB_LANE_BYTES + slot * header.slot_bytes)
