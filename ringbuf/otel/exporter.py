"""`RingSpanExporter`: a ring behind a processor of the SDK."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ringbuf.otel.notices import Notices
from ringbuf.otel.processor import RingSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class RingSpanExporter(SpanExporter):
    """The same behind a processor of the SDK. What waits in that processor's queue is lost at a kill.

    Args:
        arguments: of `RingSpanProcessor`.

    Raises:
        ValueError, TypeError, RingCreateError: as there.
    """

    made: ClassVar[int] = 0
    """How many there were in this process: tells the configurator whether a configuration file names one."""

    def __init__(self, **arguments: Any) -> None:
        self.processor = RingSpanProcessor(**arguments)
        self._notices = Notices()
        RingSpanExporter.made += 1

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans; FAILURE when one of them was not."""
        if threading.current_thread().name.startswith("OtelBatch"):
            self._notices.give(
                "queue",
                "spans wait in BatchSpanProcessor before they reach the ring, and are lost at a kill: "
                "set OTEL_PYTHON_CONFIGURATOR=ringbuf, or use ringbuf.otel.RingSpanProcessor",
            )
        written = [self.processor.write(span) for span in spans]
        return SpanExportResult.SUCCESS if all(written) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """End the rings."""
        self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: what was exported is in the ring."""
        return self.processor.force_flush(timeout_millis)
