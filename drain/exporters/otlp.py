"""OTLP by whichever protocol OTEL_EXPORTER_OTLP_PROTOCOL or --protocol names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.exporters.make import make_exporter
from drain.settings.exporter_kind import ExporterKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.settings.otlp_environment import OtlpProtocol

_KINDS: Final[Mapping[OtlpProtocol, ExporterKind]] = {
    "grpc": ExporterKind.OTLP_GRPC,
    "http/protobuf": ExporterKind.OTLP_HTTP,
    "http/json": ExporterKind.OTLP_HTTP_JSON,
}


def make(destination: Destination) -> Exporter:
    """Return the exporter that speaks `destination.otlp.protocol`."""
    kind = _KINDS[destination.otlp.protocol]
    return make_exporter(kind, otlp=destination.otlp, endpoint=destination.endpoint, address=destination.address)
