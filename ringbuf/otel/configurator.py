"""What `opentelemetry-instrument` loads: the SDK, configured by its environment, with the ring in place of a queue.

    OTEL_PYTHON_CONFIGURATOR=ringbuf opentelemetry-instrument python app.py

Where only OTEL_TRACES_EXPORTER names `ringbuf`, this still works if this configurator is the one that is loaded;
another one puts the exporter behind BatchSpanProcessor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ringbuf.otel import RingSpanExporter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

NAME: Final = "ringbuf"
_EXPORTERS: Final = "OTEL_TRACES_EXPORTER"


class RingConfigurator(_OTelSDKConfigurator):
    """The SDK's own configurator, but that spans for the exporter `ringbuf` go to a `RingSpanProcessor`.

    With OTEL_PYTHON_CONFIGURATOR=ringbuf spans go to the ring alone, unless OTEL_TRACES_EXPORTER names it beside
    others, or is `none`: a distribution sets that variable before anybody can ask who did.
    """

    def _configure(self, **kwargs: Any) -> None:
        if os.environ.get("OTEL_PYTHON_CONFIGURATOR") == NAME:
            names = {name.strip() for name in os.environ.get(_EXPORTERS, "").split(",")}
            if not names & {NAME, "none"}:
                os.environ[_EXPORTERS] = NAME
        arguments: dict[str, Any] = {"export_span_processor": span_processor, **kwargs}
        super()._configure(**arguments)  # type: ignore[no-untyped-call]  # the SDK's has no types


def span_processor(exporter: SpanExporter) -> SpanProcessor:
    """Return what stands between the SDK and an exporter: nothing before the ring, a queue before any other."""
    return exporter.processor if isinstance(exporter, RingSpanExporter) else BatchSpanProcessor(exporter)
