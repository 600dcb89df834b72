"""The OpenTelemetry SDK with the ring behind it, beside the same SDK with its own queue and exporter.

`python -m bench.cost.otel_bridge [ROUNDS]`: each kind runs in a process of its own, a burst of spans at a time, and the
kinds take turns; a burst is over when its last span has left the process. Prints the time of a span on the thread that
ends it and the CPU time of the process (the drain's, which is another, not counted), each with its spread, and the
ratio of the latter to the bridge's, round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Final

from bench.deliver.end_to_end import Sink, drain
from bench.measure import Figure, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.sdk.trace import SpanProcessor

KINDS: Final = ("ring", "otlp_http", "do_nothing")
"""The bridge; the SDK's documented set-up; BatchSpanProcessor with an exporter that does nothing."""

_BURST: Final = 1500  # below the queue's and the ring's 2048: nothing is dropped
_ROUNDS: Final = 15
_TIMEOUT_SECONDS: Final = 60.0
_ATTRIBUTES: Final[Mapping[str, str | int | bool]] = {
    "http.request.method": "GET",
    "http.route": "/sale/<int:number>",
    "http.response.status_code": 200,
    "server.address": "127.0.0.1",
    "shop.member": True,
}


def burst_of(kind: str, where: str) -> Callable[[], dict[str, float]]:
    """Return what runs one burst and gives its figures in nanoseconds a span.

    Args:
        kind: one of KINDS.
        where: the ring directory, or the receiver's URL.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from bench.emit.sdk import DoNothingExporter

    processor: SpanProcessor
    if kind == "ring":
        from ringbuf.otel import RingSpanProcessor

        processor = ring = RingSpanProcessor(ring_dir=where)

        def finish() -> bool:
            return ring.emitters[0].wait_drained(_TIMEOUT_SECONDS)

    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{where}/v1/traces") if kind == "otlp_http" else DoNothingExporter()
        processor = BatchSpanProcessor(exporter)
        finish = processor.force_flush
    provider = TracerProvider(resource=Resource({"service.name": "bench"}))
    provider.add_span_processor(processor)
    start = provider.get_tracer("bench", "1").start_as_current_span

    def run() -> dict[str, float]:
        cpu, begin = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(_BURST):
            with start("GET /sale", attributes=_ATTRIBUTES):
                pass
        emitted = time.perf_counter_ns()
        assert finish()
        return {
            "wall_ns": (emitted - begin) / _BURST,
            "cpu_ns": (time.process_time_ns() - cpu) / _BURST,
        }

    return run


def serve(kind: str, where: str) -> None:
    """Run a burst for each line of standard input, and print its figures."""
    run = burst_of(kind, where)
    for _ in sys.stdin:
        print(json.dumps(run()), flush=True)


def measure(rounds: int) -> dict[str, dict[str, Figure]]:
    """Return each kind's figures over all rounds but the first, which warms up."""
    found: dict[str, dict[str, list[float]]] = {kind: {"wall_ns": [], "cpu_ns": []} for kind in KINDS}
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = stack.enter_context(Sink("http", keeps=False))
        stack.enter_context(drain(directory, "otlp-http", "--endpoint", sink.endpoint))
        processes = {
            kind: stack.enter_context(_process(kind, directory if kind == "ring" else sink.endpoint)) for kind in KINDS
        }
        for number in range(rounds + 1):
            for kind, process in processes.items():
                for name, value in _ask(process).items() if number else ():
                    found[kind][name].append(value)
    return {kind: {name: Figure.of(values) for name, values in of.items()} for kind, of in found.items()}


@contextlib.contextmanager
def _process(kind: str, where: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.cost.otel_bridge", "serve", kind, where]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    try:
        yield process
    finally:
        process.communicate(timeout=_TIMEOUT_SECONDS)


def _ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    figures: dict[str, float] = json.loads(process.stdout.readline())
    return figures


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] == ["serve"]:  # one of its own processes
        serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m bench.cost.otel_bridge", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=_ROUNDS, help=f"({_ROUNDS})")
    found = measure(parser.parse_args().rounds)
    print(f"{'':<12} {'on the ending thread':>26} {'CPU of the process':>26} {'over the ring':>22}")
    for kind, of in found.items():
        wall, cpu = (
            f"{figure.median / 1e3:.1f} us ({figure.low / 1e3:.1f} to {figure.high / 1e3:.1f})"
            for figure in (of["wall_ns"], of["cpu_ns"])
        )
        ratio = of["cpu_ns"].over(found["ring"]["cpu_ns"])
        print(f"{kind:<12} {wall:>26} {cpu:>26} {ratio.median:>8.2f} ({ratio.low:.2f} to {ratio.high:.2f})")


if __name__ == "__main__":
    main()
