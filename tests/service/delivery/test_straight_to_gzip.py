"""A drain that sends gzip copies records and encodes none, where their layout allows that: what arrives is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from drain.delivery.stores import Stores
from drain.exporters.protocol import Result, Verdict
from drain.otlp import copied_batch, gzip_writers
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.gzip_members import members
from drain.otlp.gzip_writers import GzipWriters
from drain.service import copier
from drain.service.limits import Limits
from drain.spool.spool import Spool, SpoolLimits
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.service.delivery.test_drain_release import spoil_slots
from tests.service.draining import LAYOUT, SECONDS, MemoryBackend, SteppedDrain, emit, number_of, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drain.otlp.request import Request

TEXTS: Final = SpanLayout(span_names=["page"], attributes=[Attribute("number", "u64"), Attribute("path", "str", 20)])
TOO_LARGE: Final = Result(Verdict.TOO_LARGE, message="too large", is_about_size=True)

pytestmark = pytest.mark.skipif(not DirectGzip.is_supported(), reason="this processor has no carry-less product")


class GzipBackend(MemoryBackend):
    """Gets requests as gzip, and answers by `judge`, if there is one.

    Attributes:
        sends_gzip: what the drain is told of it.
        taken: the numbers of the spans that it took.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sends_gzip = True
        self.judge: Callable[[Request], Result] = lambda _request: Result(Verdict.DELIVERED)
        self.taken: list[int] = []

    def answer(self, request: Request) -> Result:
        (body,) = members(request.gzip()) if self.sends_gzip else (request.body,)  # in one member, always
        assert len(body) == request.body_bytes
        result = self.judge(request)
        if result.verdict is Verdict.DELIVERED:
            spans = spans_of(TracesData.FromString(body))
            assert len(spans) == request.spans == sum(request.services.values())
            self.taken += map(number_of, spans)
        super().answer(request)
        return result


@pytest.fixture(autouse=True)
def writers(monkeypatch: pytest.MonkeyPatch) -> GzipWriters:
    """Return writers that know nothing yet, and write whatever comes: requests here are small."""
    writers = GzipWriters()
    monkeypatch.setattr(gzip_writers, "_LARGE", float("inf"))
    monkeypatch.setattr(gzip_writers, "_FEWEST", 0)
    monkeypatch.setattr(gzip_writers, "_FEWEST_OF_RING", 0)
    for module in (copied_batch, copier):
        monkeypatch.setattr(module, "WRITERS", writers)
    return writers


@pytest.fixture
def backend() -> GzipBackend:
    return GzipBackend()


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=4096, lanes=1) as emitter:
        yield emitter


