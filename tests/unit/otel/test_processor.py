"""The bridge's processor and exporter, held to what the SDK promises of its own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from drain.otlp.encoder import Encoder
from ringbuf.exceptions import RingCreateError
from ringbuf.otel import RingSpanExporter, RingSpanProcessor
from ringbuf.otel import configurator as otel_configurator
from ringbuf.otel.span import _event_within, encode_span, otel_layout
from ringbuf.resource import resource_from_json
from tests.consumer import Consumer, rings_in
from tests.python import output_of
from tests.service.draining import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESOURCE = Resource({"service.name": "shop"}, "https://schema/resource")
CONTEXT = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))


@pytest.fixture
def processor(ring_dir: Path) -> Iterator[RingSpanProcessor]:
    made = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024, capacity=16)
    yield made
    made.shutdown()


@pytest.fixture
def provider(processor: RingSpanProcessor) -> TracerProvider:
    made = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    made.add_span_processor(processor)
    return made


def delivered(ring_dir: Path) -> list[ResourceSpans]:
    """Return what the drain makes of each ring, and release it."""
    found: list[ResourceSpans] = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            records = consumer.take_all()
            resource = resource_from_json(consumer.json("resource"))
            found += TracesData.FromString(Encoder(consumer.layout, resource).encode(records).body).resource_spans
    return found


def spans_in(ring_dir: Path) -> list[Span]:
    return [span for ring in delivered(ring_dir) for scope in ring.scope_spans for span in scope.spans]


def test_a_span_is_in_the_ring_when_it_has_ended(provider: TracerProvider, ring_dir: Path) -> None:
    span = provider.get_tracer("lib").start_span("sale")
    assert not rings_in(ring_dir)
    span.end()
    assert [one.name for one in spans_in(ring_dir)] == ["sale"]


def test_a_span_that_is_not_sampled_is_not_written(processor: RingSpanProcessor) -> None:
    provider = TracerProvider(sampler=sampling.ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    with provider.get_tracer("lib").start_as_current_span("sale"):
        pass
    processor.on_end(ReadableSpan("recorded only", SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))))
    processor.on_end(ReadableSpan("without a context"))
    assert processor.emitters == ()


def test_after_the_shutdown_a_span_is_refused(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = provider.get_tracer("lib")
    tracer.start_span("before").end()
    assert [span.name for span in spans_in(ring_dir)] == ["before"]
    late = tracer.start_span("after")
    provider.shutdown()
    late.end()
    assert [span.name for span in spans_in(ring_dir)] == []
    assert "shut down" in caplog.text
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        assert consumer.view().closed == 1
    processor.shutdown()  # a second time does nothing


def test_a_flush_has_nothing_to_wait_for(provider: TracerProvider) -> None:
    provider.get_tracer("lib").start_span("sale").end()
    assert provider.force_flush()


def test_the_exporter_says_whether_all_were_written(ring_dir: Path) -> None:
    exporter = RingSpanExporter(ring_dir=ring_dir, slot_bytes=1024, capacity=4)
    spans = [ReadableSpan(str(number), CONTEXT, resource=RESOURCE) for number in range(4)]
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert exporter.export(spans[:1]) is SpanExportResult.FAILURE
    assert exporter.processor.emitters[0].stats().full == 1
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    assert [span.name for span in spans_in(ring_dir)] == ["0", "1", "2", "3"]
    exporter.shutdown()
    assert exporter.export(spans) is SpanExportResult.FAILURE


def test_behind_a_queue_the_exporter_warns_of_it_once(ring_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    exporter = RingSpanExporter(ring_dir=ring_dir, slot_bytes=1024)
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("lib").start_span("sale").end()
    assert "lost at a kill" not in caplog.text
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=5))
    for _ in range(2):
        provider.get_tracer("lib").start_span("sale").end()
        written = exporter.processor.emitters[0].stats().published
        until(lambda written=written: exporter.processor.emitters[0].stats().published > written)  # type: ignore[misc]  # a default has no type
    until(lambda: exporter.processor.emitters[0].stats().published == 5)  # by both, but for the first
    assert caplog.text.count("lost at a kill") == 1
    provider.shutdown()


def test_each_resource_has_a_ring(processor: RingSpanProcessor, ring_dir: Path) -> None:
    others = [Resource({"service.name": name}) for name in ("shop", "shop", "depot")]
    for resource in others:
        processor.on_end(ReadableSpan("sale", CONTEXT, resource=resource))
    rings = delivered(ring_dir)
    of_rings = [{attribute.key: attribute.value for attribute in ring.resource.attributes} for ring in rings]
    names = [values["service.name"].string_value for values in of_rings]
    assert sorted(names) == ["depot", "shop"]


def test_of_a_resource_only_what_json_cannot_hold_is_left_out(
    processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = Resource({"service.name": "shop", "raw": b"\xff", "load": float("nan"), "tills": (1, 2)})
    processor.on_end(ReadableSpan("sale", CONTEXT, resource=resource))
    (ring,) = delivered(ring_dir)
    found = {attribute.key: attribute.value for attribute in ring.resource.attributes}
    assert {"raw", "load"}.isdisjoint(found)
    assert [value.int_value for value in found["tills"].array_value.values] == [1, 2]
    assert "'raw'" in caplog.text
    assert "'load'" in caplog.text


def test_spans_of_many_threads_all_arrive(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path
) -> None:
    tracer = provider.get_tracer("lib")
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(4):
            tracer.start_span("sale").end()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = [emitter.stats() for emitter in processor.emitters]
    assert sum(one.published + one.contended + one.full for one in stats) == 16
    assert len({span.span_id for span in spans_in(ring_dir)}) == sum(one.published for one in stats)


FORK = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from ringbuf.otel import RingSpanProcessor
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(RingSpanProcessor(ring_dir=sys.argv[1], slot_bytes=1024))
tracer = provider.get_tracer("lib")
tracer.start_span("parent").end()
child = os.fork()
if child == 0:
    tracer.start_span("child").end()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_writes_into_a_ring_of_its_own(ring_dir: Path) -> None:
    assert output_of(FORK, ring_dir) == "0\n"
    assert len(rings_in(ring_dir)) == 2
    assert sorted(span.name for span in spans_in(ring_dir)) == ["child", "parent"]


def test_without_a_ring_spans_are_lost_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = tmp_path / "file" / "rings"
    missing.parent.touch()
    with pytest.raises((RingCreateError, OSError)):
        RingSpanProcessor(ring_dir=missing, resource=RESOURCE)
    processor = RingSpanProcessor(ring_dir=missing)
    for _ in range(3):
        processor.on_end(ReadableSpan("sale", CONTEXT, resource=RESOURCE))
    assert caplog.text.count("no ring for OpenTelemetry spans") == 1


def test_a_span_that_cannot_be_written_does_not_hurt_its_program(
    processor: RingSpanProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    processor.on_end(ReadableSpan("sale", CONTEXT, resource=RESOURCE, start_time=-1))
    assert "could not be written" in caplog.text


@pytest.mark.parametrize("slot_bytes", [0, 448, 1000, 16448])
def test_a_slot_of_no_sound_size_is_refused_at_once(slot_bytes: int) -> None:
    with pytest.raises(ValueError, match="slot_bytes"):
        RingSpanProcessor(slot_bytes=slot_bytes)


def test_sizes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, ring_dir: Path) -> None:
    monkeypatch.setenv("RINGBUF_OTEL_SLOT_BYTES", "2048")
    monkeypatch.setenv("RINGBUF_OTEL_CAPACITY", "8")
    processor = RingSpanProcessor(ring_dir=ring_dir, resource=RESOURCE)
    (emitter,) = processor.emitters
    assert (emitter.layout.slot_bytes, emitter.stats().capacity) == (2048, 8)
    processor.shutdown()
    monkeypatch.setenv("RINGBUF_OTEL_CAPACITY", "many")
    with pytest.raises(ValueError, match="RINGBUF_OTEL_CAPACITY"):
        RingSpanProcessor()


def test_the_sdks_own_drops_are_added_to_ours(ring_dir: Path) -> None:
    processor = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024)
    limits = SpanLimits(max_span_attributes=4, max_events=2, max_links=1)
    provider = TracerProvider(resource=RESOURCE, span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    links = [Link(CONTEXT), Link(CONTEXT)]
    span = provider.get_tracer("lib").start_span("sale", links=links)
    span.set_attributes({str(number): "x" * 250 for number in range(6)})
    for _ in range(3):
        span.add_event("event")
    span.end()
    (written,) = spans_in(ring_dir)
    assert len(written.attributes) + written.dropped_attributes_count == 6
    assert 0 < len(written.attributes) < 4
    assert (len(written.events), written.dropped_events_count) == (2, 1)
    assert (len(written.links), written.dropped_links_count) == (1, 1)
    processor.shutdown()


def test_of_an_event_that_is_too_long_its_attributes_go_first(provider: TracerProvider, ring_dir: Path) -> None:
    with provider.get_tracer("lib").start_as_current_span("sale") as span:
        span.add_event("exception", {"exception.type": "LookupError", "exception.stacktrace": "x" * 2000})
    (written,) = spans_in(ring_dir)
    (event,) = written.events
    assert [attribute.key for attribute in event.attributes] == ["exception.type"]
    assert (event.dropped_attributes_count, written.dropped_events_count) == (1, 0)


def test_an_event_is_cut_to_the_room_there_is() -> None:
    event = Event("exception", {str(number): "x" * number for number in range(40)}, timestamp=1)
    for room in range(1200):
        used = len(_event_within(event, room))
        assert used <= room
        assert used > room - 60 or room < 40, "only what does not fit is left out"


def test_a_text_that_is_too_long_is_cut_at_a_character_and_counted(
    provider: TracerProvider, processor: RingSpanProcessor, ring_dir: Path
) -> None:
    span = provider.get_tracer("lib").start_span("é" * 900)
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.end()
    assert processor.emitters[0].stats().truncated == 1
    (written,) = spans_in(ring_dir)
    assert written.name == "é" * (len(written.name))
    assert 50 < len(written.name) < 900
    assert written.status.message == "bad"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63, 'string_value: "9223372036854775808"\n'),
        (-(2**63) - 1, 'string_value: "-9223372036854775809"\n'),
        ("\ud800", 'string_value: "?"\n'),
        (float("nan"), "double_value: nan\n"),
    ],
)
def test_values_that_the_sdk_could_not_send_arrive_nearly(value: Any, expected: str) -> None:
    encoded = encode_span(ReadableSpan("sale", CONTEXT, attributes={"key": value}), 1000)
    assert str(Span.FromString(encoded.otlp).attributes[0].value) == expected


def test_a_value_that_otlp_has_nothing_for_is_counted_as_dropped() -> None:
    deep: Any = 1
    for _ in range(16):
        deep = [deep]
    attributes: Any = {"object": object(), "deep": deep, "kept": deep[0]}
    encoded = Span.FromString(encode_span(ReadableSpan("sale", CONTEXT, attributes=attributes), 1000).otlp)
    assert [attribute.key for attribute in encoded.attributes] == ["kept"]
    assert encoded.dropped_attributes_count == 2


def test_the_layout_has_the_resources_schema_url() -> None:
    layout = otel_layout(1024, resource_schema_url="https://schema/resource")
    assert type(layout).from_json(layout.to_json()).resource_schema_url == "https://schema/resource"
    assert b"resource_schema_url" not in otel_layout(1024).to_json()


class TestTheConfigurator:
    """Which processors it installs, by the two variables."""

    @pytest.fixture
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def configure(_self: object, **arguments: Any) -> None:
            calls.append({**arguments, "names": os.environ.get("OTEL_TRACES_EXPORTER")})

        monkeypatch.setattr("ringbuf.otel.configurator._OTelSDKConfigurator._configure", configure)
        return calls

    @pytest.mark.parametrize(
        ("configurator", "exporters", "expected"),
        [
            ("ringbuf", None, "ringbuf"),
            ("ringbuf", "otlp", "ringbuf"),
            ("ringbuf", "otlp, ringbuf", "otlp, ringbuf"),
            ("ringbuf", "none", "none"),
            (None, "otlp", "otlp"),
            (None, None, None),
        ],
    )
    def test_the_variables_decide_where_spans_go(
        self,
        monkeypatch: pytest.MonkeyPatch,
        installed: list[dict[str, Any]],
        configurator: str | None,
        exporters: str | None,
        expected: str | None,
    ) -> None:
        for name, value in (("OTEL_PYTHON_CONFIGURATOR", configurator), ("OTEL_TRACES_EXPORTER", exporters)):
            if value is not None:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.setenv(name, "")  # so that what the configurator sets is taken back
                monkeypatch.delenv(name)
        configurator_class: Any = otel_configurator.RingConfigurator
        configurator_class().configure(auto_instrumentation_version="1")
        (call,) = installed
        assert call["names"] == expected
        assert call["auto_instrumentation_version"] == "1"

    def test_nothing_stands_before_the_ring_and_a_queue_before_others(self, ring_dir: Path) -> None:
        ring = RingSpanExporter(ring_dir=ring_dir)
        assert otel_configurator.span_processor(ring) is ring.processor
        other = otel_configurator.span_processor(InMemorySpanExporter())
        assert isinstance(other, BatchSpanProcessor)
        other.shutdown()  # type: ignore[no-untyped-call]  # the SDK's has no types


def test_importing_the_package_does_not_import_opentelemetry() -> None:
    code = "import sys, ringbuf.dataplane; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert output_of(code) == "[]\n"
