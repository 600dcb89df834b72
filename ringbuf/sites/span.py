"""The span of a `with` block, the parent of what is emitted inside; and the spans of other processes."""

from __future__ import annotations

import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ringbuf import _site
from ringbuf._ringbuf import lib
from ringbuf._site import CURRENT, Parent, enclosing_traceparent, set_header_reader
from ringbuf.layout.value import shown
from ringbuf.sites.exception_attributes import ERROR_MESSAGE, error_message, error_type
from ringbuf.sites.span_parts import PARTS, STACKTRACE, SpanParts
from ringbuf.status import Status, member_of
from ringbuf.traceparent import KNOWN_TRACE_FLAGS, parse_traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["CURRENT", "KNOWN_TRACE_FLAGS", "Parent", "Span", "current_traceparent"]

LOCAL: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE
REMOTE: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE | lib.RB_SPAN_IS_REMOTE
_MOST_FRAMES: Final = 32  # of a stack trace: a record has no room for more
_MOST_CAUSES: Final = 8  # of an exception, whose stacks are shown, too


class Span(_site.Span):
    """The span of a `with` block. Made by `site.span(…)`.

    Attributes:
        traceparent: the W3C header that makes the next hop's spans children of this one; inside the block and after it.
        trace_id: 16 bytes, from the block's beginning on.
        span_id: 8 bytes, the same.
        site: the site that made it.
    """

    __slots__ = ()

    @property
    def status(self) -> Status:
        """How the operation ended: what was set, and after the block what was written.

        Unless it is set, it is UNSET, or ERROR where a label says so (`Attribute.error_labels`) or an exception passes.
        It may be set to a `Status`, its number, or an OpenTelemetry `StatusCode`; another value is left out at the end.
        """
        given = self["status"]
        if given is not None:
            with suppress(TypeError, ValueError):  # what is none is left out at the end
                return member_of(Status, "status", given)
        return Status(self.written_status)

    @status.setter
    def status(self, value: Status) -> None:
        with suppress(TypeError, ValueError):  # told of where it is put into the record
            value = member_of(Status, "status", value)
        self["status"] = value

    def set_status(self, status: Status, description: str | None = None) -> None:
        """Set the status as OpenTelemetry does: OK is final, and UNSET takes nothing back.

        Args:
            status: a `Status`, its number, or an OpenTelemetry `StatusCode`; another value is left out and counted.
            description: of an ERROR, becomes OTLP's status message where the layout has an `otlp` attribute, else
                `error.message` where it has that.
        """
        try:
            status = member_of(Status, "status", status)
        except (TypeError, ValueError) as error:
            self.leave_out("status", error)
            return
        if status is Status.UNSET or self["status"] == Status.OK:
            return
        self["status"] = status
        if status is Status.ERROR and description is not None:
            self._describe(description)

    def _describe(self, description: str) -> None:
        parts = self._parts()
        if parts is not None:
            try:
                parts.set_message(description)
            except Exception as error:  # noqa: BLE001 - as of an event
                self.leave_out("description", error)
            return
        try:
            self[ERROR_MESSAGE] = description
        except ValueError:
            self.leave_out("description", ValueError("the layout has no attribute for it: error.message, or an otlp"))

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        """Add an event, in a layout that has an `otlp` attribute; counted as left out in another.

        Args:
            name: of the event.
            attributes: of OpenTelemetry's types; others are counted in the event's `dropped_attributes_count`.
            timestamp: nanoseconds since 1970; None: now.

        What does not fit the attribute is counted in `dropped_events_count`, and the span in `EmitterStats.truncated`.
        """
        parts = self._parts_for("event")
        if parts is None:
            return
        try:
            parts.add_event(name, attributes, _site.unix_nano() if timestamp is None else timestamp)
        except Exception as error:  # noqa: BLE001 - names and mappings are the application's: they may raise anything
            self.leave_out("event", error)

    def record_exception(
        self, exception: BaseException, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event `exception` with its type, what it says and its stack trace, as OpenTelemetry has it.

        Args:
            exception: that is handled here; one that passes the block is recorded by itself.
            attributes: further ones.
            timestamp: nanoseconds since 1970; None: now.
        """
        when = _site.unix_nano() if timestamp is None else timestamp  # to write down the stack takes its time
        found: dict[str, Any] = {"exception.type": error_type(exception), "exception.message": error_message(exception)}
        with suppress(Exception):  # what an exception is as text is the application's
            found[STACKTRACE] = _stack_trace(exception)
        try:
            found |= attributes or {}
        except Exception as error:  # noqa: BLE001 - as of an event, which goes on without them
            self.leave_out("attributes of an exception", error)
        self.add_event("exception", found, when)

    def add_link(self, traceparent: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a link to a span of another trace, in a layout that has an `otlp` attribute; else counted as left out.

        Args:
            traceparent: its W3C header, as `span.traceparent` and requests have it; an invalid one is left out.
            attributes: as for `add_event`. What does not fit is counted in `dropped_links_count`.
        """
        parts = self._parts_for("link")
        if parts is None:
            return
        context = parse_traceparent(traceparent)
        try:
            if context is None:
                raise ValueError(f"{shown(traceparent)} is no traceparent")  # noqa: TRY301 - told as the others are
            parts.add_link(context, attributes)
        except Exception as error:  # noqa: BLE001 - as of an event
            self.leave_out("link", error)

    def _parts_for(self, what: str) -> SpanParts | None:
        parts = self._parts()
        if parts is None:
            self.leave_out(what, ValueError("the layout has no otlp attribute for it, or the site gives that itself"))
        return parts

    def _parts(self) -> SpanParts | None:
        try:
            found = self[PARTS]
            if found is None:
                found = self.setdefault(PARTS, SpanParts())  # at once: two threads may add the first event
        except ValueError:
            return None
        return found  # type: ignore[no-any-return] # nothing else is given by this name

    def __repr__(self) -> str:
        try:
            ids = self.traceparent
        except RuntimeError:
            ids = "not entered"
        return f"<{type(self).__name__} {self.site.name!r}, {ids}>"


for _name, _method in _site.BLOCK_METHODS.items():
    setattr(Span, _name, _method)


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


def _stack_trace(exception: BaseException) -> str:
    """Return the innermost frames: an exception that passes a thousand blocks is written down at each of them."""
    innermost = _innermost(exception.__traceback__)
    lines = traceback.format_exception(
        type(exception), exception, innermost, limit=-_MOST_FRAMES, chain=_has_few_causes(exception)
    )
    return "".join(lines)


def _innermost(stack: TracebackType | None) -> TracebackType | None:
    # `limit` alone reads the positions of all frames.
    ahead = stack
    for _ in range(_MOST_FRAMES):
        if ahead is None:
            return stack
        ahead = ahead.tb_next
    while ahead is not None and stack is not None:
        ahead, stack = ahead.tb_next, stack.tb_next
    return stack


def _has_few_causes(exception: BaseException) -> bool:
    for _ in range(_MOST_CAUSES):
        cause = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)
        if cause is None:
            return True
        exception = cause
    return False


set_header_reader(_read_header)
