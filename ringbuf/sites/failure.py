"""What an exception that passes a `with` block sets beside the status of its span: `error.type`, `error.message`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ringbuf.sites.exception_attributes import ERROR_MESSAGE, ERROR_TYPE, error_message, error_type
from ringbuf.sites.span_parts import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ringbuf.layout.attribute import Attribute
    from ringbuf.sites.argument import Argument
    from ringbuf.sites.span import Span

__all__ = ["OTHER", "Failure"]

OTHER: Final = "_OTHER"
"""Where `error.type` is a label: stands for the types that are none of its labels."""


class Failure:
    """Says which values of a site's span an exception sets.

    Args:
        values: the arguments that are values of the span, in its order.
        attributes: of the layout, by key.
    """

    __slots__ = ("_keys", "_labels")

    def __init__(self, values: Sequence[Argument], attributes: dict[str, Attribute]) -> None:
        self._keys = {argument.name: index for index, argument in enumerate(values)}
        found = attributes.get(ERROR_TYPE)
        self._labels = None if found is None else found.labels

    def __call__(self, span: Span, exception: object, end_unix_nano: int) -> tuple[tuple[int, object], ...]:
        """Return the values that the exception sets, by index; what the block has set itself stays.

        Args:
            span: whose block it passed.
            exception: it, or its class where there is no more.
            end_unix_nano: of the span: the event of the exception must not come after it.
        """
        found = {ERROR_TYPE: self._type_of(exception), ERROR_MESSAGE: error_message(exception)}
        values = [
            (self._keys[key], value)
            for key, value in found.items()
            if key in self._keys and value is not None and span[key] is None
        ]
        if PARTS in self._keys and isinstance(exception, BaseException):
            span.record_exception(exception, timestamp=end_unix_nano)
            values.append((self._keys[PARTS], span[PARTS]))
        return tuple(values)

    def _type_of(self, exception: object) -> str | None:
        name = error_type(exception)
        if self._labels is None or name in self._labels:
            return name
        return OTHER if OTHER in self._labels else None
