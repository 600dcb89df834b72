"""What `site.wrap` makes of a function: one that runs in a span, and looks the same to who calls or inspects it.

A generator's body runs in pieces, and between them whoever iterates: the span encloses the pieces alone, and so do the
spans whose blocks are open in the body.
"""

from __future__ import annotations

import inspect
from contextvars import copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ringbuf.sites.context import current_span, use_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from ringbuf.sites.span import Span

__all__ = ["wrapped"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def wrapped(make_span: Callable[[], Span], function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return `function` in a span of each call.

    Args:
        make_span: returns a new span.
        function: a function, coroutine function, generator function or asynchronous one.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"wrap goes below @{type(function).__name__}: it takes the function itself")
    if isinstance(function, type):  # it would be a class no more
        raise TypeError(f"wrap takes a function, not {function!r}: wrap its methods")
    if not callable(function):
        raise TypeError(f"wrap takes a function, not {function!r}")
    called: Any = function
    if _is(inspect.isasyncgenfunction, called):
        made: Any = _async_generator(make_span, called)
    elif _is(inspect.iscoroutinefunction, called):
        made = _coroutine(make_span, called)
    elif _is(inspect.isgeneratorfunction, called):
        made = _generator(make_span, called)
    else:
        made = _function(make_span, called)
    return cast("Callable[_P, _R]", made)


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    # Of an object that is called, the method says it: inspect looks at the object alone.
    return kind(function) or kind(function.__call__)


def _function(make_span: Callable[[], Span], function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with make_span():
            return function(*args, **kwargs)

    return call


def _coroutine(
    make_span: Callable[[], Span], function: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with make_span():
            return await function(*args, **kwargs)

    return call


class _Apart:
    """A span that begins and ends in a context of its own: it is current to nobody until `use_span` makes it so."""

    __slots__ = ("_context", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._context = copy_context()

    def __enter__(self) -> Span:
        return self._context.run(self._span.__enter__)

    def __exit__(self, *exception: object) -> None:
        leave: Any = self._span.__exit__
        self._context.run(leave, *exception)


def _generator(
    make_span: Callable[[], Span], function: Callable[..., Generator[Any, Any, Any]]
) -> Callable[..., Generator[Any, Any, Any]]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with _Apart(make_span()) as span:
            generator, inner = function(*args, **kwargs), span
            step, value = generator.send, None
            while True:  # `yield from`, but for the span: Python's reference, "Yield expressions", and PEP 380
                try:
                    with use_span(inner):
                        item = step(value)
                        inner = current_span() or span
                except StopIteration as end:
                    return end.value
                try:
                    step, value = generator.send, (yield item)
                except GeneratorExit:
                    with use_span(inner):
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is the generator's
                    step, value = generator.throw, error

    return call


def _async_generator(
    make_span: Callable[[], Span], function: Callable[..., AsyncGenerator[Any, Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with _Apart(make_span()) as span:
            generator, inner = function(*args, **kwargs), span
            step, value = generator.asend, None
            while True:
                try:
                    with use_span(inner):
                        item = await step(value)
                        inner = current_span() or span
                except StopAsyncIteration:
                    return
                try:
                    step, value = generator.asend, (yield item)
                except GeneratorExit:
                    with use_span(inner):
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is the generator's
                    step, value = generator.athrow, error

    return call
