"""OTLP backends under a test's control: they do what the test lines up, and remember every request they got.

`OtlpHttpServer` and `OtlpGrpcServer` answer each request with the next *play* of their queue, and with success when the
queue is empty, or as `otherwise` has it. Nothing sleeps: a play that makes the client wait does so until the server is
stopped.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import zstandard
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from drain.exporters.otlp_grpc import METHODS
from drain.otlp.json_lines import from_json_line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PROTOBUF = {"Content-Type": "application/x-protobuf"}
_STOP_SECONDS = 60


@dataclass
class Received:
    """One request as it arrived: over HTTP `headers` has lower-case names; `wire` is the body before decompression."""

    path: str
    headers: dict[str, str]
    wire: bytes
    body: bytes

    @functools.cached_property
    def message(self) -> ExportTraceServiceRequest:
        is_json = self.headers.get("content-type") == "application/json"
        body = from_json_line(self.body).SerializeToString() if is_json else self.body
        return ExportTraceServiceRequest.FromString(body)

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for resource_spans in self.message.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]


class OtlpHandler(http.server.BaseHTTPRequestHandler):
    """Reads a request whole, records it, and hands the connection to the next play."""

    protocol_version = "HTTP/1.1"
    timeout = _STOP_SECONDS  # no connection outlives its test by more
    server: _ThreadingServer
    received: Received

    def setup(self) -> None:
        super().setup()
        self.server.owner.connections.append(self.connection)

    def finish(self) -> None:
        super().finish()
        if not self.server.owner.keeps:
            self.server.owner.connections.remove(self.connection)

    def do_POST(self) -> None:
        wire = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        match headers.get("content-encoding"):
            case "gzip":
                body = gzip.decompress(wire)
            case "zstd":
                body = zstandard.ZstdDecompressor().decompress(wire)
            case _:
                body = wire
        self.received = Received(self.path, headers, wire, body)
        self.server.owner.met(self.received)(self)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def wait_for_stop(self, seconds: float = _STOP_SECONDS) -> bool:
        return self.server.owner.stopping.wait(seconds)

    def log_message(self, *arguments: object) -> None:
        pass


def reply(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Callable[[OtlpHandler], None]:
    """Answer with this status, body and headers."""
    return lambda handler: handler.answer(status, body, headers)


def success(rejected: int = 0, message: str = "") -> Callable[[OtlpHandler], None]:
    """Answer 200 with the response message of OTLP, which may tell of a partial success."""
    return reply(200, partial_success(rejected, message), PROTOBUF)


def partial_success(rejected: int, message: str) -> bytes:
    if not rejected and not message:
        return ExportTraceServiceResponse().SerializeToString()
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


def refusal(status: int, message: str) -> Callable[[OtlpHandler], None]:
    """Answer with an error whose body is the `google.rpc.Status` that OTLP asks for."""
    return reply(status, Status(message=message).SerializeToString(), PROTOBUF)


def truncated(status: int = 200) -> Callable[[OtlpHandler], None]:
    """Promise 100 bytes, send ten, hang up."""

    def play(handler: OtlpHandler) -> None:
        handler.answer(status, b"0123456789", PROTOBUF | {"Content-Length": "100"})
        handler.close_connection = True

    return play


def disconnect(handler: OtlpHandler) -> None:
    """Hang up without a word."""
    handler.close_connection = True


def reset(handler: OtlpHandler) -> None:
    """Hang up with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.close_connection = True


def half_close(handler: OtlpHandler) -> None:
    """Close the sending half in the middle of the status line and keep the connection otherwise."""
    handler.wfile.write(b"HTTP/1.1 2")
    handler.connection.shutdown(socket.SHUT_WR)
    handler.connection.recv(1)  # until the client closes
    handler.close_connection = True


def silent(handler: OtlpHandler) -> None:
    """Never answer."""
    handler.wait_for_stop()
    handler.close_connection = True


def garbage(handler: OtlpHandler) -> None:
    """Answer with what is not HTTP."""
    handler.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    handler.close_connection = True


def endless(status: int = 200) -> Callable[[OtlpHandler], None]:
    """Answer with a body that never ends, as fast as the client reads it."""

    def play(handler: OtlpHandler) -> None:
        handler.send_response(status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):  # the client has had enough
            while not handler.wait_for_stop(0):
                handler.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    return play


