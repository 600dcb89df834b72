"""The bridge's processor and exporter, held to what the SDK promises of its own."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from drain.otlp.encoder import Encoder
from ringbuf.exceptions import RingCreateError
from ringbuf.log import wait_until_told
from ringbuf.otel import RingSpanExporter, RingSpanProcessor
from ringbuf.ring.resource import resource_from_json
from tests.consumer import Consumer, rings_in
from tests.python import output_of, run
from tests.service.draining import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESOURCE = Resource({"service.name": "shop"}, "https://schema/resource")
CONTEXT = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
RESOURCES = 20


@pytest.fixture
def processor(ring_dir: Path) -> Iterator[RingSpanProcessor]:
    made = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024, capacity=16, large_capacity=8)
    yield made
    made.shutdown()


@pytest.fixture
def provider(processor: RingSpanProcessor) -> TracerProvider:
    made = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    made.add_span_processor(processor)
    return made


def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return what was logged, when what there is to say was said."""
    wait_until_told(60)
    return caplog


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
    for _ in range(2):
        provider.get_tracer("lib").start_span("sale").end()
        written = exporter.processor.emitters[0].stats().published
        until(lambda written=written: exporter.processor.emitters[0].stats().published > written)  # type: ignore[misc]  # a default has no type
    until(lambda: exporter.processor.emitters[0].stats().published == 5)  # by both, but for the first
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


class TracedHandler(logging.Handler):
    """A handler that is itself traced, as one that sends records over HTTP is."""

    def __init__(self, trace: Callable[[], None]) -> None:
        super().__init__()
        self._trace = trace
        self.calls = 0

    def emit(self, _record: logging.LogRecord) -> None:
        self.calls += 1
        if self.calls < 100:  # a test that fails must not hang
            self._trace()
            self._trace()


def no_ids() -> ReadableSpan:
    return ReadableSpan("no ids", SpanContext(0, 0, is_remote=False, trace_flags=TraceFlags(1)), resource=RESOURCE)


