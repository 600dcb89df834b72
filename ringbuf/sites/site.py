"""Site: a place that emits spans of any layout, with everything constant bound once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from ringbuf import _site
from ringbuf._site import described
from ringbuf.layout.value import pack_value
from ringbuf.sites.argument import END, START, STATUS, Argument, pack_time
from ringbuf.sites.exception_attributes import ERROR_MESSAGE, ERROR_TYPE
from ringbuf.sites.failure import Failure
from ringbuf.sites.packing import pack_constants
from ringbuf.sites.refusal import Refusals
from ringbuf.sites.span import Span
from ringbuf.sites.span_parts import PARTS, SpanParts
from ringbuf.status import SpanKind, Status, member_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.value import Value
    from ringbuf.ring.process_ring import ProcessRing
    from ringbuf.sites.span import Parent

_P = ParamSpec("_P")
_R = TypeVar("_R")

__all__ = ["BoundSite", "Site", "SiteSpan"]

_TIMES: Final = 2  # arguments before the values


class BoundSite(_site.Site):
    """What the sites of all vocabularies share.

    Attributes:
        name: of its spans, for people.
    """

    __slots__ = ()

    @classmethod
    def bind(
        cls,
        emitter: ProcessRing,
        name: str,
        record: bytes,
        arguments: tuple[Argument, ...],
        failure: Callable[[Any, Any, int], tuple[tuple[int, object], ...]] | None,
        convert: Callable[[int, Any], tuple[bytes, bool]],
        span_type: type[Span],
        origin: tuple[Callable[..., Any], tuple[Any, ...]],
    ) -> Self:
        """Make the site from its parts, those of `Site` in csrc/python/site.c.

        Args:
            emitter: whose ring it writes to.
            name: of its spans, for people.
            record: a whole record with what all its spans share.
            arguments: those of `emit`, in their order; those that are given by name alone are the last.
            failure: `failure(span, exception, end) -> ((index of a value, value), …)`, what one that passes sets.
            convert: `convert(index of the argument, value) -> (bytes, cut)`, for what C does not take at once.
            span_type: of what `span` returns.
            origin: a callable and its arguments, which bind the site anew where it is unpickled.
        """
        emitter.is_bound = True
        return super().__new__(
            cls,
            emitter.owner,
            record,
            arguments,
            failure,
            convert,
            Refusals(name),
            emitter.recover,
            emitter.attend,
            span_type,
            origin,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class SiteSpan(Span):
    """A span of a `Site`: set what becomes known inside the block as `span[key] = value`; checked when it ends."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __setitem__(self, key: str, value: Value) -> None: ...


