"""The current trace and span in log lines, for `logging` and for structlog.

With `logging`, a filter of the handler gives each record `trace_id`, `span_id` and `trace_flags`:

    handler.addFilter(TraceContextFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s trace_id=%(trace_id)s span_id=%(span_id)s"))

With structlog, a processor adds the same keys:

    structlog.configure(processors=[add_trace_context, structlog.processors.JSONRenderer()])

Source: OpenTelemetry specification, "Trace Context in non-OTLP Log Formats".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from ringbuf.sites.span import current_traceparent

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["LoggedContext", "TraceContextFilter", "add_trace_context", "current_trace_context"]


class LoggedContext(NamedTuple):
    """The ids of a span as log lines have them.

    Attributes:
        trace_id: 32 lower-case hex digits.
        span_id: 16 of them.
        trace_flags: 2 of them; the lowest bit says whether the span is sampled.
    """

    trace_id: str
    span_id: str
    trace_flags: str


def current_trace_context() -> LoggedContext | None:
    """Return the ids of the span that encloses the caller, None outside of any.

    It is the innermost `with` span of this thread or task, or OpenTelemetry's, where both kinds nest
    (`ringbuf.otel.nest`).
    """
    header = current_traceparent()
    return None if header is None else LoggedContext(*header.split("-")[1:])


class TraceContextFilter(logging.Filter):
    """Gives each record `trace_id`, `span_id` and `trace_flags`, empty outside of any span; lets all records pass.

    It belongs on handlers, since those of a logger do not see what its children log; before a queue, on the
    `QueueHandler`: another thread has another current span.

    >>> record = logging.makeLogRecord({})
    >>> TraceContextFilter().filter(record), record.trace_id
    (True, '')
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes, and return True."""
        found = current_trace_context() or LoggedContext("", "", "")
        record.trace_id, record.span_id, record.trace_flags = found
        return True


def add_trace_context(_logger: object, _method_name: str, event_dict: MutableMapping[str, Any]) -> Any:
    """Add `trace_id`, `span_id` and `trace_flags` to a structlog event inside a span; leave others as they are.

    Args:
        event_dict: the event; a key that it has already stays.

    Returns:
        The same dict.
    """
    found = current_trace_context()
    if found is not None:
        for key, value in found._asdict().items():
            event_dict.setdefault(key, value)
    return event_dict