def drip(start: bytes) -> Callable[[OtlpHandler], None]:
    """Send `start`, then a byte every 20 ms: no single wait of the client is long."""

    def play(handler: OtlpHandler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):  # the client has had enough
            handler.wfile.write(start)
            while not handler.wait_for_stop(0.02):
                handler.wfile.write(b"x")

    return play


class _ThreadingServer(http.server.ThreadingHTTPServer):
    daemon_threads = False
    owner: OtlpHttpServer
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        # In the connection's own thread, so that a client that fails the handshake stops nobody else.
        request.settimeout(_STOP_SECONDS)
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, *arguments: object) -> None:
        pass  # clients that hang up are what the tests are about


class OtlpHttpServer:
    """An OTLP/HTTP backend on a free loopback port (or on `port`, to come back where it was).

    Args:
        port: 0: one that is free.
        host: address that is listened on.
        tls: what it speaks TLS with.
        otherwise: answers a request for which no play is lined up.
        keeps: whether it remembers requests and connections; not where it runs for long.

    Attributes:
        plays: a queue of functions that answer one request each.
        requests: everything that arrived.
        connections: every connection that was opened.
    """

    def __init__(
        self,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        otherwise: Callable[[OtlpHandler], None] | None = None,
        keeps: bool = True,
    ) -> None:
        self.otherwise = otherwise or success()
        self.keeps = keeps
        self.plays: queue.SimpleQueue[Callable[[OtlpHandler], None]] = queue.SimpleQueue()
        self.requests: list[Received] = []
        self.connections: list[socket.socket] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = _ThreadingServer((host, port), OtlpHandler)
        self._server.owner = self
        self._server.tls = tls
        self.host, self.port = host, self._server.server_port
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def play(self, *plays: Callable[[OtlpHandler], None]) -> None:
        """Line up what the next requests meet."""
        for one in plays:
            self.plays.put(one)

    def met(self, request: Received) -> Callable[[OtlpHandler], None]:
        """Remember a request and return what answers it: of those that come at once, too, the first the first play."""
        with self._lock:
            if self.keeps:
                self.requests.append(request)
            try:
                return self.plays.get_nowait()
            except queue.Empty:
                return self.otherwise

    def stop(self) -> None:
        """Stop listening and hang up every connection."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join(_STOP_SECONDS)
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()  # joins the connections' threads

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


@dataclass
class GrpcAnswer:
    """What a gRPC call meets: a status other than OK aborts it; `silent` never answers."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    reply: bytes = b""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    silent: bool = False


def with_retry_info(code: grpc.StatusCode, seconds: float) -> GrpcAnswer:
    """Return an answer that carries RetryInfo, as OTLP/gRPC throttling has it."""
    info = RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9)))
    detail = AnyMessage()
    detail.Pack(info)
    status = Status(code=code.value[0], message="slow down", details=[detail])
    return GrpcAnswer(code, "slow down", trailers=(("grpc-status-details-bin", status.SerializeToString()),))


@dataclass
class OtlpGrpcServer:
    """An OTLP/gRPC backend on a free loopback port (or on `port`, to come back where it was)."""

    port: int = 0
    credentials: grpc.ServerCredentials | None = None
    requests: list[Received] = field(default_factory=list)
    plays: queue.SimpleQueue[GrpcAnswer] = field(default_factory=queue.SimpleQueue)
    stopping: threading.Event = field(default_factory=threading.Event)
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0), *self.options])
        for path in METHODS.values():
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
                functools.partial(self._export, path)
            )
            service, method = path[1:].split("/")
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)

    @property
    def url(self) -> str:
        return f"{'http' if self.credentials is None else 'https'}://127.0.0.1:{self.port}"

    def play(self, *answers: GrpcAnswer) -> None:
        """Line up what the next calls meet."""
        for answer in answers:
            self.plays.put(answer)

    def _export(self, path: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {name: str(value) for name, value in context.invocation_metadata()}
        with self._lock:  # as above
            self.requests.append(Received(path, headers, body, body))
            try:
                answer = self.plays.get_nowait()
            except queue.Empty:
                return b""
        if answer.silent:
            self.stopping.wait(_STOP_SECONDS)
        context.set_trailing_metadata(answer.trailers)
        if answer.code is not grpc.StatusCode.OK:
            context.abort(answer.code, answer.details)
        return answer.reply

    def stop(self) -> None:
        """Stop listening and cancel every call."""
        self.stopping.set()
        self._server.stop(0).wait(_STOP_SECONDS)
        self._pool.shutdown()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
