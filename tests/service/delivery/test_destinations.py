"""Spans are sorted by destination before they are encoded: each request has those of one, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from drain.exporters.protocol import Result, Verdict
from drain.otlp.destinations import Rendezvous
from drain.service.limits import Limits
from tests.service.draining import LAYOUT, SECONDS, MemoryBackend, SteppedDrain, emit, number_of, spans_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from drain.otlp.request import Request

NAMES = ("a", "b", "c")


class Gateways(MemoryBackend):
    """Three of them, each of which gets its traces; those that are down take nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.rendezvous = Rendezvous(NAMES)
        self.names = NAMES
        self.down: set[str] = set()

    @property
    def partitioner(self) -> Gateways:
        return self

    def assign(self, records: np.ndarray, _service: str) -> np.ndarray:
        return self.rendezvous.assign(records)

    def home(self, trace_id: bytes, _service: str) -> str:
        return self.rendezvous.home(trace_id)

    def answer(self, request: Request) -> Result:
        spans = spans_of(TracesData.FromString(request.body))
        assert {self.rendezvous.home(span.trace_id) for span in spans} == {request.destination}
        assert len(spans) == request.spans == sum(request.services.values())
        if request.destination in self.down:
            return Result(Verdict.RETRY, message="down")
        return super().answer(request)


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", layout=LAYOUT, ring_dir=ring_dir, capacity=1024) as made:
        yield made


def test_each_request_has_the_traces_of_one_destination(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    backend = Gateways()
    with SteppedDrain(ring_dir, backend, Limits(100, 4_000_000, 0.0, 4, SECONDS)) as drain:
        emit(emitter, range(500))
        drain.until(lambda: emitter.stats().pending == 0)
        assert sorted(backend.numbers) == list(range(500))
        assert {request.destination for request in backend.requests} == set(NAMES)
        assert drain.sums().delivered == 500
        numbers = {(request.batch.number, request.batch.first) for request in backend.requests if request.batch}
        assert len(numbers) == len(backend.requests), "a reader tells the parts of a batch apart"


def test_records_wait_for_the_last_part_and_only_that_is_sent_again(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    backend = Gateways()
    backend.down.add("b")
    with SteppedDrain(ring_dir, backend, Limits(100, 4_000_000, 0.0, 4, SECONDS)) as drain:
        emit(emitter, range(100))
        drain.until(lambda: {request.destination for request in backend.requests} == {"a", "c"})
        assert emitter.stats().pending == 100
        backend.down.clear()
        drain.until(lambda: emitter.stats().pending == 0)
        numbers = [number_of(s) for r in backend.requests for s in spans_of(TracesData.FromString(r.body))]
        assert sorted(numbers) == list(range(100)), "each once"
        assert drain.sums().delivered == 100
