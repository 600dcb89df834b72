"""The OTEL_EXPORTER_OTLP_* variables, read as the OTLP exporter specification has them.

Source: OpenTelemetry specification `protocol/exporter.md` and `configuration/sdk-environment-variables.md`.
`OTEL_EXPORTER_OTLP_TRACES_X` beats `OTEL_EXPORTER_OTLP_X`; an empty variable is an unset one; a value that cannot be
understood is warned about and ignored, so that the next one in line counts. Timeouts are **milliseconds**, as specified
(the Python SDK reads seconds).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OtlpProtocol = Literal["grpc", "http/protobuf", "http/json"]

PREFIX = "OTEL_EXPORTER_OTLP_"
SIGNAL_PREFIX = "OTEL_EXPORTER_OTLP_TRACES_"
METRICS_PREFIX = "OTEL_EXPORTER_OTLP_METRICS_"
LONGEST_TIMEOUT_SECONDS = 3600.0
_SHORTEST_USUAL_SECONDS = 1.0  # less was probably meant as so many seconds
GRPC_CODES = (
    *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """What an OTLP exporter is to do; the defaults are the specification's.

    Attributes:
        endpoint: as given, or None for the protocol's default.
        endpoint_is_base: True if `/v1/traces` is to be appended over HTTP, False for the URL of the traces themselves.
        protocol: which exporter the kind "otlp" stands for.
        headers: sent with every request, names in lower case; may hold credentials.
        compression: "none", "gzip", "zstd" (HTTP only), or None for the exporter's default (HTTP gzip, gRPC none).
        timeout_seconds: for one attempt, from the name look-up to the end of the reply. 0 in the environment
            ("no limit") is taken as one hour, so that a connection that died without a word frees its worker at last.
        certificate: PEM file of the authorities to trust, or None for the machine's.
        client_key: PEM file of the client's private key (mTLS), or None.
        client_certificate: PEM file of the client's certificate chain (mTLS), or None.
        insecure: gRPC without TLS where the endpoint has no scheme.
        headers_file: more headers, a line `Name: value` each; read again when it changes. For tokens that expire.
        hold: hold what is refused for a reason that an operator has to mend, or before anything was ever taken.
        retry_codes: HTTP statuses and names of gRPC codes that are retried beside the usual ones.
        refuse_codes: those that are final, whatever they are else.
        json_non_finite: what JSON has for NaN and infinite doubles: "text", as protobuf has it, or "omit".
        max_connection_age: seconds after which a new connection is made, so that load balancing sees it; 0: never.
        origins: the variable that gave a value, by field name; a field that is missing has its default.
        warnings: one line for every variable, or part of one, that was ignored or may mean something else.
    """

    endpoint: str | None = None
    endpoint_is_base: bool = True
    protocol: OtlpProtocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: str | None = None
    timeout_seconds: float = 10.0
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None
    insecure: bool = False
    headers_file: Path | None = None
    hold: bool = True
    retry_codes: frozenset[str] = frozenset()
    refuse_codes: frozenset[str] = frozenset()
    json_non_finite: Literal["text", "omit"] = "text"
    max_connection_age: float = 300.0
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, signal_prefix: str = SIGNAL_PREFIX
    ) -> OtlpSettings:
        """Return the settings that these variables make.

        Args:
            environ: the variables.
            signal_prefix: of those that beat the general ones.

        Example:
            >>> settings = OtlpSettings.from_environment({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"})
            >>> settings.timeout_seconds, settings.origins
            (2.5, {'timeout_seconds': 'OTEL_EXPORTER_OTLP_TIMEOUT'})
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        warnings: list[str] = []
        for name, (suffix, parse) in _VARIABLES.items():
            for variable, text in _set_variables(environ, signal_prefix, suffix):
                try:
                    values[name] = parse(text)
                except ValueError as error:
                    warnings.append(f"{variable} is ignored: {error}")
                    continue
                origins[name] = variable
                break
        if values.get("timeout_seconds", LONGEST_TIMEOUT_SECONDS) < _SHORTEST_USUAL_SECONDS:
            name, number = origins["timeout_seconds"], round(values["timeout_seconds"] * 1000)
            warnings.append(f"{name} is {number} milliseconds, its unit by the specification: of seconds {number}000")
        if "headers" in values:
            values["headers"], problems = values["headers"]
            warnings += [f"{origins['headers']}: {problem}" for problem in problems]
        values["endpoint_is_base"] = origins.get("endpoint") != signal_prefix + "ENDPOINT"
        return replace(cls(), **values, origins=origins, warnings=tuple(warnings))


def parse_headers(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the headers in a W3C Baggage list, percent-decoded, and what is wrong with those that are left out.

    Problems never quote a value: it may be a credential. Baggage's `;` metadata is not supported, as specified: a `;`
    belongs to the value.

    Example:
        >>> parse_headers("api-key=s%20ecret, X-Team = data ")
        ({'api-key': 's ecret', 'x-team': 'data'}, [])
        >>> parse_headers("no equals sign")
        ({}, ['header 1 is ignored: it has no "="'])
    """
    headers: dict[str, str] = {}
    problems = []
    for number, member in enumerate(text.split(","), start=1):
        if not member.strip():
            continue
        raw_name, equals, raw_value = member.partition("=")
        name, value = unquote(raw_name.strip()).lower(), unquote(raw_value.strip())
        reason = header_problem(name, value) if equals else 'it has no "="'
        if reason:
            problems.append(f"header {number} is ignored: {reason}")
        else:
            headers[name] = value
    return headers, problems


def parse_codes(text: str) -> frozenset[str]:
    """Return the codes in a list of HTTP statuses and names of gRPC codes.

    Raises:
        ValueError: one is neither.

    Example:
        >>> sorted(parse_codes("500, internal"))
        ['500', 'INTERNAL']
    """
    codes = frozenset(part.strip().upper() for part in text.split(",") if part.strip())
    for code in sorted(codes):
        if code not in GRPC_CODES and not re.fullmatch(r"[345][0-9][0-9]", code):
            raise ValueError(f"{code!r} is neither an HTTP status from 300 to 599 nor one of {', '.join(GRPC_CODES)}")
    return codes


def header_problem(name: str, value: str) -> str | None:
    """Return why this header cannot be sent, or None; line breaks in particular would forge further headers."""
    if not _TOKEN.fullmatch(name):
        return "its name is not a token of RFC 9110"
    if not _HEADER_VALUE.fullmatch(value):
        return f"the value of {name} has characters beyond printable ASCII"
    return None


def _set_variables(environ: Mapping[str, str], signal_prefix: str, suffix: str) -> Iterator[tuple[str, str]]:
    for prefix in (signal_prefix, PREFIX):
        text = environ.get(prefix + suffix, "").strip()
        if text:
            yield prefix + suffix, text


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _milliseconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"{text!r} is not a whole number of milliseconds")
    seconds = int(text) / 1000
    return min(seconds, LONGEST_TIMEOUT_SECONDS) if seconds else LONGEST_TIMEOUT_SECONDS


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "endpoint": ("ENDPOINT", str),
    "protocol": ("PROTOCOL", _choice("grpc", "http/protobuf", "http/json")),
    "headers": ("HEADERS", parse_headers),
    "compression": ("COMPRESSION", _choice("none", "gzip", "zstd")),
    "timeout_seconds": ("TIMEOUT", _milliseconds),
    "certificate": ("CERTIFICATE", Path),
    "client_key": ("CLIENT_KEY", Path),
    "client_certificate": ("CLIENT_CERTIFICATE", Path),
    "insecure": ("INSECURE", _boolean),
}
