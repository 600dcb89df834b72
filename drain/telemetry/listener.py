"""A small HTTP server for /metrics, /healthz and /readyz, in a thread of its own.

One asyncio loop serves all connections, so that a client that sends or reads slowly costs a few kilobytes and no
thread. Each connection gets one answer within a bounded time, and is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import TYPE_CHECKING, Final, NamedTuple

from isal import igzip
from prometheus_client.exposition import choose_encoder, gzip_accepted

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from drain.telemetry.health import Health

_WRITE_BYTES: Final = 65536  # what is buffered for a client that reads slowly
_FRESH_SECONDS: Final = 1.0  # scrapes within it get the same answer, however many there are
_PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take.

    Attributes:
        connections: at the same time. Beyond, the longest waiting for its request to come is closed if it had
            `patience_seconds`, else the new one.
        request_bytes: of the request with its headers.
        request_seconds: from the connection to the end of the request.
        answer_seconds: to make and to send the answer.
        patience_seconds: see `connections`.
    """

    connections: int = 256
    request_bytes: int = 8192
    request_seconds: float = 5.0
    answer_seconds: float = 30.0
    patience_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Listener:
    """Serves until `close`.

    Args:
        host: where; empty: on every interface.
        port: 0: any free one.
        registry: what /metrics shows.
        health: what /healthz and /readyz ask.
        log: for trouble.
        bounds: what clients may take.

    Raises:
        OSError: nobody can listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Health,
        *,
        log: FilteringBoundLogger,
        bounds: Bounds | None = None,
    ) -> None:
        self._health = health
        self._pages = _Pages(registry)
        self._log = log
        self._bounds = bounds or Bounds()
        self._refused = 0
        # By task: when it began to wait for its request; in this order.
        self._waiting: dict[asyncio.Task[None], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(self._connected, host or None, port, limit=self._bounds.request_bytes)
            )
        except BaseException:
            self._loop.close()
            raise
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first address that is listened on."""
        host, port, *_ = self._server.sockets[0].getsockname()
        return host, port

    @property
    def connections_refused(self) -> int:
        """How many connections were closed unanswered, since there were too many or they were too slow."""
        return self._refused

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._server.close()
            self._loop.run_until_complete(self._drop_all())
        finally:
            self._pages.close()
            self._loop.close()

    async def _drop_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._tasks.add(task)
        try:
            if len(self._tasks) <= self._bounds.connections or self._closed_one_that_waits():
                await self._serve(task, reader, writer)
            else:
                self._refused += 1
        except (TimeoutError, asyncio.CancelledError):
            self._refused += 1
        except OSError:
            pass  # the client has gone
        except Exception as error:  # noqa: BLE001 - whatever it is, the drain and the other clients go on
            self._log.error("listener failed to answer", reason=repr(error))
        finally:
            self._waiting.pop(task, None)
            self._tasks.discard(task)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # `close` would wait for a client that does not read
            else:
                writer.close()

    def _closed_one_that_waits(self) -> bool:
        for task, since in self._waiting.items():
            if self._loop.time() - since < self._bounds.patience_seconds:
                break
            del self._waiting[task]
            task.cancel()
            return True
        return False

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._waiting[task] = self._loop.time()
        try:
            async with asyncio.timeout(self._bounds.request_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            head = None
        self._waiting.pop(task, None)
        async with asyncio.timeout(self._bounds.answer_seconds):
            if head is None:
                is_head, answer = False, _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            else:
                is_head, answer = await self._answer(head)
            await _send(writer, answer, without_body=is_head)

    async def _answer(self, head: bytes) -> tuple[bool, _Answer]:
        try:
            method, target, headers = _parse(head)
        except (ValueError, HTTPException):
            return False, _error(HTTPStatus.BAD_REQUEST)
        if method not in {"GET", "HEAD"}:
            return False, replace(_error(HTTPStatus.METHOD_NOT_ALLOWED), headers=(("Allow", "GET, HEAD"),))
        match target.partition("?")[0]:
            case "/metrics":
                answer = await self._pages.metrics(headers)
            case "/healthz":
                answer = _verdict("alive", self._health.not_alive())
            case "/readyz":
                more = {"pid": os.getpid(), "backend": self._health.backend()}
                answer = _verdict("ready", self._health.not_ready(), more)
            case _:
                answer = _error(HTTPStatus.NOT_FOUND)
        return method == "HEAD", answer


class _Form(NamedTuple):
    is_openmetrics: bool
    is_gzip: bool


class _Pages:
    """Makes the page of metrics, one at a time in a thread, and not more often than once a second in each form."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._made: dict[_Form, tuple[float, _Answer]] = {}
        self._maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._lock = asyncio.Lock()

    async def metrics(self, headers: Message) -> _Answer:
        form = _Form("application/openmetrics-text" in headers.get("Accept", ""), _accepts_gzip(headers))
        async with self._lock:
            made_at, answer = self._made.get(form, (0.0, None))
            if answer is None or self._clock() - made_at >= _FRESH_SECONDS:
                answer = await asyncio.get_running_loop().run_in_executor(self._maker, self._make, form)
                self._made[form] = (self._clock(), answer)
        return answer

    def close(self) -> None:
        self._maker.shutdown(wait=False, cancel_futures=True)

    def _make(self, form: _Form) -> _Answer:
        # Of what a client may ask for in Accept, only the two forms: the client library would make one a version.
        encode, content_type = choose_encoder("application/openmetrics-text" if form.is_openmetrics else "")
        body = encode(self._registry)
        if not form.is_gzip:
            return _Answer(HTTPStatus.OK, content_type, body)
        return _Answer(HTTPStatus.OK, content_type, igzip.compress(body, 1), (("Content-Encoding", "gzip"),))


def _accepts_gzip(headers: Message) -> bool:
    return bool(gzip_accepted(headers.get("Accept-Encoding", "")))


def _parse(head: bytes) -> tuple[str, str, Message]:
    line, _, rest = head.partition(b"\r\n")
    method, target, version = line.decode("ascii").split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"{version} is not spoken here")
    return method, target, parse_headers(BytesIO(rest))


def _verdict(what: str, reasons: list[str], more: dict[str, object] | None = None) -> _Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    body = json.dumps({what: not reasons, "reasons": reasons, **(more or {})}) + "\n"
    return _Answer(status, "application/json", body.encode())


def _error(status: HTTPStatus) -> _Answer:
    return _Answer(status, _PLAIN, f"{status.phrase}. There are /metrics, /healthz and /readyz.\n".encode())


async def _send(writer: asyncio.StreamWriter, answer: _Answer, *, without_body: bool) -> None:
    headers = (
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *answer.headers,
    )
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits until all has gone to the kernel
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    body = b"" if without_body else answer.body
    for start in range(0, len(body), _WRITE_BYTES):
        writer.write(body[start : start + _WRITE_BYTES])
        await writer.drain()
    await writer.drain()
