"""Fields of a protobuf message as bytes, and OTLP's AnyValue made of them.

Written out by hand: a span costs a third of what the generated classes take.

Source: protobuf, "Encoding"; opentelemetry-proto, common.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

_MAX_DEPTH: Final = 16  # of values in values, as the drain takes them: RB_TYPE_OTLP
_MAX_INT64: Final = (1 << 63) - 1
_MIN_INT64: Final = -(1 << 63)
_MAX_UINT32: Final = (1 << 32) - 1
_TWO_TO_64: Final = 1 << 64
_DOUBLE: Final = struct.Struct("<cd")
_MAX_CACHED: Final = 1024

_small: Final = tuple(bytes((number,)) for number in range(128))
_keys: Final[dict[str, bytes]] = {}


def utf8(text: object) -> bytes:
    """Return a text, or what another object is as one; a lone surrogate becomes a question mark."""
    return (text if isinstance(text, str) else str(text)).encode(errors="replace")


def varint(value: int) -> bytes:
    """Return the base-128 digits of a number from 0 to 2**64 - 1."""
    digits = bytearray()
    while value >= len(_small):
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def length_delimited(tag: bytes, data: bytes) -> bytes:
    """Return a field of bytes, text or a message; an empty one, too."""
    length = len(data)
    return tag + (_small[length] if length < len(_small) else varint(length)) + data


def text_field(tag: bytes, data: bytes) -> bytes:
    """Return a field of text, and nothing for an empty one, as protobuf has it."""
    return length_delimited(tag, data) if data else b""


def count_field(tag: bytes, count: int) -> bytes:
    """Return a field of a uint32, and nothing for zero; a number beyond it is its greatest."""
    return tag + varint(min(count, _MAX_UINT32)) if count else b""


def key_value(tag: bytes, key: str, any_value: bytes) -> bytes:
    """Return a field that holds a KeyValue."""
    found = _keys.get(key)
    if found is None:
        found = text_field(b"\x0a", utf8(key))
        if len(_keys) < _MAX_CACHED:
            _keys[key] = found
    return length_delimited(tag, found + length_delimited(b"\x12", any_value))


def string_value(data: bytes) -> bytes:
    """Return the AnyValue of a text in UTF-8."""
    return length_delimited(b"\x0a", data)


def any_value(value: Any, depth: int = 1) -> bytes:  # noqa: PLR0911 - one for each kind of AnyValue
    """Return an AnyValue without tag and length; None is one without a value.

    Raises:
        TypeError: OTLP has nothing for it, or it is nested too deeply.
    """
    if isinstance(value, str):
        return length_delimited(b"\x0a", value.encode(errors="replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if _MIN_INT64 <= value <= _MAX_INT64:
            return b"\x18" + varint(value % _TWO_TO_64)
        return string_value(str(value).encode())  # as the drain has a u64 that int64 cannot hold
    if isinstance(value, float):
        return _DOUBLE.pack(b"\x21", value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return length_delimited(b"\x3a", value)
    if depth < _MAX_DEPTH and isinstance(value, Sequence):
        items = [length_delimited(b"\x0a", any_value(item, depth + 1)) for item in value]
        return length_delimited(b"\x2a", b"".join(items))
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        entries = [
            length_delimited(
                b"\x0a", text_field(b"\x0a", utf8(key)) + length_delimited(b"\x12", any_value(item, depth + 1))
            )
            for key, item in value.items()
        ]
        return length_delimited(b"\x32", b"".join(entries))
    raise TypeError(type(value).__name__)
