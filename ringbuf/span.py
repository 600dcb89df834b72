"""The span of a `with` block, the parent of what is emitted inside; and the spans of other processes."""

from __future__ import annotations

from typing import Final

from ringbuf import _site
from ringbuf._ringbuf import lib
from ringbuf._site import CURRENT, Parent, enclosing_traceparent, set_header_reader
from ringbuf.failure import ERROR_MESSAGE
from ringbuf.status import Status, member_of
from ringbuf.traceparent import KNOWN_TRACE_FLAGS, parse_traceparent

__all__ = ["CURRENT", "KNOWN_TRACE_FLAGS", "Parent", "Span", "current_traceparent"]

LOCAL: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE
REMOTE: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE | lib.RB_SPAN_IS_REMOTE


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
        return Status(self.written_status) if given is None else member_of(Status, "status", given)

    @status.setter
    def status(self, value: Status) -> None:
        self["status"] = value

    def set_status(self, status: Status, description: str | None = None) -> None:
        """Set the status as OpenTelemetry does: OK is final, and UNSET takes nothing back.

        Args:
            status: a `Status`, its number, or an OpenTelemetry `StatusCode`.
            description: of an ERROR, becomes `error.message` where the layout has that.

        Raises:
            TypeError, ValueError: the status is none.
        """
        status = member_of(Status, "status", status)
        if status is Status.UNSET or self["status"] == Status.OK:
            return
        self["status"] = status
        if status is Status.ERROR and description is not None:
            self._describe(description)

    def _describe(self, description: str) -> None:
        try:
            self[ERROR_MESSAGE] = description
        except ValueError:
            self.leave_out("description", ValueError("the layout has no attribute for it: error.message"))

    def __repr__(self) -> str:
        try:
            ids = self.traceparent
        except RuntimeError:
            ids = "not entered"
        return f"<{type(self).__name__} {self.site.name!r}, {ids}>"


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
