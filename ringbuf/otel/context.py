"""Between this package's `with` spans and OpenTelemetry's current span, so that both kinds nest in one trace.

A site's span that begins inside an OpenTelemetry span becomes its child (`current_parent`), and makes itself current
there (`enter`, `leave`), so that an OpenTelemetry span which begins inside becomes its child. Each span of either kind
makes itself current in OpenTelemetry's context, which may also be carried to other threads and attached there: the
innermost of both kinds is therefore the one that is found there, and nobody looks elsewhere.
"""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ringbuf._site import set_outer_context
from ringbuf.otel.span import flags_of
from ringbuf.sites.span import Parent
from ringbuf.traceparent import KNOWN_TRACE_FLAGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.util.types import Attributes, AttributeValue


class SiteSpan(Protocol):
    """What is asked of a site's span: its header for the next hop."""

    @property
    def traceparent(self) -> str:
        """Version 00, 55 characters."""
        ...


class EnteredSpan(NonRecordingSpan):
    """A site's span as OpenTelemetry sees it. Its ids are put together when somebody asks: most have no child.

    What is set on it goes to the OpenTelemetry span around, if that is recording: who sets an attribute on the current
    span means the one that was current before there was a site's block, and a record of the site has no place for it.

    Args:
        span: the site's span.
        around: the span that was current.

    Attributes:
        span: the site's span.
        token: what OpenTelemetry gave for its context.
        around: the span that was current, while this one is or went astray.
        is_astray: whether its block was left in another context than it was entered in. Where it was entered it is
            current for good, and stands for what was around.
    """

    def __init__(self, span: SiteSpan, around: trace.Span) -> None:
        self.span = span
        self.token: Token[Context] | None = None
        self.around = around
        self.is_astray = False
        # Not `around` alone: one that goes on from an ended one, and so forth, would keep them all.
        self._recording: trace.Span = around._recording if isinstance(around, EnteredSpan) else around  # noqa: SLF001 - of this class
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Return its ids and flags: the span lives in this process."""
        if self.is_astray:
            return nearest(self).get_span_context()
        if self._made is None:
            _, trace_id, span_id, flags = self.span.traceparent.split("-")
            number = int(trace_id, 16)
            outer = self._recording.get_span_context()
            self._made = SpanContext(
                number,
                int(span_id, 16),
                is_remote=False,
                trace_flags=TraceFlags(int(flags, 16)),
                trace_state=outer.trace_state if outer.trace_id == number else None,
            )
        return self._made

    def forget(self) -> None:
        """Let go of what was around: the block was left, and nobody finds this span as the current one but a child."""
        self.around = trace.INVALID_SPAN

    def go_astray(self) -> None:
        """Stand for what was around from now on."""
        self.around = nearest(self.around)
        self.is_astray = True

    def is_recording(self) -> bool:
        """Return whether the OpenTelemetry span around is."""
        return self._recording.is_recording()

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set it on the span around."""
        if self.is_recording():
            self._recording.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set them on the span around."""
        if self.is_recording():
            self._recording.set_attributes(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add it to the span around."""
        if self.is_recording():
            self._recording.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add it to the span around."""
        if self.is_recording():
            self._recording.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Rename the span around."""
        if self.is_recording():
            self._recording.update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set that of the span around."""
        if self.is_recording():
            self._recording.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record it on the span around."""
        if self.is_recording():
            self._recording.record_exception(exception, attributes, timestamp, escaped)

    def __repr__(self) -> str:
        return f"EnteredSpan({self.span!r})"


def nearest(span: trace.Span) -> trace.Span:
    """Return a span, or for one that went astray the nearest around that did not."""
    while isinstance(span, EnteredSpan) and span.is_astray:
        span = span.around
    return span


def current_parent() -> Parent | SiteSpan | None:
    """Return what encloses a site's span that begins here: another site's, OpenTelemetry's as a Parent, or None."""
    span = nearest(trace.get_current_span())
    if isinstance(span, EnteredSpan):
        return span.span
    found = parent_of(span)
    return None if found is None else Parent(*found)


def parent_of(span: trace.Span) -> tuple[bytes, bytes, int] | None:
    """Return an OpenTelemetry span as the parent of a site's span.

    Returns:
        Its trace id (16 bytes), span id (8 bytes) and `rb_span.child_flags`, or None: it has no ids.
    """
    found = span.get_span_context()
    if not found.is_valid:
        return None
    # What W3C asks to be carried on, as for a parent that a header names.
    flags = flags_of(found, found)
    flags = flags & ~0xFF | flags & KNOWN_TRACE_FLAGS
    return found.trace_id.to_bytes(16, "big"), found.span_id.to_bytes(8, "big"), flags


def enter(span: SiteSpan) -> EnteredSpan:
    """Make a site's span the current OpenTelemetry span; returns what `leave` takes."""
    entered = EnteredSpan(span, nearest(trace.get_current_span()))
    entered.token = context_api.attach(trace.set_span_in_context(entered))
    return entered


def leave(entered: EnteredSpan) -> None:
    """Make current again what was before `enter`; in another context that cannot be, and the span goes astray."""
    token: Any = entered.token
    entered.token = None
    try:
        if isinstance(token, Token):
            # Not `detach`, which logs an error with a traceback for what is none: a generator is closed anywhere.
            token.var.reset(token)
        else:
            context_api.detach(token)  # of a context of another kind, which OTEL_PYTHON_CONTEXT has installed
    except ValueError:
        entered.go_astray()
    else:
        entered.forget()


def nest() -> None:
    """Let both kinds of spans nest from now on, in this process: the making of a `RingSpanProcessor` does it."""
    set_outer_context(current_parent, enter, leave)
