"""Events, links and the status message out of the `otlp` attribute of a record, for tests to look at.

Source: protobuf, "Encoding"; opentelemetry-proto, trace.proto and common.proto.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Event", "Link", "Parts", "parts_of"]

_INT64_SIGN: Final = 1 << 63
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class Event(TypedDict):
    """An event: its name, nanoseconds since 1970, and attributes."""

    name: str
    time_unix_nano: int
    attributes: dict[str, Any]


class Link(TypedDict):
    """A link: 32 and 16 hex digits, and attributes."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class Parts(TypedDict):
    """What an `otlp` attribute adds to a span."""

    events: list[Event]
    links: list[Link]
    status_description: str


def parts_of(otlp: bytes) -> Parts:
    """Return what is in the bytes of an `otlp` attribute that this package has written."""
    parts: Parts = {"events": [], "links": [], "status_description": ""}
    for number, value in _fields(otlp):
        if number == 11:  # noqa: PLR2004 - Span.events
            found = dict(_fields(value))
            event: Event = {
                "name": found.get(2, b"").decode(),
                "time_unix_nano": found.get(1, 0),
                "attributes": _attributes(value, 3),
            }
            parts["events"].append(event)
        elif number == 13:  # noqa: PLR2004 - Span.links
            found = dict(_fields(value))
            link: Link = {"trace_id": found[1].hex(), "span_id": found[2].hex(), "attributes": _attributes(value, 4)}
            parts["links"].append(link)
        elif number == 15:  # noqa: PLR2004 - Span.status
            parts["status_description"] = dict(_fields(value)).get(2, b"").decode()
    return parts


def _attributes(message: bytes, number: int) -> dict[str, Any]:
    pairs = (dict(_fields(value)) for one, value in _fields(message) if one == number)
    return {pair[1].decode(): _any_value(pair.get(2, b"")) for pair in pairs}


def _any_value(message: bytes) -> Any:  # noqa: PLR0911 - one for each kind of AnyValue
    for number, value in _fields(message):
        match number:
            case 1:
                return value.decode()
            case 2:
                return bool(value)
            case 3:
                return value - 2 * (value & _INT64_SIGN)
            case 4:
                return struct.unpack("<d", struct.pack("<Q", value))[0]
            case 5:
                return [_any_value(item) for _, item in _fields(value)]
            case 6:
                return _attributes(value, 1)
            case _:
                return value
    return None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and value of each field: an int, or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: int | bytes
        match key & 7:
            case wire if wire == _VARINT:
                value, at = _varint(message, at)
            case wire if wire == _BYTES:
                length, at = _varint(message, at)
                value, at = message[at : at + length], at + length
            case wire:
                size = {_FIXED64: 8, _FIXED32: 4}[wire]
                value, at = int.from_bytes(message[at : at + size], "little"), at + size
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:  # noqa: PLR2004 - the last of a number has no more to follow
            return value, at
