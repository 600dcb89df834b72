"""A producer that is killed with spans that nobody has taken yet: how many of them arrive. `python -m bench.deliver.killed`.

A child process emits so many spans and is killed at once, before the SDK's exporter or our drain had its turn. Then a
drain takes what is in the ring. The SDK's spans would arrive over OTLP/HTTP at a receiver in this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

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


class Receiver:
    """Counts the spans that are posted to it."""

    def __init__(self) -> None:
        from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

        self.spans = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in TracesData.FromString(body).resource_spans:
                    receiver.spans += sum(len(scope.spans) for scope in resource.scope_spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


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
    receiver = Receiver()
    killed(_SDK, spans, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"})
    receiver.close()
    return receiver.spans


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
