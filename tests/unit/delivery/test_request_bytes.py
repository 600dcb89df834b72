"""A size that was refused, or that the destination has told, is a bound: requests are cut before they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from drain.accounting.outcome import Outcome
from drain.delivery.request_size import ANY_SIZE, RequestSize
from drain.exporters.protocol import Result, Verdict
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain, emit
from tests.unit.delivery.test_delivery import Harness, PlayedExporter, batch_of, start
from tests.unit.delivery.test_delivery import harnesses as harnesses  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from pathlib import Path

    from drain.otlp.request import Request

DELIVERED = Result(Verdict.DELIVERED)


class LimitedExporter(PlayedExporter):
    """Takes requests up to a size, and says so of others."""

    def __init__(self, limit: int, *, is_about_size: bool = True) -> None:
        super().__init__()
        self.limit = limit
        self.refused: list[Request] = []
        self._is_about_size = is_about_size

    def export(self, request: Request) -> Result:
        if len(request.body) <= self.limit:
            return super().export(request)
        self.refused.append(request)
        return Result(Verdict.TOO_LARGE, message="too large", is_about_size=self._is_about_size)


class TellingExporter(LimitedExporter):
    """Tells its limit before anything is sent."""

    @property
    def most_bytes(self) -> int:
        return self.limit


def names_in(requests: list[Request]) -> list[str]:
    return [
        span.name
        for request in requests
        for resource_spans in TracesData.FromString(request.body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def test_a_refused_size_is_the_bound_of_those_that_follow(harnesses: list[Harness]) -> None:
    exporter = LimitedExporter(batch_of(64).parts[0].body_bytes // 3)
    harness = start(harnesses, exporter)
    for _ in range(3):  # after which it has been found
        assert harness.deliver(batch_of(64)) == Outcome(delivered=64)
    refused = len(exporter.refused)
    assert refused >= 1
    for _ in range(5):
        assert harness.deliver(batch_of(64)) == Outcome(delivered=64)
    assert len(exporter.refused) == refused, "each batch anew"
    assert names_in(exporter.requests) == [str(number) for number in range(64)] * 8


def test_a_batch_that_is_refused_for_some_of_its_spans_bounds_no_other(harnesses: list[Harness]) -> None:
    batch = batch_of(64)
    exporter = LimitedExporter(batch.parts[0].body_bytes - 1, is_about_size=False)
    harness = start(harnesses, exporter)
    assert harness.deliver(batch) == Outcome(delivered=64)
    exporter.limit = ANY_SIZE
    assert harness.deliver(batch_of(64)) == Outcome(delivered=64)
    assert [request.spans for request in exporter.requests] == [32, 32, 64]


def test_a_limit_that_was_told_is_never_met(harnesses: list[Harness]) -> None:
    exporter = TellingExporter(batch_of(64).parts[0].body_bytes // 5)
    assert start(harnesses, exporter).deliver(batch_of(64)) == Outcome(delivered=64)
    assert exporter.refused == []
    assert len(exporter.requests) in {6, 7, 8}
    assert names_in(exporter.requests) == [str(number) for number in range(64)]


def test_a_span_that_is_too_large_by_itself_bounds_no_other(harnesses: list[Harness]) -> None:
    exporter = LimitedExporter(1)
    harness = start(harnesses, exporter)
    assert harness.deliver(batch_of(1)) == Outcome(rejected=1)
    assert harness.delivery.most_bytes == ANY_SIZE


def test_batches_are_made_no_larger_than_the_destination_takes(ring_dir: Path) -> None:
    class Backend(MemoryBackend):
        most_bytes = 4000

    backend = Backend()
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT) as emitter, SteppedDrain(ring_dir, backend) as drain:
        assert emit(emitter, range(1000)) == 1000
        drain.until(lambda: len(backend.numbers) >= 1000)
    assert sorted(backend.numbers) == list(range(1000))
    assert max(len(request.body) for request in backend.requests) <= 4000
    numbers = [request.batch for request in backend.requests if request.batch is not None]
    assert sorted(number.number for number in numbers) == [*range(1, len(backend.requests) + 1)]
    assert {number.first for number in numbers} == {0}, "they were cut where they were encoded, and not afterwards"


def test_what_was_taken_is_a_better_bound_than_half_of_what_was_refused() -> None:
    size = RequestSize()
    size.took(700)
    assert size.bytes == ANY_SIZE
    assert size.was_refused(1000) == 700
    assert size.was_refused(900) == 700
    size.took(800)  # by one whose encoding is smaller
    assert size.bytes == 800
    assert size.was_refused(600) == 300  # a limit that was lowered
    size.took(100)
    assert size.bytes == 300
    size.forget()
    assert size.bytes == ANY_SIZE


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_there_is_always_a_bound_that_something_fits(refused: int) -> None:
    assert RequestSize().was_refused(refused) == 1
