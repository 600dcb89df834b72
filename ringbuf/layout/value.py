"""One attribute value: between Python and its bytes in a record.

What a value may be, by its attribute's type:

    any type    None: absent
    bool        a bool, or numpy's
    i8 to u64   an int in range, or what stands for one (numpy's integers, an IntEnum's member); not a bool
    f64         a float or int, or what has a float value (numpy's, a Decimal); not a bool, not a str
    label       one of the labels (as a StrEnum's member is), or its index (as an IntEnum's member may be)
    hex         bytes, bytearray or memoryview, exactly `size` bytes
    str         a str; beyond `size` bytes of UTF-8 it is cut after the last character that fits whole; a lone
                surrogate becomes a question mark
    bytes       bytes, bytearray or memoryview; cut beyond `size`
    otlp, scope the same, but not cut: half a message is none
"""

from __future__ import annotations

import operator
import reprlib
import struct
import sys
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeAlias

from ringbuf.layout.attribute_types import Shape
from ringbuf.wording import counted, some

if TYPE_CHECKING:
    from ringbuf.layout.attribute import LayoutField


Value: TypeAlias = bool | int | float | str | bytes | bytearray | memoryview | SupportsIndex | SupportsFloat | None
"""What stands for the value of an attribute; of which type it may be, the attribute's says."""


def pack_value(field: LayoutField, value: Any) -> tuple[bytes, bool]:
    """Return a value as it lies in the record, and whether it was cut; zeros for None.

    Raises:
        TypeError: Naming the attribute, when the value is of a type that it does not take.
        ValueError: Naming the attribute, when the value is out of its range, of another length or no label.
    """
    key, size = field.attribute.key, field.attribute.size or 0
    if value is None:
        return bytes(field.nbytes), False
    row = field.attribute.row
    match row.shape:
        case Shape.NUMBER:
            return _pack_number(field, value), False
        case Shape.LABEL:
            return struct.pack("<" + field.format, label_index(field, value)), False
        case Shape.EXACT:
            content = _bytes(key, value)
            if len(content) != size:
                raise ValueError(f"{key}: {counted(len(content), 'byte')}, where it takes exactly {size}")
            return content, False
        case Shape.INLINE:
            content = _text(key, value) if row.python is str else _bytes(key, value)
            if len(content) > size and not row.is_cut:
                raise ValueError(f"{key}: {counted(len(content), 'byte')}, where it takes at most {size}")
            kept = cut_utf8(content, size) if row.python is str else content[:size]
            return struct.pack("<" + field.format, len(kept), kept), len(kept) < len(content)


def unpack_value(field: LayoutField, record: bytes) -> bool | int | float | str | bytes:
    """Return a value as OTLP has it: a label is its string, a `hex` its digits; an `otlp` or `scope` is its bytes.

    Raises:
        ValueError: Naming the attribute, when its label or length is out of bounds.
    """
    first, *data = struct.unpack_from("<" + field.format, record, field.offset)
    key = field.attribute.key
    row = field.attribute.row
    value: bool | int | float | str | bytes = first
    match row.shape:
        case Shape.NUMBER:
            pass
        case Shape.LABEL:
            labels = field.attribute.labels or ()
            if first >= len(labels):
                raise ValueError(f"{key}: label {first} of {len(labels)}")
            value = labels[first]
        case Shape.EXACT:
            value = first.hex()
        case Shape.INLINE:
            if first > len(data[0]):
                raise ValueError(f"{key}: length {first}, where at most {len(data[0])} bytes fit")
            value = data[0][:first].decode(errors="replace") if row.python is str else data[0][:first]
    return value


def label_index(field: LayoutField, value: Any) -> int:
    """Return the index of a label that is given as one of the labels or as the index itself.

    Raises:
        TypeError: Naming the attribute, when the value is neither str nor int.
        ValueError: Naming the attribute, when there is no such label.
    """
    key, labels = field.attribute.key, field.attribute.labels or ()
    if isinstance(value, str):
        try:
            return labels.index(str.__str__(value))
        except ValueError:
            raise ValueError(f"{key}: {shown(value)} is none of its labels, {some(labels)}") from None
    index = integer(key, value)
    if not 0 <= index < len(labels):
        raise ValueError(f"{key}: there is no label {shown(index)}; it has {len(labels)}")
    return index


def cut_utf8(text: bytes, size: int) -> bytes:
    """Return the longest prefix of UTF-8 text that has at most `size` bytes and ends with a whole character.

    >>> cut_utf8("naïve".encode(), 3)
    b'na'
    """
    if len(text) <= size:
        return text
    while size > 0 and text[size] & 0b11000000 == 0b10000000:  # noqa: PLR2004 - a byte that goes on a character
        size -= 1
    return text[:size]


def shown(value: object) -> str:
    """Return a value as an error message has it: of bounded length, since a value may be as long as a span's text."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "an int of very many digits"


def integer(name: str, value: Any) -> int:
    """Return the int that `value` stands for.

    Raises:
        TypeError: With the name, when it is a bool or stands for none.
    """
    if type(value) is not bool:
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name}: {shown(value)} is no int")


def _pack_number(field: LayoutField, value: Any) -> bytes:
    key, kind, wanted = field.attribute.key, field.attribute.type, field.attribute.row.python
    number = value
    if wanted is int:
        number = integer(key, value)
    elif _is_bool(value) != (wanted is bool):
        raise TypeError(f"{key}: {shown(value)} is no {kind}")
    try:
        return struct.pack("<" + field.format, number)
    except (OverflowError, struct.error):
        if wanted is float and not hasattr(value, "__float__"):  # float() would take a str
            raise TypeError(f"{key}: {shown(value)} is no {kind}") from None
        raise ValueError(f"{key}: {shown(value)} is out of the range of {kind}") from None


def _is_bool(value: object) -> bool:
    if type(value) is bool:
        return True
    numpy = sys.modules.get("numpy")  # who has no numpy has none of its values either
    return numpy is not None and isinstance(value, numpy.bool_)


def _text(key: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{key}: {shown(value)} is no str")
    return str.encode(value, errors="replace")


def _bytes(key: str, value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{key}: {shown(value)} is no bytes")
    return bytes(value)
