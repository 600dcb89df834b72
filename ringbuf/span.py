"""The span of a `with` block, the parent of what is emitted inside; and the spans of other processes."""

from __future__ import annotations

from typing import Final

from ringbuf._ringbuf import lib
from ringbuf._site import CURRENT, Parent, Span, enclosing_traceparent, set_header_reader
from ringbuf.traceparent import KNOWN_TRACE_FLAGS, parse_traceparent

__all__ = ["CURRENT", "KNOWN_TRACE_FLAGS", "Parent", "Span", "current_traceparent"]

LOCAL: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE
REMOTE: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE | lib.RB_SPAN_IS_REMOTE


def current_traceparent() -> str | None:
    """Return the `traceparent` of the enclosing `with` span for the next hop, None outside of any.

    The enclosing span is per thread and per asyncio task, as contextvars are. Where both kinds of span nest
    (`ringbuf.otel.nest`), it may be OpenTelemetry's.
    """
    return enclosing_traceparent()


def _read_header(header: object) -> Parent | None:
    """Return the parent that a `traceparent` names; None, if it is no header or an invalid one: a new trace begins."""
    parsed = parse_traceparent(header)
    if parsed is None:
        return None
    return Parent(parsed.trace_id, parsed.parent_id, REMOTE | parsed.trace_flags & KNOWN_TRACE_FLAGS)


set_header_reader(_read_header)