@pytest.mark.parametrize("trouble", ["shut down", "no ring", "not written", "in a queue"])
def test_a_warning_through_a_traced_handler_ends(trouble: str, ring_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "rings" if trouble == "no ring" else ring_dir
    exporter = RingSpanExporter(ring_dir=place, slot_bytes=1024)
    processor = exporter.processor

    def end_a_span() -> None:
        if trouble == "in a queue":
            exporter.export([ReadableSpan("sale", CONTEXT, resource=RESOURCE)])
        else:
            processor.on_end(no_ids() if trouble == "not written" else ReadableSpan("a", CONTEXT, resource=RESOURCE))

    handler = TracedHandler(end_a_span)
    logging.getLogger("ringbuf").addHandler(handler)
    try:
        if trouble == "shut down":
            processor.shutdown()
        thread = threading.Thread(target=end_a_span, name="OtelBatchSpanProcessor")
        thread.start()
        thread.join()
        wait_until_told(60)
    finally:
        logging.getLogger("ringbuf").removeHandler(handler)
    assert handler.calls == (0 if trouble == "no ring" else 1), "without a ring it was said when it was configured"
    stats = processor.emitters[0].stats()
    assert stats.attempts == (1 if trouble == "no ring" else 3)
    if trouble == "in a queue":
        assert len(spans_in(ring_dir)) == 3
    processor.shutdown()


def test_each_kind_of_warning_is_said_once_also_from_within_another(
    provider: TracerProvider, processor: RingSpanProcessor
) -> None:
    handler = TracedHandler(lambda: processor.on_end(no_ids()))
    logging.getLogger("ringbuf").addHandler(handler)
    try:
        provider.get_tracer("lib").start_span("larger", attributes={"text": "x" * 20_000}).end()
        until(lambda: handler.calls == 2)
        wait_until_told(60)
        processor.on_end(no_ids())
        wait_until_told(60)
        assert (handler.calls, processor.emitters[0].stats().local) == (2, 5)
    finally:
        logging.getLogger("ringbuf").removeHandler(handler)


def test_the_thread_that_ends_a_span_does_not_wait_for_a_handler(processor: RingSpanProcessor) -> None:
    class Held(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            assert may_go_on.wait(60)

    may_go_on = threading.Event()
    handler = Held()
    logging.getLogger("ringbuf").addHandler(handler)
    try:
        ender = threading.Thread(target=processor.on_end, args=(no_ids(),))
        ender.start()
        ender.join(30)
        has_waited = ender.is_alive()
        may_go_on.set()
        ender.join()
        wait_until_told(60)
    finally:
        logging.getLogger("ringbuf").removeHandler(handler)
    assert not has_waited


def test_a_span_whose_resource_cannot_be_read_is_counted(
    processor: RingSpanProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(ReadableSpan):
        @property
        def resource(self) -> Any:
            raise LookupError("no resource")

    for _ in range(2):
        processor.on_end(Unreadable("sale", CONTEXT))
    assert sum(emitter.stats().local for emitter in processor.emitters) == 2
    processor.on_end(ReadableSpan("sale", CONTEXT, resource=RESOURCE))
    processor.on_end(Unreadable("sale", CONTEXT))
    assert sum(emitter.stats().local for emitter in processor.emitters) == 3
    assert said(caplog).text.count("resource cannot be read") == 1


def test_a_handler_that_raises_does_not_hurt_the_program(processor: RingSpanProcessor) -> None:
    class Broken(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise RecursionError

    handler = Broken()
    logging.getLogger("ringbuf").addHandler(handler)
    try:
        processor.on_end(no_ids())
        wait_until_told(60)
    finally:
        logging.getLogger("ringbuf").removeHandler(handler)
    assert processor.emitters[0].stats().local == 1


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RINGBUF_OTEL_CAPACITY", "many"),
        ("RINGBUF_OTEL_CAPACITY", "1000"),
        ("RINGBUF_OTEL_SLOT_BYTES", "1000"),
        ("RINGBUF_OTEL_LARGE_CAPACITY", "-1"),
        ("RINGBUF_MODE", "999"),
        ("RINGBUF_MAX_BYTES", "much"),
        ("RINGBUF_DIR", "/proc/rings"),
        ("RINGBUF_DIR", "/proc"),
    ],
)
def test_a_variable_that_cannot_be_is_said_in_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, ring_dir: Path, name: str, value: str
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    monkeypatch.setenv(name, value)
    done = run(SILENT_ROOT)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("ringbuf: ")
    assert (name if name.startswith("RINGBUF_OTEL") else value) in line


# What OpenTelemetry's configuration leaves behind: a root handler that hands everything to an exporter.
SILENT_ROOT = """
import logging
from opentelemetry.sdk.trace import TracerProvider
from ringbuf.otel import RingSpanExporter
logging.getLogger().addHandler(logging.NullHandler())
provider = TracerProvider(shutdown_on_exit=False)
processor = RingSpanExporter().processor
provider.add_span_processor(processor)
for _ in range(10):
    provider.get_tracer("lib").start_span("sale").end()
stats = processor.emitters[0].stats()
print(stats.local + stats.pending, flush=True)
import os; os._exit(0)  # the ring's own word about spans without a drain is another matter
"""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"capacity": 1000}, ValueError),
        ({"lanes": 0}, ValueError),
        ({"mode": 0o777}, ValueError),
        ({"large_capacity": 3}, ValueError),
        ({"capacity": "8"}, TypeError),
    ],
)
def test_an_argument_that_cannot_be_is_an_error(
    ring_dir: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        RingSpanProcessor(ring_dir=ring_dir, **arguments)


def test_where_the_program_shows_a_warning_it_is_not_said_twice(
    processor: RingSpanProcessor, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    processor.on_end(no_ids())
    assert len(said(caplog).records) == 1
    assert capsys.readouterr().err == ""


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


def test_importing_the_package_does_not_import_opentelemetry() -> None:
    code = "import sys, ringbuf.dataplane; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert output_of(code) == "[]\n"
