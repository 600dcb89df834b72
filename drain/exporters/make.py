"""Makes the exporter of each kind: the way from a row of `ExporterKind` to the `make` of its module."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from drain.settings.exporter_kind import ExporterKind

if TYPE_CHECKING:
    from pathlib import Path

    from drain.exporters.file_options import FileOptions
    from drain.exporters.kafka.options import KafkaOptions
    from drain.exporters.protocol import Exporter
    from drain.settings.otlp_environment import OtlpSettings


@dataclass(frozen=True, slots=True)
class Destination:
    """What the `make` of an exporter's module is called with.

    Attributes:
        kind: which exporter; a module may make several kinds.
        otlp: what the OTEL_EXPORTER_OTLP_* variables say, for the kinds otlp*.
        endpoint: for the kinds otlp*; beats `otlp.endpoint`. Over HTTP it is a base URL, to which `/v1/traces` is
            appended unless it ends so.
        address: for the kinds otlp*: that is connected to, of those that the endpoint's name has; None: any.
        output: the file of kind "file"; `-` is standard output.
        file: rotation, compression and sync of kind "file".
        kafka: brokers, topic and properties of kind "kafka".
    """

    kind: ExporterKind
    otlp: OtlpSettings
    endpoint: str | None = None
    output: Path | None = None
    file: FileOptions | None = None
    kafka: KafkaOptions | None = None
    address: str | None = None


def make_exporter(
    kind: str,
    *,
    otlp: OtlpSettings,
    endpoint: str | None = None,
    address: str | None = None,
    output: Path | None = None,
    file: FileOptions | None = None,
    kafka: KafkaOptions | None = None,
) -> Exporter:
    """Return the exporter of this kind; only its own dependencies are imported.

    Args:
        kind: a value of `ExporterKind`.
        otlp: as in `Destination`, like the rest.
        endpoint: beats `otlp.endpoint`.
        address: of it.
        output: of kind "file".
        file: of kind "file".
        kafka: of kind "kafka".

    Raises:
        ValueError: a setting cannot work; the text says which, and what to do.
    """
    try:
        known = ExporterKind(kind)
    except ValueError:
        raise ValueError(f"unknown exporter {kind!r}: choose one of {', '.join(ExporterKind)}") from None
    destination = Destination(known, otlp, endpoint, output, file, kafka, address)
    return cast("Exporter", import_module(known.module).make(destination))
