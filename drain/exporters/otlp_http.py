"""OTLP over HTTP, in protobuf or JSON, on a pool of kept-alive connections.

Source: opentelemetry-proto `docs/specification.md`, "OTLP/HTTP"; OpenTelemetry specification `protocol/exporter.md`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
import urllib3
from urllib3.exceptions import HTTPError

from drain.exporters.compression import check_compression, compressed
from drain.exporters.endpoint import DEFAULT_PORTS, USER_AGENT, all_headers, http_traces_url, split_endpoint
from drain.exporters.http_connection import Deadline, WatchedPool, WatchedTLSPool
from drain.exporters.judge import Judge
from drain.exporters.otlp_reply import delivered, error_text, is_page, one_line, retry_after
from drain.exporters.proxy import proxy_for, proxy_headers
from drain.exporters.renewal import Renewal, made_after_rotation
from drain.exporters.tls import client_context
from drain.log import RepeatedTrouble
from drain.otlp.strict_json import without_non_finite
from drain.otlp.transcode import in_encoding
from drain.settings.exporter_kind import ExporterKind
from drain.settings.otlp_environment import header_problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from urllib3.response import BaseHTTPResponse

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter, Result
    from drain.otlp.request import Encoding, Request
    from drain.settings.otlp_environment import OtlpSettings

LONGEST_REPLY = 65536
_NOT_THERE = frozenset({502, 503, 504})
_NO_TUNNEL = "Tunnel connection failed: 407"
_TLS_EXPECTED = re.compile(r"HTTP request (was sent )?to (an )?HTTPS (server|port)", re.IGNORECASE)
_IS_TLS_ALERT = re.compile(r"BadStatusLine\(.{0,4}\\x15\\x03")
_IS_PLAIN = re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure|wrong version number")
_PAGE_HINT = "no OTLP backend says so: is the endpoint that of a proxy, a login or a portal?"
_OWN_HEADERS = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "connection"})
_CONTENT_TYPES: dict[Encoding, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "otlp-http" or "otlp-http-json"."""
    encoding: Encoding = "json" if destination.kind is ExporterKind.OTLP_HTTP_JSON else "protobuf"
    url = http_traces_url(destination.otlp, destination.endpoint)
    return OtlpHttpExporter(url, encoding, destination.otlp, address=destination.address)


