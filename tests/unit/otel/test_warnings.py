"""What the processor says: once, from a thread of its own, and to somebody."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags

from ringbuf.log import wait_until_told
from ringbuf.otel import RingSpanExporter, RingSpanProcessor
from tests.python import run
from tests.service.draining import until
from tests.unit.otel.arrived import CONTEXT, RESOURCE, said, spans_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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

    wait_until_told(60)  # what was said when it was configured
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
        ender.join(120)
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
from ringbuf.log import wait_until_told
from ringbuf.otel import RingSpanExporter
logging.getLogger().addHandler(logging.NullHandler())
provider = TracerProvider(shutdown_on_exit=False)
processor = RingSpanExporter().processor
provider.add_span_processor(processor)
for _ in range(10):
    provider.get_tracer("lib").start_span("sale").end()
stats = processor.emitters[0].stats()
print(stats.local + stats.pending, flush=True)
wait_until_told(60)  # the line is said by another thread
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
