"""Between this package's `with` spans and OpenTelemetry's current span, so that both kinds nest in one trace.

A site's span that begins inside an OpenTelemetry span becomes its child (`current_parent`), and makes itself current
there (`enter`, `leave`), so that an OpenTelemetry span which begins inside becomes its child. Each span of either kind
makes itself current in OpenTelemetry's context; the innermost of both kinds is therefore the one that is found there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ringbuf._site import set_outer_context
from ringbuf.otel.span import flags_of
from ringbuf.span import Parent

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context

_SAMPLED_AND_RANDOM: Final = 0b11


class SiteSpan(Protocol):
    """What is asked of a site's span: its header for the next hop, which makes its ids."""

    @property
    def traceparent(self) -> str:
        """Version 00, 55 characters."""
        ...


class EnteredSpan(NonRecordingSpan):
    """A site's span as OpenTelemetry sees it. Its ids are made when somebody asks: most have no child.

    Args:
        span: the site's span.
        around: the span that was current, whose trace state goes on in the same trace.
    """

    def __init__(self, span: SiteSpan, around: trace.Span) -> None:
        self._span = span
        # Not the span itself: one that goes on from an ended one, and so forth, would keep them all.
        self._outer: SpanContext = (
            around._outer if isinstance(around, EnteredSpan) else around.get_span_context()  # noqa: SLF001 - of this class
        )
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Return its ids and flags: the span lives in this process."""
        if self._made is None:
            _, trace_id, span_id, flags = self._span.traceparent.split("-")
            number = int(trace_id, 16)
            self._made = SpanContext(
                number,
                int(span_id, 16),
                is_remote=False,
                trace_flags=TraceFlags(int(flags, 16)),
                trace_state=self._outer.trace_state if self._outer.trace_id == number else None,
            )
        return self._made

    def __repr__(self) -> str:
        return f"EnteredSpan({self._span!r})"


def current_parent() -> tuple[bytes, bytes, int] | None:
    """Return the current OpenTelemetry span as the parent of a site's span.

    Returns:
        Its trace id (16 bytes), span id (8 bytes) and `rb_span.child_flags`, or None: there is none, or it is a site's
        own span, which its children know anyhow.
    """
    span = trace.get_current_span()
    if isinstance(span, EnteredSpan):
        return None
    found = span.get_span_context()
    if not found.is_valid:
        return None
    # What W3C asks to be carried on, as for a parent that a header names.
    flags = flags_of(found, found)
    flags = flags & ~0xFF | flags & _SAMPLED_AND_RANDOM
    return found.trace_id.to_bytes(16, "big"), found.span_id.to_bytes(8, "big"), flags


def enter(span: SiteSpan) -> Token[Context]:
    """Make a site's span the current OpenTelemetry span; returns what `leave` takes."""
    entered = EnteredSpan(span, trace.get_current_span())
    return context_api.attach(trace.set_span_in_context(entered))


def leave(token: Token[Context]) -> None:
    """Make current again what was before `enter`."""
    context_api.detach(token)


def nest() -> None:
    """Let both kinds of spans nest from now on, in this process: the making of a `RingSpanProcessor` does it."""
    set_outer_context(_parent, enter, leave)


def _parent() -> Parent | None:
    found = current_parent()
    return None if found is None else Parent(*found)
