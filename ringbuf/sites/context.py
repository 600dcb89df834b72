"""The span that encloses what runs: which it is, and how it goes along where Python's context does not.

Python carries a context variable over `await` and into tasks by itself; into threads of an executor it does not.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ringbuf._site import CURRENT, outer_context
from ringbuf._site import Span as _Span
from ringbuf._site import current_span as _current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from ringbuf.sites.span import Span

__all__ = ["bind_context", "current_span", "use_span"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def current_span() -> Span | None:
    """Return the innermost `with` span of this package around the caller, None outside of any.

    A function that a decorator traces sets its values by it: `ringbuf.current_span()["kv.bytes"] = 512`.
    """
    found: Any = _current_span()
    return found  # type: ignore[no-any-return] # all sites make spans of this class


def bind_context(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a function that runs in the context of now, wherever it is called: for executors and threads.

    What is emitted in it becomes a child of the span that encloses this call. Each call has a copy of the context, so
    that several threads may call it at once. `asyncio.to_thread` does the same by itself.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as executor:
    ...     executor.submit(bind_context(sum), [1, 2]).result()
    3
    """
    context = copy_context()

    @wraps(function)
    def bound(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return context.copy().run(function, *args, **kwargs)

    return bound


class use_span:  # noqa: N801 - it is called like a function, as OpenTelemetry's
    """Make a span that was entered the enclosing one for a `with` block, here, without beginning or ending it.

    Args:
        span: of any site, entered; in whichever thread or task. None, which `current_span` returns outside of any
            block, changes nothing.

    Raises:
        RuntimeError: the span was not entered.
        TypeError: it is no span of a site.
    """

    __slots__ = ("_entered", "_span")

    def __init__(self, span: Span | None) -> None:
        if span is not None:
            if not isinstance(span, _Span):
                raise TypeError(f"use_span takes a span of a site, not {span!r}")
            _ = span.traceparent  # raises
        self._span = span
        # One for each time that it is entered and not left: a block within a block, and threads that share one.
        self._entered: list[tuple[Token[Any], Any, Callable[[Any], object] | None]] = []

    def __enter__(self) -> Span | None:
        if self._span is None:
            return None
        token = CURRENT.set(self._span)
        _, enter, leave = outer_context()
        outer: Any = None
        if enter is not None:
            with suppress(Exception):  # of another tracing library: as where a block is entered
                outer = enter(self._span)
        self._entered.append((token, outer, leave))
        return self._span

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        entered = self._entered[-1]  # so it stays for a generator that is closed in another context
        for one in reversed(tuple(self._entered)):
            try:
                CURRENT.reset(one[0])
            except (ValueError, RuntimeError):  # another thread's, or left by it just now
                continue
            entered = one
            break
        self._entered.remove(entered)
        _, outer, leave = entered
        if outer is not None and leave is not None:
            with suppress(Exception):
                leave(outer)
