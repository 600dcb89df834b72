"""Which OTLP a record may carry in its `otlp` and `scope`, readably: the reference of csrc/otlp/fields.c.

Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding"; RB_TYPE_OTLP in ringbuf.h.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_DEPTH: Final = 16
"""An AnyValue may lie in at most one less than so many others."""


class _Field(NamedTuple):
    wire_type: int
    kind: str
    is_list: bool = False


_TEXT: Final = _Field(2, "text")
_BYTES: Final = _Field(2, "bytes")
_TRACE_ID: Final = _Field(2, "16 bytes")
_SPAN_ID: Final = _Field(2, "8 bytes")
_VARINT: Final = _Field(0, "varint")
_UINT32: Final = _Field(0, "uint32")
_EIGHT: Final = _Field(1, "eight")
_FOUR: Final = _Field(5, "four")
_ATTRIBUTES: Final = _Field(2, "KeyValue", is_list=True)

_MESSAGES: Final[dict[str, dict[int, _Field]]] = {
    "Span": {
        3: _TEXT,  # trace_state
        5: _TEXT,  # name
        9: _ATTRIBUTES,
        10: _UINT32,
        11: _Field(2, "Event", is_list=True),
        12: _UINT32,
        13: _Field(2, "Link", is_list=True),
        14: _UINT32,
        15: _Field(2, "Status"),
    },
    "ScopeSpans": {1: _Field(2, "InstrumentationScope"), 3: _TEXT},
    "InstrumentationScope": {1: _TEXT, 2: _TEXT, 3: _ATTRIBUTES, 4: _UINT32},
    "KeyValue": {1: _TEXT, 2: _Field(2, "AnyValue")},
    "AnyValue": {
        1: _TEXT,
        2: _VARINT,  # bool
        3: _VARINT,  # int64
        4: _EIGHT,  # double
        5: _Field(2, "ArrayValue"),
        6: _Field(2, "KeyValueList"),
        7: _BYTES,
    },
    "ArrayValue": {1: _Field(2, "AnyValue", is_list=True)},
    "KeyValueList": {1: _ATTRIBUTES},
    "Event": {1: _EIGHT, 2: _TEXT, 3: _ATTRIBUTES, 4: _UINT32},
    "Link": {1: _TRACE_ID, 2: _SPAN_ID, 3: _TEXT, 4: _ATTRIBUTES, 5: _UINT32, 6: _FOUR},
    "Status": {2: _TEXT},
}
_FIXED_BYTES: Final = {1: 8, 5: 4}
_MORE: Final = 0x80
_MAX_UINT32: Final = (1 << 32) - 1


def checked_fields(message: str, data: bytes, depth: int = 0) -> list[int]:
    """Return the numbers of the fields that a sound message has, in their order.

    Args:
        message: "Span" for the value of an `otlp`, "ScopeSpans" for that of a `scope`.
        data: the value.
        depth: how many AnyValues lie around it, itself included.

    Raises:
        ValueError: it is not sound.
    """
    if depth > MAX_DEPTH:
        raise ValueError("an AnyValue nested too deeply")
    numbers: list[int] = []
    at = 0
    while at < len(data):
        number, wire_type = data[at] >> 3, data[at] & 7
        field = _MESSAGES[message].get(number)
        if field is None or field.wire_type != wire_type:
            raise ValueError(f"{message} has no field {number} of wire type {wire_type} here")
        if numbers and (number < numbers[-1] or (number == numbers[-1] and not field.is_list)):
            raise ValueError(f"{message}: field {number} comes after {numbers[-1]}")
        numbers.append(number)
        at = _end_of_value(field, data, at + 1, depth)
    if message == "AnyValue" and len(numbers) > 1:
        raise ValueError("an AnyValue of several values")
    if message == "Link" and numbers[:2] != [1, 2]:
        raise ValueError("a link without both ids")
    return numbers


def _end_of_value(field: _Field, data: bytes, at: int, depth: int) -> int:
    if field.wire_type in _FIXED_BYTES:
        end = at + _FIXED_BYTES[field.wire_type]
        if end > len(data):
            raise ValueError("a number that is cut")
        return end
    number, at = _varint(data, at)
    if field.wire_type == 0:
        if field.kind == "uint32" and number > _MAX_UINT32:
            raise ValueError(f"{number} where 32 bits are")
        return at
    content = data[at : at + number]
    if len(content) != number:
        raise ValueError("a length beyond the end")
    if field.kind == "text":
        content.decode()  # UnicodeDecodeError is a ValueError
    elif field.kind in ("16 bytes", "8 bytes"):
        if f"{number} bytes" != field.kind:
            raise ValueError(f"an id of {number} bytes")
    elif field.kind in _MESSAGES:
        checked_fields(field.kind, content, depth + (field.kind == "AnyValue"))
    return at + number


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("a varint that is cut")
        byte = data[at]
        number |= (byte & _MORE - 1) << shift
        if number >> 64:
            raise ValueError("a varint of more than 64 bits")
        at, shift = at + 1, shift + 7
        if byte < _MORE:
            return number, at
