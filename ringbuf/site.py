"""Site: a place that emits spans of any layout, with everything constant bound once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf import _site
from ringbuf.argument import END, START, Argument, pack_time
from ringbuf.layout.packing import pack_constants
from ringbuf.layout.value import pack_value
from ringbuf.refusal import Refusals
from ringbuf.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ringbuf.emitter import Emitter
    from ringbuf.layout.attribute import LayoutField

__all__ = ["Site", "SiteSpan"]

_TIMES: Final = 2  # arguments before the values


class SiteSpan(Span):
    """A span of a `Site`: set what becomes known inside the block as `span[key] = value`; checked when it ends."""

    __slots__ = ()


class Site(_site.Site):
    """A place that emits spans of one name. Made by `Emitter.site`.

    `emit(start_unix_nano, end_unix_nano, *values) -> bool` writes a span under the enclosing `with` span, or a root,
    and returns whether it was written. None as the end: now. None as a value: the attribute is absent. Raises
    TypeError, naming the attribute, for a value of a type that it does not take. One of the right type that does not
    fit (a number out of range, an unknown label, too many bytes) is left out and counted in
    `EmitterStats.invalid_values`, and the first of a site is warned about; a start that does not fit becomes the end,
    such an end is now. RINGBUF_STRICT=1 in the environment makes them raise ValueError, for tests.

    `emit_under(parent, start_unix_nano, end_unix_nano, *values)` does the same under a given parent: another span, a
    `traceparent` header (an invalid one starts a new trace, as W3C has it), or None for a root.

    `span(*values, traceparent=None)` returns a span for a `with` block; an `Exception` that passes, other than the
    end of an iteration, makes its status ERROR. Values that are missing are absent until they are set as
    `span[key] = value`. The end of a block raises nothing of its own: what is of a wrong type is left out, too.

    >>> import tempfile, ringbuf
    >>> layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
    >>> with tempfile.TemporaryDirectory() as directory, ringbuf.Emitter("kv", ring_dir=directory, layout=layout) as e:
    ...     get = e.site("get", varying=["bytes"])
    ...     get.emit(1, 2, 4096)
    ...     with get.span() as span:
    ...         span["bytes"] = 512
    True
    """

    __slots__ = ()

    def __new__(cls, emitter: Emitter, name: str, constants: Mapping[str, object], varying: Sequence[str]) -> Self:
        """Bind what is constant; the arguments are those of `Emitter.site`."""
        fields = _varying_fields(emitter, constants, varying)
        arguments = (START, END, *(Argument.of_field(field) for field in fields))
        record = pack_constants(emitter.layout, name, constants)
        origin = (cls, (emitter, name, dict(constants), tuple(varying)))
        return cls.bind(emitter, name, record, arguments, None, _converter(fields), SiteSpan, origin)

    @classmethod
    def bind(
        cls,
        emitter: Emitter,
        name: str,
        record: bytes,
        arguments: tuple[Argument, ...],
        failure: tuple[int, int, object] | None,
        convert: Callable[[int, Any], tuple[bytes, bool]],
        span_type: type[Span],
        origin: tuple[Callable[..., Any], tuple[Any, ...]],
    ) -> Self:
        """Make the site from its parts, those of `Site` in csrc/python/site.c.

        Args:
            emitter: whose ring it writes to.
            name: of its spans, for people.
            record: a whole record with what all its spans share.
            arguments: those of `emit`, in their order.
            failure: what an exception makes of an argument: its index, the index of the label, the value.
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


def _varying_fields(
    emitter: Emitter, constants: Mapping[str, object], varying: Sequence[str]
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
        return pack_value(fields[index - _TIMES], value)

    return convert
