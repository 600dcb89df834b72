"""OTLP over gRPC: the bytes go out as the encoder made them, through a stub without message classes.

Source: opentelemetry-proto `docs/specification.md`, "OTLP/gRPC"; OpenTelemetry specification `protocol/exporter.md`.
"""

from __future__ import annotations

import re
import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import grpc

from drain.exporters.endpoint import (
    DEFAULT_GRPC_ENDPOINT,
    DEFAULT_PORTS,
    USER_AGENT,
    all_headers,
    host_and_port,
    split_endpoint,
)
from drain.exporters.judge import Judge
from drain.exporters.otlp_reply import delivered, one_line, retry_info
from drain.exporters.protocol import Result, Verdict
from drain.exporters.proxy import proxy_for
from drain.exporters.renewal import Renewal, made_after_rotation
from drain.exporters.tls import client_context
from drain.otlp.transcode import in_encoding
from drain.settings.otlp_environment import header_problem
from drain.settings.secrets_in_urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request
    from drain.settings.otlp_environment import OtlpSettings

Content = Literal["spans", "metrics"]
METHODS: Final[dict[Content, str]] = {
    "spans": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
# A number that no server would choose as its own limit: gRPC words "your request is too long for me" and "the reply is
# too long for you" alike, apart from it.
LONGEST_REPLY = 65521
_LONGEST_RECONNECT_MS = 5000
_COMPRESSION = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}
_METADATA_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_KEEPALIVE_MS = 20_000
_KEEPALIVE_ANSWER_MS = 10_000
_NOT_THERE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DETAILS_KEY = "grpc-status-details-bin"
# What gRPC's core says where no server said anything: of a stream that was reset or ended without a status, of a proxy
# that answers in HTTP, of what cannot be parsed. It has a code as any refusal has, which nobody but the core gave, and
# neither metadata nor anything else tells the two apart.
_MADE_UP = re.compile(
    r"RST_STREAM|^Stream removed|^Received http2 header with status|^No status received|^Missing .*status|"
    r"END_STREAM flag received|GOAWAY received|^Error parsing|^Failed parsing|^Stream closed|^Socket closed"
)
# Of UNAVAILABLE, what the core begins with where there was no connection, so that nothing was sent. A gateway may say
# as much of its own backends, to some of which it has passed the request on.
_NOT_CONNECTED = re.compile(
    r"failed to connect to all addresses|name resolution|DNS resolution|no addresses", re.IGNORECASE
)
# Codes that only a server gives, or the core before it sends anything, and that mean: not taken.
_NOT_TAKEN = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
_SPEAKS_HTTP_1 = re.compile(r"http1\.x server|Expected SETTINGS frame as the first")
_HTTP_STATUS = re.compile(r"http2 header with status: (\d{3})$")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "otlp-grpc"."""
    otlp = destination.otlp
    return OtlpGrpcExporter(
        destination.endpoint or otlp.endpoint or DEFAULT_GRPC_ENDPOINT, otlp, address=destination.address
    )


class OtlpGrpcExporter:
    """Calls Export of one backend's TraceService, or of its MetricsService.

    Proxies are taken from http_proxy, https_proxy, all_proxy and no_proxy.

    Args:
        endpoint: http://HOST:PORT (plain), https://HOST:PORT (TLS), or any gRPC target name without a scheme of the
            two, plain if `settings.insecure`.
        settings: headers, compression ("none", the default, or "gzip"), timeout, TLS files, and what to make of codes.
        content: what the requests hold; the answers to both are the same on the wire.
        address: that is connected to, of those that the endpoint's name has; None: gRPC chooses.

    Raises:
        ValueError: the endpoint, a header, the compression or a file cannot work.
    """

    encoding: Encoding = "protobuf"

    def __init__(
        self, endpoint: str, settings: OtlpSettings, *, content: Content = "spans", address: str | None = None
    ) -> None:
        self._address = address
        self.endpoint = without_secrets(endpoint)
        self._endpoint = endpoint
        self._settings = settings
        self._timeout = settings.timeout_seconds
        self._compression = settings.compression or "none"
        if self._compression not in _COMPRESSION:
            raise ValueError(
                f"otlp-grpc cannot compress with {self._compression!r}: choose gzip or none, or use otlp-http"
            )
        self._judge = Judge(settings, self._compression, content=content)
        self._method = METHODS[content]
        self._renewal = Renewal(settings)
        self._lock = threading.Lock()
        self._is_closed = False
        self._channel = made_after_rotation(self._connect, settings)

    def export(self, request: Request) -> Result:
        """Make one call and judge its status; see `drain.exporters.protocol.Exporter`."""
        body = in_encoding(request, self.encoding).body
        if self._renewal.is_due():
            self.renew()
        with self._lock:
            channel = self._channel
            channel.calls += 1
        try:
            reply = channel.export(body, timeout=self._timeout, metadata=channel.metadata)
        except grpc.RpcError as error:
            self._renewal.note(has_failed=error.code() in _NOT_THERE)
            is_timeout = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return replace(self._judged(error, request), is_timeout=is_timeout)
        except ValueError:
            if self._is_closed:
                return Result(Verdict.RETRY, message="the exporter is closed")
            raise
        finally:
            self._put_down(channel)
        self._renewal.note(has_failed=False)
        # What gRPC compresses to, it tells nobody.
        sent_bytes = len(body) if self._compression == "none" else None
        result = delivered(reply or b"", "application/grpc", request.spans)
        return self._judge.took(replace(result, sent_bytes=sent_bytes))

    def close(self) -> None:
        """Close the channel; calls that still run end as CANCELLED."""
        self._is_closed = True
        self._channel.channel.close()

    def _connect(self) -> _Channel:
        settings = self._settings
        target, is_plain = _target(self._endpoint, insecure=settings.insecure)
        options = [
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.max_receive_message_length", LONGEST_REPLY),
            ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_ANSWER_MS),  # of what TCP has not acknowledged
            # Of pings, whose answer the core would wait a minute for. Not less than an attempt has: on a narrow link
            # pings wait behind what is sent.
            ("grpc.http2.ping_timeout_ms", max(_KEEPALIVE_ANSWER_MS, round(1000 * settings.timeout_seconds))),
            *_proxy_options(self._endpoint),
        ]
        if self._address is not None:
            host, port = host_and_port(target)
            options += [("grpc.default_authority", f"{host}:{port}"), ("grpc.ssl_target_name_override", host)]
            target = f"[{self._address}]:{port}" if ":" in self._address else f"{self._address}:{port}"
        metadata = _metadata(all_headers(settings))
        compression = _COMPRESSION[self._compression]
        if is_plain:
            channel = grpc.insecure_channel(target, options, compression)
        else:
            channel = grpc.secure_channel(target, _credentials(settings), options, compression)
        return _Channel(channel, channel.unary_unary(self._method), metadata)

    def renew(self) -> None:
        """Leave the channel for a new one; in the middle of a rotation it stays."""
        try:
            new = self._connect()
        except ValueError as error:
            self._renewal.was_not_made(error)
            return
        with self._lock:
            old, self._channel = self._channel, new
            is_unused = not old.calls
        if is_unused:
            old.channel.close()

    def _put_down(self, channel: _Channel) -> None:
        """End a call; the last one of a channel that was left closes it, since closing cancels calls."""
        with self._lock:
            channel.calls -= 1
            is_left = channel is not self._channel and not channel.calls
        if is_left:
            channel.channel.close()

    def _judged(self, error: grpc.RpcError, request: Request) -> Result:
        code, details = error.code(), error.details() or ""
        message = one_line(f"gRPC {code.name}: {details}" if details else f"gRPC {code.name}")
        if f"vs. {LONGEST_REPLY})" in details:
            took = Result(Verdict.DELIVERED, message="accepted, with a reply that is too long to be OTLP")
            return self._judge.took(took)
        if _MADE_UP.search(details):
            status = _HTTP_STATUS.search(details)
            return self._judge.unanswered(message, request, status=status[1] if status else "", hint=_hint(details))
        is_not_connected = code is grpc.StatusCode.UNAVAILABLE and bool(_NOT_CONNECTED.match(details))
        if code in _NOT_THERE and (hint := _hint(details)):
            return replace(self._judge.hold(message, hint), is_not_taken=is_not_connected)
        wait = next(
            (retry_info(item.value) for item in error.trailing_metadata() or () if item.key == _DETAILS_KEY), None
        )
        result = self._judge.refused(code.name, details, message, request, retry_after=wait)
        # UNAVAILABLE is what the core says of a connection that broke, too; `RetryInfo` is a server's word.
        return replace(result, is_not_taken=is_not_connected or wait is not None or code in _NOT_TAKEN)


@dataclass(slots=True)
class _Channel:
    """A channel, its stub, the metadata of its time, and how many calls run on it."""

    channel: grpc.Channel
    export: grpc.UnaryUnaryMultiCallable[bytes, bytes | None]
    metadata: tuple[tuple[str, str], ...]
    calls: int = 0


def _target(endpoint: str, *, insecure: bool) -> tuple[str, bool]:
    """Return the gRPC target name and whether it is spoken to without TLS."""
    scheme = endpoint.partition("://")[0].lower()
    if scheme not in DEFAULT_PORTS:
        if not endpoint.strip() or re.search(r"[\x00-\x20\x7f]", endpoint):
            raise ValueError(f"endpoint {without_secrets(endpoint)!r} is no gRPC target; write it as http://HOST:PORT")
        return endpoint, insecure
    url = split_endpoint(endpoint)
    if url.path not in {"", "/"} or url.query:
        shown = without_secrets(endpoint)
        raise ValueError(f"gRPC endpoint {shown!r} must not have a path; write it as {scheme}://HOST:PORT")
    target = url.netloc if url.port else f"{url.netloc.rstrip(':')}:{DEFAULT_PORTS[scheme]}"
    return target, scheme == "http"


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in headers.items():
        problem = header_problem(name, value)
        if problem or not _METADATA_KEY.fullmatch(name.lower()):
            reason = problem or "gRPC has no such metadata key (0-9 a-z _ . -, no grpc- in front, no -bin behind)"
            raise ValueError(f"header {name!r} cannot be sent: {reason}")
    # gRPC puts the user agent together itself.
    return tuple((name.lower(), value) for name, value in headers.items() if name.lower() != "user-agent")


def _credentials(settings: OtlpSettings) -> grpc.ChannelCredentials:
    client_context(settings)  # gRPC would find a bad file at the first call only
    chain, key = settings.client_certificate, settings.client_key or settings.client_certificate
    try:
        return grpc.ssl_channel_credentials(
            root_certificates=_roots(settings),
            private_key=key.read_bytes() if key else None,
            certificate_chain=chain.read_bytes() if chain else None,
        )
    except OSError as error:  # in the middle of a rotation it is gone again
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from None


def _roots(settings: OtlpSettings) -> bytes | None:
    """Return the authorities that OTLP over HTTP trusts, too; None lets gRPC take its own."""
    if settings.certificate is not None:
        return settings.certificate.read_bytes()
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else []
    if paths.capath:
        files += sorted(file for file in Path(paths.capath).iterdir() if file.is_file())
    certificates = {certificate for file in files for certificate in _CERTIFICATE.findall(_read(file))}
    return b"\n".join(sorted(certificates)) or None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""  # OpenSSL passes over it, too


def _proxy_options(endpoint: str) -> list[tuple[str, int | str]]:
    # gRPC's own rules know neither all_proxy nor what our other exporters exempt.
    scheme, _, rest = endpoint.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        return []
    proxy = proxy_for(scheme or "https", parts.hostname or "", port or DEFAULT_PORTS.get(scheme, 443))
    return [("grpc.enable_http_proxy", 0)] if proxy is None else [("grpc.http_proxy", proxy)]


def _hint(details: str) -> str:
    if _SPEAKS_HTTP_1.search(details):
        return "the server speaks HTTP, no gRPC: use --exporter otlp-http, or the port of gRPC (usually 4317)"
    if "WRONG_VERSION_NUMBER" in details:
        return "the server speaks no TLS: write the endpoint with http://"
    if re.search(r"\b407\b", details):
        return "the proxy wants credentials: write it as http://USER:PASSWORD@HOST:PORT"
    return ""
