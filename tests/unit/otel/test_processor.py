"""The bridge's processor and exporter, held to what the SDK promises of its own."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from ringbuf.exceptions import RingCreateError
from ringbuf.otel import RingSpanExporter, RingSpanProcessor
from tests.consumer import Consumer, rings_in
from tests.python import output_of
from tests.service.draining import until
from tests.unit.otel.arrived import CONTEXT, RESOURCE, delivered, said, spans_in

if TYPE_CHECKING:
    from pathlib import Path

RESOURCES = 20


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
    assert "shut down" in said(caplog).text
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
    assert "lost at a kill" not in said(caplog).text
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=5))

    def end_one(written: int) -> None:
        """End a span, and wait until the exporter has written so many."""
        provider.get_tracer("lib").start_span("sale").end()
        until(lambda: exporter.processor.emitters[0].stats().published == written)

    end_one(written=3)  # both processors write it; the first span only one did
    end_one(written=5)
    assert said(caplog).text.count("lost at a kill") == 1
    provider.shutdown()


@pytest.mark.parametrize("what", ["emitters", "shutdown"])
def test_a_resource_may_come_while_the_rings_are_gone_through(processor: RingSpanProcessor, what: str) -> None:
    left = [ReadableSpan("span", CONTEXT, resource=Resource({"number": number})) for number in range(RESOURCES)]
    assert processor.write(left.pop())

    def write(*_event: object) -> None:
        if left:
            processor.write(left.pop())

    sys.setprofile(write)  # at each call and return: wherever another thread may come between
    try:
        processor.shutdown() if what == "shutdown" else processor.emitters
    finally:
        sys.setprofile(None)
    assert len(processor.emitters) == RESOURCES - len(left)


def test_each_resource_has_a_ring(processor: RingSpanProcessor, ring_dir: Path) -> None:
    others = [Resource({"service.name": name}) for name in ("shop", "shop", "depot")]
    for resource in others:
        processor.on_end(ReadableSpan("sale", CONTEXT, resource=resource))
    rings = delivered(ring_dir)
    of_rings = [{attribute.key: attribute.value for attribute in ring.resource.attributes} for ring in rings]
    names = [values["service.name"].string_value for values in of_rings]
    assert sorted(names) == ["depot", "shop"]


def test_a_resource_arrives_as_the_sdk_sends_it(
    processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = Resource(
        {"service.name": "shop", "none": None, "nested": {"a": [1, {"b": None}], "c": True}, "mixed": (1, "x", 1.5)}
    )
    processor.on_end(ReadableSpan("sale", CONTEXT, resource=resource))
    (ring,) = delivered(ring_dir)
    of_process = {attribute.key: attribute for attribute in ring.resource.attributes}
    (sent,) = encode_spans([ReadableSpan("sale", CONTEXT, resource=resource)]).resource_spans
    assert all(of_process[attribute.key] == attribute for attribute in sent.resource.attributes)
    assert "left out" not in said(caplog).text


def test_of_a_resource_only_what_json_cannot_hold_is_left_out(
    processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = Resource({"service.name": "shop", "raw": b"\xff", "load": float("nan"), "tills": (1, 2)})
    processor.on_end(ReadableSpan("sale", CONTEXT, resource=resource))
    (ring,) = delivered(ring_dir)
    found = {attribute.key: attribute.value for attribute in ring.resource.attributes}
    assert {"raw", "load"}.isdisjoint(found)
    assert [value.int_value for value in found["tills"].array_value.values] == [1, 2]
    assert "'raw'" in said(caplog).text or "raw" not in resource.attributes, "an older SDK has left it out itself"
    assert "'load'" in said(caplog).text


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
processor = RingSpanProcessor(ring_dir=sys.argv[1], slot_bytes=1024)
provider.add_span_processor(processor)
tracer = provider.get_tracer("lib")
def counts():
    return [emitter.stats().published for emitter in processor.emitters], processor.wait_drained(0)
tracer.start_span("parent").end()
print(counts())
sys.stdout.flush()
child = os.fork()
if child == 0:
    print(counts())
    tracer.start_span("child").end()
    tracer.start_span("child").end()
    print(counts())
    sys.stdout.flush()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), counts())
"""


def test_a_forked_child_writes_into_a_ring_of_its_own_and_answers_for_that(ring_dir: Path) -> None:
    lines = ["([1], False)", "([], True)", "([2], False)", "0 ([1], False)"]
    assert output_of(FORK, ring_dir).splitlines() == lines
    assert len(rings_in(ring_dir)) == 2
    assert sorted(span.name for span in spans_in(ring_dir)) == ["child", "child", "parent"]


@pytest.mark.parametrize("is_made_at_once", [False, True])
def test_without_a_ring_one_line_says_so_and_spans_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_made_at_once: bool
) -> None:
    monkeypatch.delenv("RINGBUF_REQUIRED", raising=False)
    missing = tmp_path / "file" / "rings"
    missing.parent.touch()
    processor = RingSpanProcessor(ring_dir=missing, resource=RESOURCE if is_made_at_once else None)
    for _ in range(3):
        processor.on_end(ReadableSpan("sale", CONTEXT, resource=RESOURCE))
    assert [emitter.stats().local for emitter in processor.emitters] == [3]
    assert len(said(caplog).records) == 1
    assert "no ring for OpenTelemetry spans" in said(caplog).text


def test_a_ring_that_is_required_at_once_and_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_REQUIRED", "1")
    (tmp_path / "file").touch()
    with pytest.raises(RingCreateError):
        RingSpanProcessor(ring_dir=tmp_path / "file" / "rings", resource=RESOURCE)


def test_a_variable_that_cannot_be_is_a_line_where_the_ring_is_made_at_once_too(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RINGBUF_MAX_BYTES", "many")
    RingSpanProcessor(ring_dir=ring_dir, resource=RESOURCE)
    assert "RINGBUF_MAX_BYTES: 'many' is no number of bytes" in said(caplog).text


def test_spans_that_cannot_be_written_are_counted_and_said_once(
    processor: RingSpanProcessor, ring_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(ReadableSpan):
        @property
        def attributes(self) -> Any:
            raise LookupError("no attributes")

    without_ids = SpanContext(0, 0, is_remote=False, trace_flags=TraceFlags(1))
    for _ in range(5):
        processor.on_end(ReadableSpan("no ids", without_ids, resource=RESOURCE))
        processor.on_end(Unreadable("unreadable", CONTEXT, resource=RESOURCE))
        processor.on_end(ReadableSpan("before 1970", CONTEXT, resource=RESOURCE, start_time=-1))
    stats = processor.emitters[0].stats()
    assert (stats.published, stats.local) == (5, 10)
    assert {span.name for span in spans_in(ring_dir)} == {"before 1970"}
    assert len(said(caplog).records) == 1


def test_importing_the_package_does_not_import_opentelemetry() -> None:
    code = "import sys, ringbuf.dataplane; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert output_of(code) == "[]\n"
