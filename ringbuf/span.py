"""The span of a `with` block: it times the block, and is the parent of what is emitted inside."""

from __future__ import annotations

import os
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.traceparent import format_traceparent, parse_traceparent

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from ringbuf.emitter import Emitter

__all__ = ["CURRENT", "ActiveSpan", "RemoteParent", "current_traceparent"]

# W3C's own bits that a child repeats: sampled, and (level 2) random trace id.
KNOWN_TRACE_FLAGS: Final = 0x03

CURRENT: Final[ContextVar[ActiveSpan | None]] = ContextVar("ringbuf.current_span", default=None)
"""The enclosing span: per thread and per asyncio task, as contextvars are."""

NULL: Final = ffi.NULL
_SPAN: Final = ffi.typeof("rb_span *")
# Looked up once: each dot in the hot functions costs nanoseconds.
_get_current = CURRENT.get
_set_current = CURRENT.set
_reset_current = CURRENT.reset
_next_number = count().__next__  # a forked child goes on with the same numbers, and with other seeds
# Not time.time_ns, which takes 75 ns here where these take 42.
_unix_nano = hot.rb_clock_unix_nano
_monotonic_nano = hot.rb_clock_monotonic_nano


class RemoteParent:
    """The span that a `traceparent` header names; none, if it is no header or an invalid one: a new trace begins."""

    __slots__ = ("_made",)

    def __init__(self, traceparent: object) -> None:
        self._made = NULL
        parsed = parse_traceparent(traceparent)
        if parsed is not None:
            flags = parsed.trace_flags & KNOWN_TRACE_FLAGS
            self._made = ffi.new(
                _SPAN,
                {
                    "trace_id": list(parsed.trace_id),
                    "span_id": list(parsed.parent_id),
                    "child_flags": flags | lib.RB_SPAN_HAS_IS_REMOTE | lib.RB_SPAN_IS_REMOTE,
                },
            )

    def pointer(self) -> Any:
        """Return the `rb_span *`; NULL: a root begins here."""
        return self._made


def current_traceparent() -> str | None:
    """Return the `traceparent` of the enclosing `with` span for the next hop, None outside of any."""
    span = CURRENT.get()
    return None if span is None else span.traceparent


class ActiveSpan:
    """What the spans of all sites share: begin, be the parent, end. Made as `site.span(…)`.

    A span gets its ids when somebody asks for them, a child or the next hop; the innermost, which are the most, need
    none before they end. They follow from the span's number, so it does not matter who asks first, or how many at once.

    Args:
        emitter: whose ring it will be written to.
        site: an `rb_site *`.
        parent: None: the enclosing span, if any.
    """

    # Slots are found without a look at the class: 170 ns less a span than attributes that the class has.
    __slots__ = ("_emitter", "_made", "_monotonic_nano", "_number", "_parent", "_site", "_token", "_unix_nano")
    _made: Any  # rb_span *, None before somebody asks
    _number: int  # -1 before the block is entered
    _unix_nano: int
    _monotonic_nano: int
    _parent: ActiveSpan | RemoteParent | None
    _token: Token[ActiveSpan | None] | None

    def __init__(self, emitter: Emitter, site: Any, parent: RemoteParent | None) -> None:
        self._emitter = emitter
        self._site = site
        self._parent = parent
        self._made = None
        self._number = -1

    def pointer(self) -> Any:
        """Return the span with its ids, an `rb_span *`.

        Raises:
            RuntimeError: the block was not entered yet.
        """
        if self._made is None:
            if self._number < 0:
                raise RuntimeError("a span has ids from when its block is entered")
            # The outermost first, in a loop: blocks may nest deeper than calls.
            waiting: list[ActiveSpan] = []
            span: ActiveSpan | RemoteParent | None = self
            while isinstance(span, ActiveSpan) and span._made is None:  # noqa: SLF001 - of this class
                waiting.append(span)
                span = span._parent  # noqa: SLF001 - of this class
            for span in reversed(waiting):
                span._make()
        return self._made

    def _make(self) -> None:
        """Give the span its ids, where its parent has them."""
        parent = self._parent
        if self._made is not None:  # by another thread, which let go of the parent only then
            return
        made = ffi.new(_SPAN)
        arguments = (
            self._site,
            NULL if parent is None else parent._made,  # noqa: SLF001 - of this module
            self._number,
            self._unix_nano,
            self._monotonic_nano,
            made,
        )
        if hot.rb_span_begin(*arguments) != 0 and self._emitter.recover():
            hot.rb_span_begin(*arguments)
        self._made = made
        self._parent = None  # else a span that goes on from an ended one, and so forth, would keep them all

    @property
    def traceparent(self) -> str:
        """The W3C header that makes the next hop's spans children of this one; valid inside the block and after it."""
        return format_traceparent(self.trace_id, self.span_id, self.pointer().child_flags & KNOWN_TRACE_FLAGS)

    @property
    def trace_id(self) -> bytes:
        """16 bytes."""
        return bytes(ffi.buffer(self.pointer().trace_id))

    @property
    def span_id(self) -> bytes:
        """8 bytes."""
        return bytes(ffi.buffer(self.pointer().span_id))

    def __enter__(self) -> Self:
        if self._number >= 0:
            raise RuntimeError("a span is entered once: make another with site.span(…)")
        if self._parent is None:
            self._parent = _get_current()
        self._unix_nano = _unix_nano()
        self._monotonic_nano = _monotonic_nano()
        self._number = _next_number()
        self._token = _set_current(self)  # last: from here on a signal handler's span may ask for our ids
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:  # noqa: SIM105 - contextlib.suppress takes 300 ns
            _reset_current(self._token)  # type: ignore[arg-type] # set by __enter__
        except ValueError:  # a generator that is closed in another context than the one that entered the block
            pass
        self._token = None  # it refers to the span before, which may go now
        self._end(kind is not None)

    def _end(self, failed: bool) -> None:
        """Write the span; `failed`: an exception passes."""
        raise NotImplementedError


def _settle_current() -> None:
    """Give the enclosing span its ids before a fork: the child, whose seed is another, must know it by the same."""
    span = CURRENT.get()
    if span is not None:
        span.pointer()


os.register_at_fork(before=_settle_current)
