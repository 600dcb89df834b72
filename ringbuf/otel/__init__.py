"""OpenTelemetry SDK spans into the ring: `RingSpanProcessor`, and `RingSpanExporter` for where only an exporter fits.

    provider.add_span_processor(RingSpanProcessor())

A span is in the ring when it has ended: nothing waits in this process, and what a drain finds there after a SIGKILL is
everything that had ended before. Needs `ringbuf-spans[otel]`.

The ring has the SDK's resource (with `process.pid`, `host.name` and `service.instance.id` where that has none). Each
record has its own instrumentation scope, so that a process needs one ring however many libraries are instrumented.
"""

try:
    from ringbuf.otel.context import nest
    from ringbuf.otel.exporter import RingSpanExporter
    from ringbuf.otel.processor import DEFAULT_CAPACITY, DEFAULT_LARGE_CAPACITY, DEFAULT_SLOT_BYTES, RingSpanProcessor
    from ringbuf.otel.span import SPAN_NAME
except ImportError as error:
    if (error.name or "").partition(".")[0] == "opentelemetry":
        raise ImportError(
            f"ringbuf.otel needs opentelemetry-sdk 1.36 or later: pip install 'ringbuf-spans[otel]' ({error})",
            name=error.name,
        ) from error
    raise

__all__ = [
    "DEFAULT_CAPACITY",
    "DEFAULT_LARGE_CAPACITY",
    "DEFAULT_SLOT_BYTES",
    "SPAN_NAME",
    "RingSpanExporter",
    "RingSpanProcessor",
    "nest",
]
