"""The exporter of the metrics: it has settings of its own, and where these are not set the spans'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drain.exporters.endpoint import DEFAULT_GRPC_ENDPOINT, TRACES_PATH, http_metrics_url
from drain.settings.exporter_kind import ExporterKind
from drain.settings.otlp_environment import METRICS_PREFIX, PREFIX, SIGNAL_PREFIX, OtlpSettings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Exporter
    from drain.settings.configuration import Configuration

_GRPC: Final = (ExporterKind.OTLP_GRPC,)
_HTTP: Final = (ExporterKind.OTLP_HTTP, ExporterKind.OTLP_HTTP_JSON)


def make_metric_exporter(configuration: Configuration, log: FilteringBoundLogger) -> Exporter | None:
    """Return what sends metrics, None where nobody asked for that.

    Of a variable that is for every OpenTelemetry program of a pod, nobody thought of this drain: where what it asks for
    cannot be, the log says so, and spans are delivered all the same.

    What the spans' own OTEL_EXPORTER_OTLP_TRACES_* variables say is for the spans alone. Headers that were given to the
    drain for its spans go to their receiver alone, since they may be credentials.

    Raises:
        ValueError: it cannot work with these settings.
    """
    settings, origins = configuration.settings, configuration.origins
    if settings.metrics_exporter == "none":
        return None
    try:
        return _made(configuration)
    except ValueError as error:
        if not origins["metrics_exporter"].startswith("OTEL_"):
            raise
        log.warning("metrics are not exported", reason=str(error), asked_by=origins["metrics_exporter"])
        return None


def _made(configuration: Configuration) -> Exporter:
    settings, origins = configuration.settings, configuration.origins
    general = OtlpSettings.from_environment(signal_prefix=METRICS_PREFIX)
    is_elsewhere = settings.metrics_endpoint is not None or origins["endpoint"].startswith(SIGNAL_PREFIX)
    has_own_client = settings.metrics_client_key is not None or settings.metrics_client_certificate is not None

    def of(name: str, *, is_for_spans: bool = False) -> Any:
        own = getattr(settings, f"metrics_{name}", None)
        if own is not None:
            return own
        if origins[name].startswith(SIGNAL_PREFIX) or (is_for_spans and not origins[name].startswith(PREFIX)):
            return getattr(general, "timeout_seconds" if name == "timeout" else name)
        return getattr(settings, name)

    otlp = OtlpSettings(
        headers=of("headers", is_for_spans=is_elsewhere),
        headers_file=None if is_elsewhere else settings.headers_file,
        compression=of("compression"),
        timeout_seconds=min(of("timeout"), settings.metrics_export_timeout),
        certificate=of("certificate"),
        client_key=settings.metrics_client_key if has_own_client else of("client_key"),
        client_certificate=settings.metrics_client_certificate if has_own_client else of("client_certificate"),
        insecure=of("insecure", is_for_spans=is_elsewhere),
        hold=False,
        max_connection_age=settings.max_connection_age,
    )
    if _speaks_grpc(configuration, is_elsewhere=is_elsewhere):
        from drain.exporters.otlp_grpc import OtlpGrpcExporter  # noqa: PLC0415 - loaded by a drain that exports by it

        endpoint = settings.metrics_endpoint or _endpoint_of_spans(configuration, general)
        return OtlpGrpcExporter(endpoint or DEFAULT_GRPC_ENDPOINT, otlp, content="metrics")
    from drain.exporters.otlp_http import OtlpHttpExporter  # noqa: PLC0415 - loaded by a drain that exports by it

    return OtlpHttpExporter(_url(configuration, general), "protobuf", otlp, connections=1, content="metrics")


def _speaks_grpc(configuration: Configuration, *, is_elsewhere: bool) -> bool:
    """Return whether the receiver speaks gRPC: as the metrics' own setting says, else as the spans' receiver does."""
    settings = configuration.settings
    if settings.metrics_protocol is not None:
        return settings.metrics_protocol == "grpc"
    if not is_elsewhere and settings.exporter in (*_GRPC, *_HTTP):
        return settings.exporter in _GRPC
    origin = configuration.origins["protocol"]
    is_of_spans_alone = not origin.startswith(PREFIX) or origin.startswith(SIGNAL_PREFIX)
    is_theirs = not is_elsewhere and settings.exporter is ExporterKind.OTLP
    return settings.protocol == "grpc" and (is_theirs or not is_of_spans_alone)


def _endpoint_of_spans(configuration: Configuration, general: OtlpSettings) -> str | None:
    """Return the spans' endpoint, of several the first, unless it is by a variable of theirs alone."""
    is_of_spans_alone = configuration.origins["endpoint"].startswith(SIGNAL_PREFIX)
    endpoint = general.endpoint if is_of_spans_alone else configuration.settings.endpoint
    return endpoint.split(",")[0] if endpoint else None


def _url(configuration: Configuration, general: OtlpSettings) -> str:
    settings, origins = configuration.settings, configuration.origins
    if settings.metrics_endpoint is not None:
        is_whole = origins["metrics_endpoint"].startswith(METRICS_PREFIX)
        own = OtlpSettings(endpoint=settings.metrics_endpoint, endpoint_is_base=not is_whole)
        return http_metrics_url(own, None if is_whole else settings.metrics_endpoint)
    endpoint = _endpoint_of_spans(configuration, general)
    if endpoint is None:
        return http_metrics_url(OtlpSettings())
    return http_metrics_url(OtlpSettings(), endpoint.rstrip("/").removesuffix(TRACES_PATH))
