"""How large a record may be: by argument and variable, and what becomes of a span that is larger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.trace import Link, Status, StatusCode

from ringbuf.otel import RingSpanProcessor
from tests.consumer import rings_in
from tests.unit.otel.arrived import CONTEXT, RESOURCE, delivered, said, spans_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("slot_bytes", [0, 448, 1000, 16448])
def test_a_slot_of_no_sound_size_is_refused_at_once(slot_bytes: int) -> None:
    with pytest.raises(ValueError, match="slot_bytes"):
        RingSpanProcessor(slot_bytes=slot_bytes)


def test_sizes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, ring_dir: Path) -> None:
    monkeypatch.setenv("RINGBUF_OTEL_SLOT_BYTES", "2048")
    monkeypatch.setenv("RINGBUF_OTEL_CAPACITY", "8")
    monkeypatch.setenv("RINGBUF_OTEL_LARGE_CAPACITY", "4")
    processor = RingSpanProcessor(ring_dir=ring_dir, resource=RESOURCE)
    processor.on_end(ReadableSpan("large", CONTEXT, resource=RESOURCE, attributes={"text": "x" * 5000}))
    sizes = [(emitter.layout.slot_bytes, emitter.stats().capacity) for emitter in processor.emitters]
    assert sizes == [(2048, 8), (16384, 4)]
    assert len(spans_in(ring_dir)) == 1
    processor.shutdown()


def test_a_large_span_goes_into_a_ring_of_large_records(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path
) -> None:
    tracer = provider.get_tracer("lib")
    tracer.start_span("small").end()
    assert len(rings_in(ring_dir)) == 1, "nobody pays for large records but who has such spans"
    tracer.start_span("large", attributes={"db.statement": "x" * 12_000}).end()
    rings = delivered(ring_dir)
    spans = {span.name: span for ring in rings for scope in ring.scope_spans for span in scope.spans}
    assert spans.keys() == {"small", "large"}
    assert len(spans["large"].attributes[0].value.string_value) == 12_000
    assert rings[0].resource == rings[1].resource, "one process, one service.instance.id"
    assert [emitter.stats().truncated for emitter in processor.emitters] == [0, 0]


def test_a_span_that_no_record_holds_is_cut_counted_and_said(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        provider.get_tracer("lib").start_span("larger", attributes={"db.statement": "x" * 20_000}).end()
    texts = [span.attributes[0].value.string_value for span in spans_in(ring_dir)]
    assert all(16_000 < len(text) < 16_384 for text in texts)
    assert [emitter.stats().truncated for emitter in processor.emitters] == [0, 2]
    assert said(caplog).text.count("its longest texts were cut") == 1


def test_without_room_for_large_records_a_large_span_is_cut(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = provider.get_tracer("lib")
    tracer.start_span("small").end()
    monkeypatch.setenv("RINGBUF_MAX_BYTES", "1")  # for rings that are made from now on
    tracer.start_span("large", attributes={"db.statement": "x" * 12_000}).end()
    assert len(rings_in(ring_dir)) == 1
    small, large = spans_in(ring_dir)
    assert (small.name, large.name) == ("small", "large")
    assert 600 < len(large.attributes[0].value.string_value) < 1024
    assert processor.emitters[0].stats().truncated == 1


def test_the_sdks_own_drops_are_added_to_ours(ring_dir: Path) -> None:
    processor = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024, large_capacity=0)
    limits = SpanLimits(max_span_attributes=4, max_events=2, max_links=1)
    provider = TracerProvider(resource=RESOURCE, span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    links = [Link(CONTEXT), Link(CONTEXT)]
    span = provider.get_tracer("lib").start_span("sale", links=links)
    span.set_attributes({str(number): ["x" * 250] for number in range(6)})
    for _ in range(3):
        span.add_event("event")
    span.end()
    (written,) = spans_in(ring_dir)
    assert len(written.attributes) + written.dropped_attributes_count == 6
    assert 0 < len(written.attributes) < 4
    assert (len(written.events), written.dropped_events_count) == (2, 1)
    assert (len(written.links), written.dropped_links_count) == (1, 1)
    processor.shutdown()


def test_a_text_that_is_too_long_is_cut_at_a_character_and_counted(ring_dir: Path) -> None:
    processor = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024, large_capacity=0)
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    span = provider.get_tracer("lib").start_span("é" * 900)
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.end()
    assert processor.emitters[0].stats().truncated == 1
    (written,) = spans_in(ring_dir)
    assert written.name == "é" * (len(written.name))
    assert 50 < len(written.name) < 900
    assert written.status.message == "bad"
    processor.shutdown()