class OtlpHttpExporter:
    """Posts batches to one URL.

    Redirects are not followed: OTLP gives them no meaning, and a client that repeats a POST elsewhere sends spans and
    credentials where nobody configured them. Proxies are taken from http_proxy, https_proxy and no_proxy.

    Args:
        url: of the traces, with its path (`drain.exporters.endpoint.http_traces_url`).
        encoding: of the body.
        settings: headers, compression (default gzip), timeout, TLS files, and what to make of codes.
        connections: idle ones that are kept: as many as there are threads that export.
        content: what the requests hold, for the log: "metrics" where they are metrics, whose answers are the same on
            the wire.
        address: that is connected to, of those that the URL's name has; None: any.

    Attributes:
        sends_gzip: whether requests of protobuf go out as `Request.gzip` has them.

    Raises:
        ValueError: the URL, a header, the compression or a file cannot work.
    """

    def __init__(
        self,
        url: str,
        encoding: Encoding,
        settings: OtlpSettings,
        *,
        connections: int = 8,
        content: str = "spans",
        address: str | None = None,
    ) -> None:
        self._parts = split_endpoint(url)
        self.encoding: Encoding = encoding
        self.endpoint = self._parts._replace(query="").geturl()  # a query may hold a key
        self._url = url
        self._address = address
        self._settings = settings
        self._connections = connections
        self._timeout = settings.timeout_seconds
        self._compression = settings.compression or "gzip"
        check_compression(self._compression)
        self.sends_gzip = encoding == "protobuf" and self._compression == "gzip"
        self._judge = Judge(settings, self._compression, content=content)
        self._renewal = Renewal(settings)
        self._trouble = RepeatedTrouble(structlog.get_logger())
        self._pool, self._headers = made_after_rotation(self._connect, settings)

    def export(self, request: Request) -> Result:
        """Post one batch and judge the answer; see `drain.exporters.protocol.Exporter`."""
        to_be_sent, left_out = self._to_be_sent(request)
        sent = compressed(to_be_sent, self._compression)
        if self._renewal.is_due():
            self.renew()
        with Deadline(self._timeout, self._address) as deadline:
            try:
                response = self._pool.urlopen(
                    "POST",
                    self._url,
                    body=sent,
                    headers=self._headers,
                    timeout=urllib3.Timeout(
                        total=2 * self._timeout
                    ),  # the deadline comes first, and says what it missed
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except (HTTPError, OSError) as error:
                return self._undelivered(error, deadline, request)
            reply, broke_off = _read(response)
            # To the parser the deadline's shutdown may look like the end of a body without length.
            if deadline.expired and broke_off is None:
                broke_off = TimeoutError()
            if broke_off is not None and response.status < HTTPStatus.MULTIPLE_CHOICES:
                # What the lost rest would have said about rejected spans is unknown, so the batch is sent again.
                return self._undelivered(broke_off, deadline, request)
        self._renewal.note(has_failed=response.status in _NOT_THERE)
        result = self._judged(response.status, response.headers, reply, request)
        return replace(result, sent_bytes=len(sent), values_left_out=left_out)

    def close(self) -> None:
        """Close the idle connections; those in use close when their attempt ends."""
        self._pool.clear()

    def _to_be_sent(self, request: Request) -> tuple[Request, int]:
        """Return the request in this exporter's encoding, and how many values were left out of it."""
        request = in_encoding(request, self.encoding)
        if self.encoding == "protobuf" or self._settings.json_non_finite != "omit":
            return request, 0
        body, left_out = without_non_finite(request.body)
        if not left_out:
            return request, 0
        self._trouble.warn("doubles that are no numbers are left out", values=left_out, spans=request.spans)
        return request.recoded(body, self.encoding), left_out

    def _connect(self) -> tuple[urllib3.PoolManager, dict[str, str]]:
        headers = _headers(self.encoding, self._compression, all_headers(self._settings))
        return _pool(self._parts, self._settings, self._connections), headers

    def renew(self) -> None:
        """Leave the connections for new ones; in the middle of a rotation they stay."""
        before = self._pool
        try:
            self._pool, self._headers = self._connect()
        except ValueError as error:
            self._renewal.was_not_made(error)
        else:
            before.clear()

    def _undelivered(self, error: Exception, deadline: Deadline, request: Request) -> Result:
        self._renewal.note(has_failed=True)
        if deadline.expired:
            result = self._judge.unanswered(deadline.missed, request)
            return replace(result, is_timeout=deadline.was_connected, is_not_taken=not deadline.has_sent)
        text = str(error)
        status = "407" if _NO_TUNNEL in text else ""
        result = self._judge.unanswered(one_line(_words(error)), request, status=status, hint=_connection_hint(text))
        return replace(result, is_not_taken=not deadline.has_sent)

    def _judged(self, status: int, headers: Mapping[str, str], reply: bytes, request: Request) -> Result:
        content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        message = f"HTTP {status}"
        if status < HTTPStatus.MULTIPLE_CHOICES:
            if is_page(reply, content_type):
                text = error_text(reply, content_type)
                return self._judge.hold(one_line(f"{message} with a page for people: {text}"), _PAGE_HINT)
            return self._judge.took(delivered(reply, content_type, request.spans))
        text = error_text(reply, content_type)
        hint = "write the endpoint with https://" if _TLS_EXPECTED.search(text) else ""
        if status < HTTPStatus.BAD_REQUEST:
            text, message = "", f"{message}, a redirect to {headers.get('Location', 'nowhere')}, which is not followed"
        message = one_line(f"{message}: {text}" if text else message)
        wait = retry_after(headers.get("Retry-After"), datetime.now(UTC))
        result = self._judge.refused(str(status), text, message, request, retry_after=wait, hint=hint)
        return replace(result, is_not_taken=_says_not_taken(status, text))


def _says_not_taken(status: int, text: str) -> bool:
    """Return whether an answer means that nothing was taken: of 408, and of 5xx but 503, nobody knows.

    Envoy says 503, too, of a request that it had passed on when the connection broke.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return status == HTTPStatus.SERVICE_UNAVAILABLE and "reset before headers" not in text
    return status != HTTPStatus.REQUEST_TIMEOUT


def _headers(encoding: Encoding, compression: str, given: Mapping[str, str]) -> dict[str, str]:
    # In the usual case, which some receivers and proxies compare with.
    headers = {"User-Agent": USER_AGENT, "Accept": _CONTENT_TYPES[encoding], "Accept-Encoding": "identity"}
    for name, value in given.items():
        own = "the exporter sets it itself; leave it out" if name.lower() in _OWN_HEADERS else None
        problem = own or header_problem(name, value)
        if problem:
            raise ValueError(f"header {name!r} cannot be sent: {problem}")
        headers[name.title()] = value
    headers["Content-Type"] = _CONTENT_TYPES[encoding]
    if compression != "none":
        headers["Content-Encoding"] = compression
    return headers


def _pool(endpoint: SplitResult, settings: OtlpSettings, connections: int) -> urllib3.PoolManager:
    scheme, host = endpoint.scheme, endpoint.hostname or ""
    context = client_context(settings) if scheme == "https" else None
    proxy = proxy_for(scheme, host, endpoint.port or DEFAULT_PORTS[scheme])
    if proxy is None:
        pool = urllib3.PoolManager(maxsize=connections, ssl_context=context)
    else:
        try:
            pool = urllib3.ProxyManager(
                proxy, maxsize=connections, ssl_context=context, proxy_headers=proxy_headers(proxy)
            )
        except (HTTPError, ValueError):
            # Not quoted: it may hold a password.
            reason = f"cannot use the proxy in {scheme}_proxy; write it as http://HOST:PORT"
            raise ValueError(reason) from None
    pool.pool_classes_by_scheme = {"http": WatchedPool, "https": WatchedTLSPool}
    return pool


def _words(error: Exception) -> str:
    """Return what an error says, for people: urllib3 wraps some in others, whose texts are those of tuples."""
    what, why = (*error.args, None, None)[:2]
    return f"{what.rstrip('.')}: {why}" if isinstance(what, str) and isinstance(why, Exception) else str(error)


def _connection_hint(text: str) -> str:
    if _IS_TLS_ALERT.search(text):
        return "the server speaks TLS: write the endpoint with https://"
    if _IS_PLAIN.search(text):
        return "the server speaks no TLS: write the endpoint with http://"
    return ""


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
