"""Where OTLP goes: the URLs of traces and metrics, and as whom the exporters introduce themselves.

Source: OpenTelemetry specification `protocol/exporter.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit, urlunsplit

import ringbuf
from drain.settings.otlp_environment import header_problem
from drain.settings.secrets_in_urls import without_secrets

if TYPE_CHECKING:
    from drain.settings.otlp_environment import OtlpSettings

DEFAULT_HTTP_ENDPOINT = "http://localhost:4318"
DEFAULT_GRPC_ENDPOINT = "http://localhost:4317"
TRACES_PATH = "/v1/traces"
METRICS_PATH = "/v1/metrics"

DEFAULT_PORTS = {"http": 80, "https": 443}

USER_AGENT = f"OTel-OTLP-Exporter-ringbuf/{ringbuf.__version__} (Python)"
"""Names the exporter, its version and its language (specification `protocol/exporter.md`, "User Agent")."""


def http_traces_url(settings: OtlpSettings, endpoint: str | None = None) -> str:
    """Return the URL that traces are posted to.

    A base endpoint gets `/v1/traces`; the per-signal variable is used as it is, only an empty path becomes `/`.
    An `endpoint` given here (a flag) is a base, too, but one that already ends in `/v1/traces` stays as it is.

    Raises:
        ValueError: it is not an http or https URL of a host.

    Example:
        >>> from drain.settings.otlp_environment import OtlpSettings
        >>> http_traces_url(OtlpSettings(), "http://127.0.0.1:4318/collector/")
        'http://127.0.0.1:4318/collector/v1/traces'
    """
    return _http_url(TRACES_PATH, settings, endpoint)


def http_metrics_url(settings: OtlpSettings, endpoint: str | None = None) -> str:
    """Return the URL that metrics are posted to, likewise with `/v1/metrics`.

    Raises:
        ValueError: as `http_traces_url`.
    """
    return _http_url(METRICS_PATH, settings, endpoint)


def _http_url(signal_path: str, settings: OtlpSettings, endpoint: str | None) -> str:
    text = endpoint or settings.endpoint or DEFAULT_HTTP_ENDPOINT
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError(f"OTLP/HTTP endpoint {without_secrets(text)!r} needs the scheme http:// or https://")
    url = split_endpoint(text)
    is_base = settings.endpoint_is_base if endpoint is None else not url.path.endswith(signal_path)
    path = url.path.rstrip("/") + signal_path if is_base else url.path or "/"
    return urlunsplit((url.scheme, url.netloc, path, url.query, ""))


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Return what is looked up of an endpoint.

    >>> host_and_port("http://gateways.observability.svc:4318/otlp"), host_and_port("dns:///gateways:4317")
    (('gateways.observability.svc', 4318), ('gateways', 4317))
    """
    scheme, _, rest = endpoint.rpartition("://")
    parts = urlsplit(f"//{rest.lstrip('/')}")
    return parts.hostname or "", parts.port or DEFAULT_PORTS.get(scheme.lower(), DEFAULT_PORTS["https"])


def all_headers(settings: OtlpSettings) -> dict[str, str]:
    """Return the headers of the settings and of their file, which beats them.

    Raises:
        ValueError: the file cannot be read, or a line is no header; values are not quoted, they may be credentials.
    """
    headers = dict(settings.headers)
    if settings.headers_file is None:
        return headers
    try:
        lines = settings.headers_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ValueError(f"cannot read {settings.headers_file}: {reason}") from None
    for number, line in enumerate(lines, start=1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        problem = header_problem(name, value) if colon else "it is no `Name: value`"
        if problem:
            raise ValueError(f"line {number} of {settings.headers_file} cannot be sent: {problem}")
        headers[name.lower()] = value
    return headers


def split_endpoint(text: str) -> SplitResult:
    """Return the parts of an endpoint that has a scheme and a host.

    Raises:
        ValueError: no host, a port out of range, or credentials in the URL, which would end up in logs.
    """
    try:
        url = urlsplit(text)
        is_url = bool(url.hostname) and url.port != 0 and not re.search(r"[\x00-\x20\x7f]", text)
    except ValueError:  # its text would quote what may be a password
        url, is_url = urlsplit(""), False
    if not is_url:
        raise ValueError(f"endpoint {without_secrets(text)!r} is not a URL; write it as http://HOST:PORT")
    if url.username is not None:
        raise ValueError("endpoint has a user name in it; send credentials by OTEL_EXPORTER_OTLP_HEADERS instead")
    return url
