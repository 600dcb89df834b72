"""An OTLP receiver that keeps the bodies and decodes them when asked: the clock of the sender has stopped by then.

Prints its endpoint. Each line on standard input is answered by one line of JSON: how many spans, distinct span ids,
requests and bytes on the wire came since the last, and how old the spans were (p50, p99, ms since their end); then they
are forgotten. The line "forget" is answered by an empty object: they are forgotten at once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import sys
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

_GZIP_MAGIC: Final = b"\x1f\x8b"
_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Bodies:
    """What came since the last look.

    Args:
        keeps: whether it is kept: in a long run it is not.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self.all: list[tuple[int, bytes]] = []
        self._keeps = keeps

    def add(self, body: bytes) -> None:
        """Keep a body with the time at which it was complete."""
        if self._keeps:
            self.all.append((time.time_ns(), body))

    def take(self) -> list[tuple[int, bytes]]:
        """Return what came, and forget it."""
        taken, self.all = self.all, []
        return taken


def serve_http(bodies: Bodies) -> str:
    """Answer every POST with 200 and keep its body; return the endpoint.

    By hand, since a framework's own cost for each request would be the benchmark's: the requests are the two clients'
    own, with a Content-Length.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _address = listener.accept()
            threading.Thread(target=_serve_connection, args=(connection, bodies), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _serve_connection(connection: socket.socket, bodies: Bodies) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", buffering=1 << 20) as stream:
        while stream.readline():  # the request line
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = stream.read(length)
            if len(body) < length:
                return
            bodies.add(body)
            connection.sendall(_OK)


def serve_grpc(bodies: Bodies) -> str:
    """Answer every Export with an empty response and keep its message, undecoded; return the endpoint."""
    import grpc

    def export(body: bytes, _context: grpc.ServicerContext) -> bytes:
        bodies.add(body)
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(export) if handler_call_details.method == _METHOD else None

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _kept.append(server)
    return f"http://127.0.0.1:{port}"


_kept: Final[list[object]] = []  # a gRPC server ends with its last reference


def decoded(bodies: Iterable[tuple[int, bytes]]) -> dict[str, float]:
    """Return how many spans and distinct span ids there are, in how many requests and bytes, and how old they were."""
    spans = requests = nbytes = 0
    ids: set[bytes] = set()
    ages = array("q")
    for arrived, body in bodies:
        requests += 1
        nbytes += len(body)
        plain = gzip.decompress(body) if body.startswith(_GZIP_MAGIC) else body
        for resource_spans in ExportTraceServiceRequest.FromString(plain).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                spans += len(scope_spans.spans)
                ids.update(span.span_id for span in scope_spans.spans)
                ages.extend(arrived - span.end_time_unix_nano for span in scope_spans.spans)
    p50, p99 = np.percentile(np.frombuffer(ages, "i8"), [50, 99]) / 1e6 if ages else (0.0, 0.0)
    return {"spans": spans, "ids": len(ids), "requests": requests, "bytes": nbytes, "p50": p50, "p99": p99}


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.sink", description=__doc__)
    parser.add_argument("protocol", choices=("http", "grpc"))
    parser.add_argument("bodies", nargs="?", choices=("keep", "forget"), default="keep", help="forget: for long runs")
    options = parser.parse_args()
    bodies = Bodies(keeps=options.bodies == "keep")
    print((serve_http if options.protocol == "http" else serve_grpc)(bodies), flush=True)
    for line in sys.stdin:
        taken = bodies.take()
        print(json.dumps({} if line == "forget\n" else decoded(taken)), flush=True)


if __name__ == "__main__":
    main()
