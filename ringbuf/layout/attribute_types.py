"""The types that an attribute may have: one row each, from which all the rest of the Python code follows.

What a new type takes beside its row: `enum rb_type` in csrc/ringbuf.h, and where the encoder writes it, csrc/otlp; of a
`Shape` that is new, a case where shapes are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from ringbuf._ringbuf import lib

AttributeType = Literal[
    "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f64", "label", "hex", "str", "bytes", "otlp", "scope"
]

LENGTH_BYTES: Final = 2  # the u16 before the data of what is inline


class Shape(Enum):
    """How a value lies in a record."""

    NUMBER = "one number of a fixed format"
    LABEL = "the index of a label, a u8 or u16"
    EXACT = "exactly `size` bytes"
    INLINE = "a u16 length, then room for `size` bytes"


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What the code knows of a type.

    Attributes:
        code: enum rb_type of ringbuf.h.
        shape: how a value lies in a record.
        python: what a value is read as; of a NUMBER or INLINE what it may be given as, too.
        format: of a NUMBER: as `struct` and numpy have it, without the byte order.
        c_type: in a C header, of the value or of its elements; of a label an enumeration stands for it.
        column: of a table of spans: `bool`, `i8` to `u64`, `f64`, `str` or `bytes`; "": it is no column.
        is_cut: of what is INLINE: whether a longer value is cut to its size, instead of being refused.
        is_carried: whether it is OTLP, which becomes parts of the span or its scope and no attribute.
        is_bounded: whether its number of values is, so that metrics may carry it.
    """

    code: int
    shape: Shape
    python: type
    format: str = ""
    c_type: str = ""
    column: str = ""
    is_cut: bool = False
    is_carried: bool = False
    is_bounded: bool = False


def _integer(name: str, code: int, format_: str) -> TypeRow:
    c_type = f"{'u' if name[0] == 'u' else ''}int{name[1:]}_t"
    return TypeRow(code, Shape.NUMBER, int, format_, c_type, name)


TYPES: Final[dict[str, TypeRow]] = {
    "bool": TypeRow(lib.RB_TYPE_BOOL, Shape.NUMBER, bool, "?", "bool", "bool", is_bounded=True),
    "i8": _integer("i8", lib.RB_TYPE_I8, "b"),
    "i16": _integer("i16", lib.RB_TYPE_I16, "h"),
    "i32": _integer("i32", lib.RB_TYPE_I32, "i"),
    "i64": _integer("i64", lib.RB_TYPE_I64, "q"),
    "u8": _integer("u8", lib.RB_TYPE_U8, "B"),
    "u16": _integer("u16", lib.RB_TYPE_U16, "H"),
    "u32": _integer("u32", lib.RB_TYPE_U32, "I"),
    "u64": _integer("u64", lib.RB_TYPE_U64, "Q"),
    "f64": TypeRow(lib.RB_TYPE_F64, Shape.NUMBER, float, "d", "double", "f64"),
    "label": TypeRow(lib.RB_TYPE_LABEL, Shape.LABEL, str, column="str", is_bounded=True),
    "hex": TypeRow(lib.RB_TYPE_HEX, Shape.EXACT, str, c_type="uint8_t", column="str"),
    "str": TypeRow(lib.RB_TYPE_STR, Shape.INLINE, str, c_type="char", column="str", is_cut=True),
    "bytes": TypeRow(lib.RB_TYPE_BYTES, Shape.INLINE, bytes, c_type="char", column="bytes", is_cut=True),
    "otlp": TypeRow(lib.RB_TYPE_OTLP, Shape.INLINE, bytes, c_type="char", is_carried=True),
    "scope": TypeRow(lib.RB_TYPE_SCOPE, Shape.INLINE, bytes, c_type="char", is_carried=True),
}
