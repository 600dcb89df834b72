"""The producer of an end-to-end trial: emits at a rate for some seconds and waits until the last span was accepted.

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY: Final = 1 << 19
"""Slots of the ring and of the SDK's queue: the same room for both, a quarter of a second at two million a second."""

_SDK_BATCH: Final = 4096  # the SDK's default of 512 costs it a tenth of its rate
_DRAIN_SECONDS: Final = 60.0
_TICK_SECONDS: Final = 0.0005
_LOOK_SECONDS: Final = 0.05
_APART_NANO: Final = 617


def paced(emit: Callable[[int], None], rate: float, seconds: float) -> tuple[int, float]:
    """Emit evenly; return how many spans, and when the first began (`time.perf_counter`).

    Args:
        emit: emits so many.
        rate: spans per second.
        seconds: for so long.
    """
    done, total = 0, int(rate * seconds)
    begin = time.perf_counter()
    while done < total:
        due = min(total, int((time.perf_counter() - begin) * rate) + 1) - done
        if due > 0:
            emit(due)
            done += due
        else:
            time.sleep(_TICK_SECONDS)
    return total, begin


def through_ring(ring_dir: str, rate: float, seconds: float) -> dict[str, float | list[int]]:
    """Emit with `site.emit`; a drain serves the directory."""
    import ringbuf
    from ringbuf.dataplane import LeaseId, OpType, site

    emitter = ringbuf.configure("bench", ring_dir=ring_dir, capacity=CAPACITY)
    emit, lease = site(OpType.FBMU_READ).emit, LeaseId(7)
    emit(lease, 1, 2)
    attached = emitter.wait_drained(_DRAIN_SECONDS)

    waiting: list[int] = []
    next_look = 0.0

    def burst(count: int) -> None:
        nonlocal next_look
        begin = time.time_ns()
        for start in range(begin, begin + count * _APART_NANO, _APART_NANO):  # no two spans have the same times
            emit(lease, start, start + 1500, 4096)
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _LOOK_SECONDS
            waiting.append(emitter.stats().pending)

    spans, begin = paced(burst, rate, seconds)
    emitted = time.perf_counter()
    accepted = attached and emitter.wait_drained(_DRAIN_SECONDS)
    end = time.perf_counter()
    emitter.close()
    stats = emitter.stats()
    return {
        "spans": spans + 1,
        "lost": stats.attempts - stats.published + (0 if accepted else stats.pending),
        "waiting": waiting,
        "emit_seconds": emitted - begin,
        "seconds": end - begin,
        "processor_seconds": time.process_time(),
    }


def through_sdk(protocol: str, endpoint: str, rate: float, seconds: float, delay: float) -> dict[str, float]:
    """Emit with the SDK and its OTLP exporter, compression on."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    from bench.emit.sdk import ATTRIBUTES, NAME

    exporter: SpanExporter
    if protocol == "sdk-http":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip)
    else:
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter

        exporter = trace_exporter.OTLPSpanExporter(
            endpoint=endpoint, insecure=True, compression=grpc.Compression.NoCompression
        )
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=CAPACITY,
        max_export_batch_size=_SDK_BATCH,
        schedule_delay_millis=1000 * delay,
    )
    tracers = TracerProvider()
    tracers.add_span_processor(processor)
    start = tracers.get_tracer("grafos.dataplane", "219").start_span
    start(NAME, attributes=ATTRIBUTES).end()
    processor.force_flush()

    def burst(count: int) -> None:
        for _ in range(count):
            start(NAME, attributes=ATTRIBUTES).end()

    spans, begin = paced(burst, rate, seconds)
    emitted = time.perf_counter()
    processor.force_flush()
    end = time.perf_counter()
    tracers.shutdown()
    return {
        "spans": spans + 1,
        "lost": 0,  # the SDK does not say: what has not arrived is lost
        "emit_seconds": emitted - begin,
        "seconds": end - begin,
        "processor_seconds": time.process_time(),
    }


def main() -> None:
    """Run one trial."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.sender", description=__doc__)
    parser.add_argument("how", choices=("ring", "sdk-http", "sdk-grpc"), help="through what")
    parser.add_argument("where", help="the ring directory, or the SDK's endpoint")
    parser.add_argument("rate", type=float, help="spans a second")
    parser.add_argument("seconds", type=float, help="that it emits for")
    parser.add_argument("delay", type=float, help="seconds that the SDK lets a batch wait")
    of = parser.parse_args()
    if of.how == "ring":
        print(json.dumps(through_ring(of.where, of.rate, of.seconds)))
    else:
        print(json.dumps(through_sdk(of.how, of.where, of.rate, of.seconds, of.delay)))


if __name__ == "__main__":
    main()
