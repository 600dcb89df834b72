"""OTLP over HTTP, in protobuf or JSON, on a pool of kept-alive connections.

Source: opentelemetry-proto `docs/specification.md`, "OTLP/HTTP"; OpenTelemetry specification `protocol/exporter.md`.
"""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import urllib3
from urllib3.exceptions import HTTPError

from drain.exporters.compression import compressor
from drain.exporters.endpoint import USER_AGENT, http_traces_url, split_endpoint
from drain.exporters.http_connection import Deadline, WatchedPool, WatchedTLSPool
from drain.exporters.otlp_reply import delivered, error_text, one_line, retry_after, says_too_large
from drain.exporters.protocol import Result, Verdict
from drain.exporters.tls import client_context
from drain.otlp.transcode import in_encoding
from drain.settings.exporter_kind import ExporterKind
from drain.settings.otlp_environment import header_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.response import BaseHTTPResponse

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request
    from drain.settings.otlp_environment import OtlpSettings

RETRYABLE = frozenset({429, 502, 503, 504})
LONGEST_REPLY = 65536
_OWN_HEADERS = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "connection"})
_CONTENT_TYPES: dict[Encoding, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "otlp-http" or "otlp-http-json"."""
    encoding: Encoding = "json" if destination.kind is ExporterKind.OTLP_HTTP_JSON else "protobuf"
    return OtlpHttpExporter(http_traces_url(destination.otlp, destination.endpoint), encoding, destination.otlp)


class OtlpHttpExporter:
    """Posts batches to one URL.

    Redirects are not followed: OTLP gives them no meaning, and a client that repeats a POST elsewhere sends spans and
    credentials where nobody configured them. Proxies are taken from http_proxy, https_proxy and no_proxy.

    Args:
        url: of the traces, with its path (`drain.exporters.endpoint.http_traces_url`).
        encoding: of the body.
        settings: headers, compression (default gzip), timeout and TLS files.
        connections: idle ones that are kept: as many as there are threads that export.

    Raises:
        ValueError: the URL, a header, the compression or a PEM file cannot work.
    """

    def __init__(self, url: str, encoding: Encoding, settings: OtlpSettings, *, connections: int = 8) -> None:
        parts = split_endpoint(url)
        self.encoding: Encoding = encoding
        self.endpoint = parts._replace(query="").geturl()  # a query may hold a key
        self._url = url
        self._timeout = settings.timeout_seconds
        compression = settings.compression or "gzip"
        self._compress = compressor(compression)
        self._headers = _headers(encoding, compression, settings.headers)
        self._pool = _pool(parts.scheme, parts.hostname or "", settings, connections)

    def export(self, request: Request) -> Result:
        """Post one batch and judge the answer; see `drain.exporters.protocol.Exporter`."""
        body = in_encoding(request, self.encoding).body
        if self._compress is not None:
            body = self._compress(body)
        with Deadline(self._timeout) as deadline:
            try:
                response = self._pool.urlopen(
                    "POST",
                    self._url,
                    body=body,
                    headers=self._headers,
                    timeout=urllib3.Timeout(total=self._timeout),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except (HTTPError, OSError) as error:
                return self._undelivered(error, deadline)
            reply, broke_off = _read(response)
            # To the parser the deadline's shutdown may look like the end of a body without length.
            if deadline.expired and broke_off is None:
                broke_off = TimeoutError()
            if broke_off is not None and response.status < HTTPStatus.MULTIPLE_CHOICES:
                # What the lost rest would have said about rejected spans is unknown, so the batch is sent again.
                return self._undelivered(broke_off, deadline)
        return replace(_judge(response.status, response.headers, reply, request.spans), sent_bytes=len(body))

    def close(self) -> None:
        """Close the idle connections; those in use close when their attempt ends."""
        self._pool.clear()

    def _undelivered(self, error: Exception, deadline: Deadline) -> Result:
        if deadline.expired:
            return Result(Verdict.RETRY, message=f"no complete answer within {self._timeout:g} s")
        return Result(Verdict.RETRY, message=one_line(str(error)))


def _headers(encoding: Encoding, compression: str, given: Mapping[str, str]) -> dict[str, str]:
    headers = {"user-agent": USER_AGENT, "accept": _CONTENT_TYPES[encoding], "accept-encoding": "identity"}
    for name, value in given.items():
        own = "the exporter sets it itself; leave it out" if name.lower() in _OWN_HEADERS else None
        problem = own or header_problem(name, value)
        if problem:
            raise ValueError(f"header {name!r} cannot be sent: {problem}")
        headers[name.lower()] = value
    headers["content-type"] = _CONTENT_TYPES[encoding]
    if compression != "none":
        headers["content-encoding"] = compression
    return headers


def _pool(scheme: str, host: str, settings: OtlpSettings, connections: int) -> urllib3.PoolManager:
    context = client_context(settings) if scheme == "https" else None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(host):
        try:
            pool: urllib3.PoolManager = urllib3.ProxyManager(proxy, maxsize=connections, ssl_context=context)
        except (HTTPError, ValueError) as error:
            reason = f"cannot use the proxy in {scheme}_proxy ({error}); write it as http://HOST:PORT"
            raise ValueError(reason) from None
    else:
        pool = urllib3.PoolManager(maxsize=connections, ssl_context=context)
    pool.pool_classes_by_scheme = {"http": WatchedPool, "https": WatchedTLSPool}
    return pool


def _read(response: BaseHTTPResponse) -> tuple[bytes, Exception | None]:
    """Return at most `LONGEST_REPLY` bytes and, where the reply broke off, why."""
    reply = b""
    try:
        # Only the read after the last byte finds out whether that was all that was promised.
        while len(reply) <= LONGEST_REPLY and (piece := response.read(LONGEST_REPLY + 1 - len(reply))):
            reply += piece
    except (HTTPError, OSError, ValueError) as error:  # ValueError: http.client, of a chunk of negative size
        response.close()
        return b"", error
    if len(reply) > LONGEST_REPLY:
        response.close()  # the rest may never end; a reply that was read to its end gives its connection back by itself
    return reply[:LONGEST_REPLY], None


def _judge(status: int, headers: Mapping[str, str], reply: bytes, spans: int) -> Result:
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return delivered(reply, content_type, spans)
    message = f"HTTP {status}"
    if status < HTTPStatus.BAD_REQUEST:
        message += f", a redirect to {headers.get('Location', 'nowhere')}, which is not followed"
        return Result(Verdict.REFUSED, message=one_line(message))
    text = error_text(reply, content_type)
    message = one_line(f"{message}: {text}" if text else message)
    if status in RETRYABLE:
        return Result(Verdict.RETRY, message=message, retry_after=retry_after(headers.get("Retry-After"), _now()))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (status == HTTPStatus.BAD_REQUEST and says_too_large(text)):
        return Result(Verdict.TOO_LARGE, message=message)
    return Result(Verdict.REFUSED, message=message)


def _now() -> datetime:
    return datetime.now(UTC)
