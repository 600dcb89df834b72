"""The OpenTelemetry SDK's span with the same five attributes, in the forms that stand against our doors."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bench.emit.ours import TRACEPARENT, busy_thread, sampled, threads_burst
from bench.measure import bursts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from bench.measure import Round

NAME: Final = "grafos.dataplane.fbmu"
# All five at once when the span is made: set_attribute, one by one, would cost the SDK 5 µs more.
ATTRIBUTES: Final[Mapping[str, str | int]] = {
    "grafos.lease.id": "00000000000000000000000000000007",
    "grafos.resource.kind": "mem",
    "grafos.operation": "fbmu_read",
    "grafos.outcome": "ok",
    "grafos.bytes": 4096,
}
_BURST: Final = 2000  # below the queue's 2,048: nothing is dropped
_BURST_ALONE: Final = 500  # below the batch size of 512: the worker thread sleeps on
_TIMES: Final = 3


class DoNothingExporter(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Forget."""
        del spans
        return SpanExportResult.SUCCESS


def start_span(tracer: Tracer) -> Callable[[int], None]:
    """`start_span` with five attributes, `end`."""
    start = tracer.start_span

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            start(NAME, attributes=ATTRIBUTES).end()

    return burst


def current_span(tracer: Tracer) -> Callable[[int], None]:
    """`with start_as_current_span`, one of the attributes set inside."""
    start = tracer.start_as_current_span
    attributes = {key: value for key, value in ATTRIBUTES.items() if key != "grafos.bytes"}

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            with start(NAME, attributes=attributes) as span:
                span.set_attribute("grafos.bytes", 4096)

    return burst


def extract_and_start(tracer: Tracer) -> Callable[[int], None]:
    """The W3C propagator's `extract`, then `start_span` under it."""
    start, extract = tracer.start_span, TraceContextTextMapPropagator().extract

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            start(NAME, context=extract({"traceparent": TRACEPARENT}), attributes=ATTRIBUTES).end()

    return burst


@contextmanager
def provider() -> Iterator[tuple[Tracer, BatchSpanProcessor]]:
    """Set the SDK up as its documentation does, but for the exporter."""
    processor = BatchSpanProcessor(DoNothingExporter())
    tracers = TracerProvider()
    tracers.add_span_processor(processor)
    yield tracers.get_tracer("grafos.dataplane", "219"), processor
    tracers.shutdown()


@contextmanager
def alone(door: Callable[[Tracer], Callable[[int], None]]) -> Iterator[Round]:
    """Measure a door: with the worker thread's part, and (`caller_ns`) without.

    The first counts until the last span has left the queue; the second counts calls while the worker sleeps.
    """
    with provider() as (tracer, processor):
        burst = door(tracer)

        def burst_and_flush(count: int) -> None:
            burst(count)
            processor.force_flush()

        def run_round() -> dict[str, float]:
            figures = bursts(burst_and_flush, processor.force_flush, _BURST, _TIMES)
            return figures | {"caller_ns": bursts(burst, processor.force_flush, _BURST_ALONE, _TIMES)["ns"]}

        yield run_round


@contextmanager
def beside_busy_thread() -> Iterator[Round]:
    """Measure single spans while another thread of this process computes."""
    with provider() as (tracer, processor), busy_thread():
        start = tracer.start_span
        yield lambda: sampled(lambda: start(NAME, attributes=ATTRIBUTES).end(), processor.force_flush, 500)


@contextmanager
def in_threads(count: int) -> Iterator[Round]:
    """Measure spans from several threads: nanoseconds of wall time per span, all threads together."""
    with provider() as (tracer, processor):
        burst = start_span(tracer)
        yield lambda: {"ns": threads_burst(burst, processor.force_flush, count, _BURST)}


PROBES: Final = {
    "sdk.start_span": functools.partial(alone, start_span),
    "sdk.start_as_current_span": functools.partial(alone, current_span),
    "sdk.extract_and_start_span": functools.partial(alone, extract_and_start),
    "sdk.start_span_beside_busy_thread": beside_busy_thread,
    **{f"sdk.start_span_{count}_threads": functools.partial(in_threads, count) for count in (1, 2, 4, 16)},
}
