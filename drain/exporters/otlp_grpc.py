"""OTLP over gRPC: the bytes go out as the encoder made them, through a stub without message classes.

Source: opentelemetry-proto `docs/specification.md`, "OTLP/gRPC"; OpenTelemetry specification `protocol/exporter.md`.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from drain.exporters.endpoint import DEFAULT_GRPC_ENDPOINT, USER_AGENT, split_endpoint
from drain.exporters.otlp_reply import delivered, one_line, retry_info, says_too_large
from drain.exporters.protocol import Result, Verdict
from drain.exporters.tls import client_context
from drain.otlp.transcode import in_encoding
from drain.settings.otlp_environment import header_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request
    from drain.settings.otlp_environment import OtlpSettings

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# A number that no server would choose as its own limit: gRPC words "your request is too long for me" and "the reply is
# too long for you" alike, apart from it.
LONGEST_REPLY = 65521
_LONGEST_RECONNECT_MS = 5000
_COMPRESSION = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}
_METADATA_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "otlp-grpc"."""
    otlp = destination.otlp
    return OtlpGrpcExporter(destination.endpoint or otlp.endpoint or DEFAULT_GRPC_ENDPOINT, otlp)


class OtlpGrpcExporter:
    """Calls TraceService/Export of one backend.

    gRPC reconnects by itself, at most 5 s after the last try; it takes proxies from grpc_proxy, https_proxy,
    http_proxy and no_grpc_proxy, no_proxy.

    Args:
        endpoint: http://HOST:PORT (plain), https://HOST:PORT (TLS), or any gRPC target name without a scheme of the
            two, plain if `settings.insecure`.
        settings: headers, compression ("none", the default, or "gzip"), timeout and TLS files.

    Raises:
        ValueError: the endpoint, a header, the compression or a PEM file cannot work.
    """

    encoding: Encoding = "protobuf"

    def __init__(self, endpoint: str, settings: OtlpSettings) -> None:
        target, plain = _target(endpoint, insecure=settings.insecure)
        self.endpoint = endpoint
        self._timeout = settings.timeout_seconds
        self._metadata = _metadata(settings.headers)
        options = [
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.max_receive_message_length", LONGEST_REPLY),
            ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._compression = compression = settings.compression or "none"
        if compression not in _COMPRESSION:
            raise ValueError(f"otlp-grpc cannot compress with {compression!r}: choose gzip or none, or use otlp-http")
        if plain:
            self._channel = grpc.insecure_channel(target, options, _COMPRESSION[compression])
        else:
            self._channel = grpc.secure_channel(target, _credentials(settings), options, _COMPRESSION[compression])
        self._export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(METHOD)
        self._closed = False

    def export(self, request: Request) -> Result:
        """Make one call and judge its status; see `drain.exporters.protocol.Exporter`."""
        body = in_encoding(request, self.encoding).body
        try:
            reply = self._export(body, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return _judge(error)
        except ValueError:
            if self._closed:
                return Result(Verdict.RETRY, message="the exporter is closed")
            raise
        # What gRPC compresses to, it tells nobody.
        sent_bytes = len(body) if self._compression == "none" else None
        return replace(delivered(reply, "application/grpc", request.spans), sent_bytes=sent_bytes)

    def close(self) -> None:
        """Close the channel; calls that still run end as CANCELLED."""
        self._closed = True
        self._channel.close()


def _target(endpoint: str, *, insecure: bool) -> tuple[str, bool]:
    """Return the gRPC target name and whether it is spoken to without TLS."""
    scheme = endpoint.partition("://")[0].lower()
    if scheme not in _DEFAULT_PORTS:
        if not endpoint.strip() or re.search(r"[\x00-\x20\x7f]", endpoint):
            raise ValueError(f"endpoint {endpoint!r} is no gRPC target; write it as http://HOST:PORT")
        return endpoint, insecure
    url = split_endpoint(endpoint)
    if url.path not in {"", "/"} or url.query:
        raise ValueError(f"gRPC endpoint {endpoint!r} must not have a path; write it as {scheme}://HOST:PORT")
    target = url.netloc if url.port else f"{url.netloc.rstrip(':')}:{_DEFAULT_PORTS[scheme]}"
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
    roots = settings.certificate or ssl.get_default_verify_paths().cafile
    chain, key = settings.client_certificate, settings.client_key or settings.client_certificate
    return grpc.ssl_channel_credentials(
        root_certificates=Path(roots).read_bytes() if roots else None,
        private_key=key.read_bytes() if key else None,
        certificate_chain=chain.read_bytes() if chain else None,
    )


def _judge(error: grpc.RpcError) -> Result:
    code, details = error.code(), error.details() or ""
    message = one_line(f"gRPC {code.name}: {details}" if details else f"gRPC {code.name}")
    wait = next(
        (retry_info(item.value) for item in error.trailing_metadata() or () if item.key == "grpc-status-details-bin"),
        None,
    )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if f"vs. {LONGEST_REPLY})" in details:
            return Result(Verdict.DELIVERED, message="accepted, with a reply that is too long to be OTLP")
        if wait is not None:
            return Result(Verdict.RETRY, message=message, retry_after=wait)
        return Result(Verdict.TOO_LARGE if says_too_large(details) else Verdict.REFUSED, message=message)
    if code is grpc.StatusCode.OUT_OF_RANGE and says_too_large(details):
        return Result(Verdict.TOO_LARGE, message=message)  # tonic's code for it; sent again it would never end
    if code in RETRYABLE:
        return Result(Verdict.RETRY, message=message, retry_after=wait)
    return Result(Verdict.REFUSED, message=message)
