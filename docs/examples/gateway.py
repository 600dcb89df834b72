"""A gateway for `make fleet-demo`: takes OTLP over HTTP, writes down which spans it got, and only then answers.

Run as a program it serves (`gateway.py PORT FILE`) until it is killed; imported, it reads such a file. A line is a
span: host, trace id, span id. What was acknowledged is in the file whatever happens to the process. A line that a kill
has cut belongs to a request that had no answer: it will come again, and the line is passed over.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter, defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_HOST: Final = "host.name"
_WORDS: Final = 3
_MOST_BYTES: Final = 64 << 20
_ANSWER: Final = ExportTraceServiceResponse().SerializeToString()


class Received:
    """What a gateway's file says, as far as it was read.

    Args:
        path: the file; it need not be there yet.

    Attributes:
        spans: ids of the spans that have come from each host.
        lines: how many spans have come from each host, counting again what came again.
        traces: ids of their traces.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.spans: defaultdict[str, set[int]] = defaultdict(set)
        self.lines: Counter[str] = Counter()
        self.traces: set[str] = set()

    def read_on(self) -> None:
        """Read what was added since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.decode().split("\n"):
            words = line.split(" ")
            if len(words) == _WORDS and len(words[2]) == 16:  # noqa: PLR2004 - hex digits of a span id
                host, trace_id, span_id = words
                self.spans[host].add(int(span_id, 16))
                self.lines[host] += 1
                self.traces.add(trace_id)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: IO[bytes]

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "-1"))
        if not 0 <= length <= _MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(length)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.file.write(_lines(ExportTraceServiceRequest.FromString(body)))  # one write(2): requests do not mix
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing of single requests."""


def _lines(request: ExportTraceServiceRequest) -> bytes:
    lines = []
    for resource_spans in request.resource_spans:
        named = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
        host = named.get(_HOST, "?").replace(" ", "_")
        for scope_spans in resource_spans.scope_spans:
            lines += [f"{host} {span.trace_id.hex()} {span.span_id.hex()}\n" for span in scope_spans.spans]
    return "".join(lines).encode()


def serve(port: int, path: Path) -> None:
    """Serve on this port of 127.0.0.1 until the process ends."""
    with path.open("ab", buffering=0) as file:
        if file.tell():
            file.write(b"\n")  # ends a line that a kill has cut
        _Handler.file = file
        with ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
            server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