def test_records_with_text_are_encoded_and_the_others_are_not(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    with ringbuf.Emitter("pages", ring_dir=ring_dir, layout=TEXTS) as pages, SteppedDrain(ring_dir, backend) as drain:
        made = TEXTS.empty(100)
        made["number"], made["present"] = np.arange(1000, 1100), 1
        made["flags"] = 0x101
        pages.fill_ids(made)
        assert pages.emit_batch(made) == 100
        assert emit(emitter, range(1000)) == 1000
        drain.until(lambda: len(backend.taken) >= 1100)
        drain.until(lambda: emitter.stats().pending == pages.stats().pending == 0)
        assert (drain.sums("shop").delivered, drain.sums("pages").delivered) == (1000, 100)
    assert sorted(backend.taken) == [*range(1100)]
    assert {request.gzip_from for request in backend.requests if "shop" in request.services} == {"records"}
    assert {request.gzip_from for request in backend.requests if "pages" in request.services} == {"body"}


def test_records_that_are_no_spans_are_counted_when_they_are_read(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    assert emit(emitter, range(100)) == 100
    spoil_slots(emitter.stats().path, range(0, 100, 4))
    backend.holds = lambda _request: True
    with SteppedDrain(ring_dir, backend) as drain:
        drain.until(lambda: backend.waiting)
        assert drain.service._copier.not_delivered == 25
        backend.let_go()
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().delivered == 75
        assert (drain.sums().invalid, drain.sums().unaccounted) == (25, 0)
    assert sorted(backend.taken) == [number for number in range(100) if number % 4]
    assert {request.gzip_from for request in backend.requests} == {"records"}


def test_nothing_but_records_that_are_no_spans_is_no_request(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    assert emit(emitter, range(50)) == 50
    spoil_slots(emitter.stats().path, range(50))
    with SteppedDrain(ring_dir, backend) as drain:
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().invalid == 50
    assert not backend.requests


def test_a_request_that_is_too_large_is_cut(ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter) -> None:
    backend.judge = lambda request: TOO_LARGE if request.spans > 130 else Result(Verdict.DELIVERED)
    with SteppedDrain(ring_dir, backend) as drain:
        assert emit(emitter, range(2000)) == 2000
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().delivered == 2000
    assert sorted(backend.taken) == [*range(2000)]


@pytest.mark.parametrize("batch_bytes", [1000, 40_000])
def test_a_batch_keeps_to_its_bytes_as_records_and_as_body(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter, batch_bytes: int
) -> None:
    limits = Limits(8192, batch_bytes, batch_delay=0.0, concurrency=2, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        assert emit(emitter, range(1000)) == 1000
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().delivered == 1000
    assert sorted(backend.taken) == [*range(1000)]
    assert max(request.body_bytes for request in backend.requests) <= batch_bytes
    assert max(request.spans for request in backend.requests) * LAYOUT.slot_bytes <= batch_bytes


def test_what_waits_goes_out_otherwise_when_the_exporter_is_another(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    # Of what was copied for the one some is gzip already when the other gets it, and some is not.
    backend.judge = lambda _request: Result(Verdict.RETRY, message="away")
    with SteppedDrain(ring_dir, backend) as drain:
        assert emit(emitter, range(1000)) == 1000
        drain.until(lambda: backend.requests)
        assert emit(emitter, range(1000, 1010)) == 10
        backend.sends_gzip = False
        assert emit(emitter, range(1010, 1020)) == 10
        backend.judge = lambda _request: Result(Verdict.DELIVERED)
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().delivered == 1020
    assert sorted(backend.taken) == [*range(1020)]


def test_what_went_to_the_spool_comes_out_of_it(
    ring_dir: Path, tmp_path: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    backend.judge = lambda _request: Result(Verdict.RETRY, message="away")
    spool = Spool(tmp_path / "spool", SpoolLimits(64 << 20), log=structlog.get_logger())
    with SteppedDrain(ring_dir, backend, stores=Stores(spool, None, 0.0)) as drain:
        assert emit(emitter, range(1000)) == 1000
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().spooled == 1000
        backend.judge = lambda _request: Result(Verdict.DELIVERED)
        drain.until(lambda: len(backend.taken) >= 1000)
    assert sorted(backend.taken) == [*range(1000)]


def test_what_was_copied_stays_when_more_is_read(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    backend.holds = lambda _request: True
    limits = Limits(100, 4_000_000, batch_delay=0.0, concurrency=1, shutdown_timeout=SECONDS)
    with SteppedDrain(ring_dir, backend, limits) as drain:
        assert emit(emitter, range(400)) == 400
        # One is being sent, one waits for the thread, and one was read after that.
        drain.until(lambda: backend.waiting and drain.service._batcher.full)
        backend.let_go()
        drain.until(lambda: emitter.stats().pending == 0)
    assert sorted(backend.taken) == [*range(400)]
    assert {request.gzip_from for request in backend.requests} == {"records"}


def test_for_a_backend_that_takes_no_gzip_all_is_encoded_when_it_is_read(
    ring_dir: Path, backend: GzipBackend, emitter: ringbuf.Emitter
) -> None:
    backend.sends_gzip = False
    sizes = []

    def judge(request: Request) -> Result:
        sizes.append((request.memory_bytes, request.body_bytes))
        return Result(Verdict.DELIVERED)

    backend.judge = judge
    with SteppedDrain(ring_dir, backend) as drain:
        assert emit(emitter, range(100)) == 100
        drain.until(lambda: emitter.stats().pending == 0)
    assert sorted(backend.taken) == [*range(100)]
    assert all(memory == body for memory, body in sizes), "no records beside the body"
