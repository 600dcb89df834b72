"""The kinds of exporters: the one list of them, from which flags, help, errors and `drain.exporters.make` are made."""

from __future__ import annotations

import enum
from typing import Self


class ExporterKind(enum.StrEnum):
    """What `--exporter` may be, and the module whose `make` returns such an exporter.

    A new kind is a module in `drain/exporters/` and a row here. The modules are named, not imported: settings know
    nothing of what is made from them, and a drain loads only the dependencies of its own exporter.

    Example:
        >>> ExporterKind("otlp-grpc").module
        'drain.exporters.otlp_grpc'
    """

    module: str

    def __new__(cls, name: str, module: str = "") -> Self:
        """Make a row of the table below."""
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.module = module
        return kind

    FILE = "file", "drain.exporters.file"
    CONSOLE = "console", "drain.exporters.console"
    OTLP = "otlp", "drain.exporters.otlp"
    OTLP_HTTP = "otlp-http", "drain.exporters.otlp_http"
    OTLP_HTTP_JSON = "otlp-http-json", "drain.exporters.otlp_http"
    OTLP_GRPC = "otlp-grpc", "drain.exporters.otlp_grpc"
    KAFKA = "kafka", "drain.exporters.kafka.make"
