"""A producer that is killed with spans that nobody has taken yet: how many of them arrive.

A child process emits so many spans and is killed at once, before the SDK's exporter or our drain had its turn. Then a
drain takes what is in the ring. The SDK's spans would arrive over OTLP/HTTP at a receiver (sink.py).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.deliver.end_to_end import Sink

_EMIT: Final = """
import sys
import ringbuf
layout = ringbuf.SpanLayout(span_names=["work"], attributes=[], scope_name="killed")
emitter = ringbuf.Emitter("killed", layout=layout)
site = emitter.site("work")
for _ in range(int(sys.argv[1])):
    site.emit(ringbuf.unix_nano())
print("emitted", flush=True)
sys.stdin.read()
"""
_SDK: Final = """
import sys
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("killed")
for _ in range(int(sys.argv[1])):
    tracer.start_span("work").end()
print("emitted", flush=True)
sys.stdin.read()
"""


def killed(code: str, spans: int, environment: dict[str, str]) -> None:
    """Run a producer until it has emitted its spans, and kill it."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(spans)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"emitted\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()


def ours(spans: int) -> int:
    """Return how many of our spans arrive."""
    with tempfile.TemporaryDirectory() as folder:
        rings = Path(folder, "rings")
        rings.mkdir(mode=0o700)
        killed(_EMIT, spans, {"RINGBUF_DIR": str(rings)})
        lines = Path(folder, "spans.jsonl")
        options = ["--ring-dir", str(rings), "--once", "--output", str(lines), "--state-dir", "off"]
        drain = [sys.executable, "-m", "drain", *options]
        subprocess.run(drain, check=True, capture_output=True)
        return lines.read_text(encoding="utf-8").count('"spanId"')


def theirs(spans: int) -> int:
    """Return how many of the SDK's spans arrive."""
    with Sink("http") as sink:
        killed(_SDK, spans, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint})
        return int(sink.count()["spans"])


def main() -> None:
    """Print how many spans arrive, of both."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.killed", description=__doc__)
    parser.add_argument("--spans", type=int, default=1000, help="that the producer emits (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="producers of each kind that are killed (5)")
    options = parser.parse_args()
    for name, run in (("ringbuf", ours), ("OpenTelemetry SDK, BatchSpanProcessor, OTLP/HTTP", theirs)):
        arrived = [run(options.spans) for _ in range(options.rounds)]
        print(f"{name}: of {options.spans} spans arrived {min(arrived)} to {max(arrived)}, {options.rounds} rounds")


if __name__ == "__main__":
    main()