class Site(BoundSite):
    """A place that emits spans of one name. Made by `Emitter.site`.

    A value that is None is absent. One of a type that its attribute does not take raises TypeError, naming it. One of
    the right type that does not fit (a number out of range, an unknown label, too many bytes) is left out and counted
    in `EmitterStats.invalid_values`, and the first of a site is warned about; a start that does not fit becomes the
    end, such an end is now. RINGBUF_STRICT=1 in the environment makes them raise ValueError, for tests.

    >>> import tempfile, ringbuf
    >>> layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
    >>> with tempfile.TemporaryDirectory() as directory, ringbuf.Emitter("kv", ring_dir=directory, layout=layout) as e:
    ...     get = e.site("get", kind=ringbuf.SpanKind.SERVER, varying=["bytes"])
    ...     get.emit(1, 2, 4096)
    ...     get.emit(1, 2, None, status=ringbuf.Status.ERROR)
    ...     with get.span() as span:
    ...         span["bytes"] = 512
    True
    True
    """

    __slots__ = ()

    def __new__(
        cls,
        emitter: ProcessRing,
        name: str,
        constants: Mapping[str, object],
        varying: Sequence[str],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Self:
        """Bind what is constant; the arguments are those of `Emitter.site`."""
        given = _varying_fields(emitter, constants, varying)
        by_name = _fields_by_name(emitter, constants, varying)
        values = (
            *(Argument.of_field(field) for field in given),
            *(
                Argument.of_field(
                    field, PARTS if field.attribute.type == "otlp" else None, required=False, is_keyword=True
                )
                for field in by_name
            ),
            STATUS,
        )
        record = pack_constants(emitter.layout, name, constants, kind=kind)
        attributes = {field.attribute.key: field.attribute for field in (*given, *by_name)}
        is_said = any(value.name in (ERROR_TYPE, ERROR_MESSAGE, PARTS) for value in values)
        failure = Failure(values, attributes) if is_said else None
        origin = (cls, (emitter, name, dict(constants), tuple(varying), member_of(SpanKind, "kind", kind)))
        convert = _converter((*given, *by_name))
        return cls.bind(emitter, name, record, (START, END, *values), failure, convert, SiteSpan, origin)

    if TYPE_CHECKING:  # the base class has them, for any arguments

        def emit(
            self,
            start_unix_nano: int,
            end_unix_nano: int | None = None,
            /,
            *values: Value,
            status: Status | None = None,
        ) -> bool:
            """Write a span under the enclosing `with` span, or a root, and return whether it was written.

            Args:
                start_unix_nano: nanoseconds since 1970, as `ringbuf.unix_nano` gives them.
                end_unix_nano: the same; None, or left out: now.
                values: of the attributes that the site has as `varying`, in their order.
                status: None: UNSET, or ERROR where a label says so.
            """
            ...

        def emit_under(
            self,
            parent: Span | Parent | str | None,
            start_unix_nano: int,
            end_unix_nano: int | None = None,
            /,
            *values: Value,
            status: Status | None = None,
        ) -> bool:
            """Do what `emit` does under a given parent.

            Args:
                parent: another span, a `traceparent` header (an invalid one starts a new trace, as W3C has it), or None
                    for a root.
                start_unix_nano: as for `emit`, and so are the others.
                end_unix_nano: the same.
                values: the same.
                status: the same.
            """
            ...

        def span(self, *values: Value, traceparent: Parent | str | None = None) -> SiteSpan:
            """Return a span for a `with` block: it times the block, and writes itself at the end.

            An `Exception` that passes, other than the end of an iteration, makes its status ERROR, and sets
            `error.type` and `error.message` where the layout has them and the block has not; but a status that was set
            to OK is final. The end of a block raises nothing of its own: what is of a wrong type is left out, too.

            Args:
                values: of the first of the varying attributes; the others are absent until they are set.
                traceparent: the header of the caller in another process, which becomes the parent; None: the enclosing
                    span is, if any.
            """
            ...

    else:
        emit = described(
            "emit",
            "emit($self, start_unix_nano, end_unix_nano=None, /, *values, status=None)\n--\n\n"
            "Write a span under the enclosing `with` span, or a root, and return whether it was written.\n\n"
            "Args:\n"
            "    start_unix_nano: nanoseconds since 1970, as `ringbuf.unix_nano` gives them.\n"
            "    end_unix_nano: the same; None, or left out: now.\n"
            "    values: of the attributes that the site has as `varying`, in their order; None: absent.\n"
            "    status: a `ringbuf.Status`; None: UNSET, or ERROR where a label says so.",
        )
        emit_under = described(
            "emit_under",
            "emit_under($self, parent, start_unix_nano, end_unix_nano=None, /, *values, status=None)\n--\n\n"
            "Do what `emit` does under a given parent: a span, a `traceparent` header, or None for a root.\n\n"
            "Args:\n"
            "    parent: of an invalid header a new trace begins.\n"
            "    start_unix_nano: as for `emit`, and so are the others.",
        )
        span = described(
            "span",
            "span($self, /, *values, traceparent=None)\n--\n\n"
            "Return a span for a `with` block: it times the block, and writes itself at the end.\n\n"
            "Args:\n"
            "    values: of the first of the varying attributes; the others are set as `span[key] = value`.\n"
            "    traceparent: the header of the caller in another process, which becomes the parent.",
        )

    def wrap(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Decorate a function so that each call runs in a span of this site.

        It may be a coroutine function, a generator function or an asynchronous one, too. The span of a generator lasts
        from its first step to its end, and encloses what its body does, not what is done between the steps. What
        becomes known inside is set by `ringbuf.current_span()`.

        Raises:
            TypeError: it is no function.

        >>> import ringbuf, ringbuf.testing
        >>> layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
        >>> emitter = ringbuf.testing.InMemoryEmitter(layout=layout)
        >>> @emitter.site("get", varying=["bytes"]).wrap
        ... def get(key):
        ...     ringbuf.current_span()["bytes"] = 512
        >>> get("k")
        >>> emitter.finished_spans()[0]["attributes"]
        {'bytes': 512}
        >>> emitter.close()
        """
        from ringbuf.sites.wrap import wrapped  # noqa: PLC0415 - inspect, 10 ms, which a program without decorators does not pay

        return wrapped(self.span, function)


def _fields_by_name(
    emitter: ProcessRing, constants: Mapping[str, object], varying: Sequence[str]
) -> tuple[LayoutField, ...]:
    """Return what every site's spans may set, whether it says so or not: what went wrong, events and links."""
    return tuple(
        field
        for field in emitter.layout.fields
        if (field.attribute.key in (ERROR_TYPE, ERROR_MESSAGE) or field.attribute.type == "otlp")
        and field.attribute.key not in constants
        and field.attribute.key not in varying
    )


def _varying_fields(
    emitter: ProcessRing, constants: Mapping[str, object], varying: Sequence[str]
) -> tuple[LayoutField, ...]:
    if isinstance(varying, str):
        raise TypeError(f"varying is a sequence of keys, not {varying!r}")
    layout = emitter.layout
    fields = tuple(layout.fields[layout.index(key)] for key in varying)
    for position, key in enumerate(varying):
        if key in constants:
            raise ValueError(f"attribute {key!r} is both constant and varying")
        if key in varying[:position]:
            raise ValueError(f"varying: attribute {key!r} is there twice")
    return fields


def _converter(fields: tuple[LayoutField, ...]) -> Callable[[int, Any], tuple[bytes, bool]]:
    def convert(index: int, value: Any) -> tuple[bytes, bool]:
        if index < _TIMES:
            return pack_time((START, END)[index].name, value), False
        if index == _TIMES + len(fields):
            return bytes((member_of(Status, "status", value),)), False
        field = fields[index - _TIMES]
        if isinstance(value, SpanParts):
            data, cut = value.encoded(field.attribute.size or 0)
            return pack_value(field, data)[0], cut
        return pack_value(field, value)

    return convert
