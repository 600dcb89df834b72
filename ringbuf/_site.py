"""In place of the extension where there is none: sites and spans that write nothing.

Spans nest, and hand on their trace, as they do elsewhere: the processes around may have rings. What a call must not
have raises here, too; values are not looked at. See `ringbuf._ringbuf`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

_VALUE, _START, _END, _NAME, _STATUS = range(5)  # enum rb_role
_SAMPLED: Final = 1
_HAS_IS_REMOTE: Final = 0x100

CURRENT: Final[ContextVar[Span | None]] = ContextVar("ringbuf.current_span", default=None)
BLOCK_METHODS: Final[dict[str, object]] = {}

_outer: tuple[Any, Any, Any] = (None, None, None)
# Until ringbuf.sites.span is imported.
_read_header: Callable[[object], Parent | None] = lambda _header: None  # noqa: E731 - replaced as a whole


def unix_nano() -> int:
    return time.time_ns()


def own_producer(_address: int, /) -> object:
    return object()


def described(name: str, doc: str, /) -> Any:
    method = {"emit": _emit, "emit_under": _emit_under, "span": _span}[name]

    def copy(self: Site, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)

    signature, _, text = doc.partition("\n--\n\n")
    copy.__name__, copy.__doc__ = name, text or signature
    # For inspect.signature, as the extension's own; a name that is no argument of `copy` raises there, too.
    parameters = signature.removeprefix(f"{name}($").removesuffix(")")
    copy.__wrapped__ = eval(f"lambda {parameters}: None", {})  # type: ignore[attr-defined] # noqa: S307 - our own text
    return copy


def set_header_reader(read: Callable[[object], Parent | None], /) -> None:
    global _read_header  # noqa: PLW0603 - the module's state, as the extension's
    _read_header = read


def set_outer_context(*parts: Any) -> None:
    global _outer  # noqa: PLW0603 - the same
    _outer = parts  # type: ignore[assignment]


def outer_context() -> tuple[Any, Any, Any]:
    return _outer


def current_span() -> Span | None:
    return CURRENT.get()


def _enclosing() -> Parent | Span | None:
    found = _outer[0]() if _outer[0] is not None else None
    return found if found is not None else CURRENT.get()


def enclosing_traceparent() -> str | None:
    found = _enclosing()
    return None if found is None else _header(found)


class Parent:
    """A span of another process."""

    def __init__(self, trace_id: bytes, span_id: bytes, child_flags: int) -> None:
        if (len(trace_id), len(span_id)) != (16, 8):
            raise ValueError("a trace id has 16 bytes, a span id 8")
        self.trace_id, self.span_id, self.child_flags = bytes(trace_id), bytes(span_id), child_flags

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.trace_id, self.span_id, self.child_flags)


def _header(span: Any) -> str:
    return f"00-{span.trace_id.hex()}-{span.span_id.hex()}-{span.child_flags & 0xFF:02x}"


def _parent_of(given: Any) -> Any:
    if given is None or isinstance(given, Parent):
        return given
    if isinstance(given, Span):
        _ = given.trace_id  # raises
        return given
    return _read_header(given)


class Site:
    """What is constant where spans are emitted."""

    def __new__(
        cls,
        owner: object,
        record: bytes,
        arguments: tuple[Any, ...],
        failure: object,
        convert: object,
        refuse: Any,
        recover: Any,
        attend: object,
        span_type: type,
        origin: tuple[Any, ...],
    ) -> Self:
        self = super().__new__(cls)
        self._refuse, self._recover, self._span_type, self._origin = refuse, recover, span_type, origin
        self._arguments = arguments
        self._values = [argument for argument in arguments if argument.role in (_VALUE, _STATUS)]
        return self

    @property
    def name(self) -> str:
        return str(self._refuse.place)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._origin

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positional = [argument for argument in self._arguments if not argument.is_keyword]
        if len(args) > len(positional):
            raise TypeError(f"emit() takes {counted(len(positional), 'argument')}, not {len(args)}")
        given = {argument.name for argument in positional[: len(args)]}
        for name in kwargs:
            if name in given or all(name != argument.name for argument in self._arguments):
                raise TypeError(f"emit() got an unexpected keyword argument {name!r}")
        for argument in self._arguments:
            if argument.required and argument.name not in given and argument.name not in kwargs:
                raise TypeError(f"emit() missing required argument {argument.name!r}")

    def count(self) -> bool:
        """Count a span that has no ring; the first is warned about."""
        emitter = self._recover.__self__
        self._recover()
        emitter.producer.count_local(1)
        return False


def _emit(site: Site, /, *args: Any, **kwargs: Any) -> bool:
    site._check(args, kwargs)
    return site.count()


def _emit_under(site: Site, parent: Any, /, *args: Any, **kwargs: Any) -> bool:
    site._check(args, kwargs)
    _parent_of(parent)
    return site.count()


def _span(site: Site, /, *values: Any, traceparent: Any = None) -> Span:
    positional = [value for value in site._values if not value.is_keyword]
    if len(values) > len(positional):
        raise TypeError(f"span() takes {counted(len(positional), 'value')}, not {len(values)}")
    for value in site._values[len(values) :]:
        if value.required and value.only is not None:
            raise TypeError(f"span() missing required argument {value.name!r}")
    span = object.__new__(site._span_type)
    span._begin(site, [*values, *[None] * (len(site._values) - len(values))], _parent_of(traceparent), traceparent)
    return span  # type: ignore[no-any-return]


for _name, _method in {"emit": _emit, "emit_under": _emit_under, "span": _span}.items():
    setattr(Site, _name, _method)


class Span:
    """The span of a `with` block."""

    __slots__ = ("_has_header", "_ids", "_outer_token", "_parent", "_status", "_token", "_values", "site")

    def _begin(self, site: Site, values: list[Any], parent: Any, header: object) -> None:
        self.site, self._values, self._parent, self._has_header = site, values, parent, header is not None
        self._ids: Parent | None = None
        self._token: Token[Any] | None = None
        self._outer_token: Any = None
        self._status = 0

    def _entered(self) -> Parent:
        if self._ids is None:
            raise RuntimeError("a span has ids from when its block is entered")
        return self._ids

    @property
    def trace_id(self) -> bytes:
        return self._entered().trace_id

    @property
    def span_id(self) -> bytes:
        return self._entered().span_id

    @property
    def child_flags(self) -> int:
        return self._entered().child_flags

    @property
    def traceparent(self) -> str:
        return _header(self._entered())

    @property
    def written_status(self) -> int:
        return self._status

    def _index(self, key: str) -> int:
        for index, value in enumerate(self.site._values):
            if value.name == key:
                return index
        raise ValueError(f"{key!r} is no varying attribute of this site")

    def __getitem__(self, key: str) -> Any:
        return self._values[self._index(key)]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[self._index(key)] = value

    def setdefault(self, key: str, value: Any, /) -> Any:
        index = self._index(key)
        if self._values[index] is None:
            self._values[index] = value
        return self._values[index]

    def leave_out(self, name: str, error: Exception, /) -> None:
        self.site._refuse(name, error)

    def __enter__(self) -> Self:
        if self._ids is not None:
            raise RuntimeError("a span is entered once: make another with site.span(...)")
        parent = self._parent if self._has_header else _enclosing()
        trace_id = os.urandom(16) if parent is None else parent.trace_id
        flags = _SAMPLED if parent is None else parent.child_flags & 0xFF
        self._ids = Parent(trace_id, os.urandom(8), _HAS_IS_REMOTE | flags)
        if _outer[1] is not None:
            self._outer_token = _outer[1](self)
        self._token = CURRENT.set(self)
        return self

    def __exit__(self, kind: object = None, _error: object = None, _traceback: object = None, /) -> None:
        if self._token is None:
            raise RuntimeError("the block of this span was not entered, or was left already")
        token, self._token = self._token, None
        with suppress(ValueError):  # a generator that is closed in another context
            CURRENT.reset(token)
        if self._outer_token is not None and _outer[2] is not None:
            _outer[2](self._outer_token)
        failed = isinstance(kind, type) and issubclass(kind, Exception)
        ended = isinstance(kind, type) and issubclass(kind, (StopIteration, StopAsyncIteration))
        self._status = 2 if failed and not ended else 0
        self.site.count()

    def __reduce__(self) -> Any:
        raise TypeError("a span belongs to the block that it times: hand on its `traceparent`")


class SpanValue:
    """An attribute of a class of spans that stands for the value at `index`."""

    def __init__(self, index: int, unset: object, /) -> None:
        self._index, self._unset = index, unset

    def __get__(self, instance: Any, _owner: object = None) -> Any:
        if instance is None:
            return self
        value = instance._values[self._index]
        return self._unset if value is None else value

    def __set__(self, instance: Any, value: object) -> None:
        instance._values[self._index] = value
