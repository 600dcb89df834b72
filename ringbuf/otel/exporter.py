"""`RingSpanExporter`: a ring behind a processor of the SDK."""

from __future__ import annotations

import threading
from logging import getLogger
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ringbuf.otel.processor import RingSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

_logger = getLogger("ringbuf")


class RingSpanExporter(SpanExporter):
    """The same behind a processor of the SDK. What waits in that processor's queue is lost at a kill.

    Args:
        arguments: of `RingSpanProcessor`.

    Raises:
        ValueError, TypeError, RingCreateError: as there.
    """

    def __init__(self, **arguments: Any) -> None:
        self.processor = RingSpanProcessor(**arguments)
        self._has_warned = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans; FAILURE when one of them was not."""
        if not self._has_warned and threading.current_thread().name.startswith("OtelBatch"):
            self._has_warned = True
            _logger.warning(
                "spans wait in BatchSpanProcessor before they reach the ring, and are lost at a kill: "
                "set OTEL_PYTHON_CONFIGURATOR=ringbuf, or use ringbuf.otel.RingSpanProcessor"
            )
        written = [self.processor.write(span) for span in spans]
        return SpanExportResult.SUCCESS if all(written) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """End the rings."""
        self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: what was exported is in the ring."""
        return self.processor.force_flush(timeout_millis)
