"""OpenTelemetry SDK spans into the ring: `RingSpanProcessor`, and `RingSpanExporter` for where only an exporter fits.

    provider.add_span_processor(RingSpanProcessor())

A span is in the ring when it has ended: nothing waits in this process, and what a drain finds there after a SIGKILL is
everything that had ended before. Needs `ringbuf-spans[otel]`.

The ring has the SDK's resource (with `process.pid`, `host.name` and `service.instance.id` where that has none). Each
record has its own instrumentation scope, so that a process needs one ring however many libraries are instrumented.
"""

from ringbuf.otel.context import nest
from ringbuf.otel.exporter import RingSpanExporter
from ringbuf.otel.processor import DEFAULT_CAPACITY, DEFAULT_LARGE_CAPACITY, DEFAULT_SLOT_BYTES, RingSpanProcessor
from ringbuf.otel.span import SPAN_NAME

__all__ = [
    "DEFAULT_CAPACITY",
    "DEFAULT_LARGE_CAPACITY",
    "DEFAULT_SLOT_BYTES",
    "SPAN_NAME",
    "RingSpanExporter",
    "RingSpanProcessor",
    "nest",
]
