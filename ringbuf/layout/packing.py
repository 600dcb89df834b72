"""Packs what all spans of a site share into a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ringbuf._ringbuf import ffi
from ringbuf.layout.value import integer, pack_value, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringbuf.layout.layout import SpanLayout

INTERNAL: Final = 1  # OTLP SpanKind
MAX_KIND: Final = 5


def pack_constants(layout: SpanLayout, name: str, constants: Mapping[str, object], *, kind: int = INTERNAL) -> bytes:
    """Return a whole record with what every span of a site shares: name, kind, constants and their bits of `present`.

    Ids, times, status, flags and the other attributes are zero; so is a constant that is None.

    Raises:
        TypeError: Naming the constant that is of a type that its attribute does not take.
        ValueError: Naming the span name, kind or constant that there is not, or the constant whose value does not fit.
            One that is too long is refused and not cut: the cut could not be counted with each span.
    """
    if not 0 <= integer("kind", kind) <= MAX_KIND:
        raise ValueError(f"kind: {shown(kind)} is no OTLP SpanKind, 0 to {MAX_KIND}")
    record = bytearray(layout.slot_bytes)
    present = 0
    for key, value in constants.items():
        field = layout.fields[layout.index(key)]
        if value is not None:
            packed, cut = pack_value(field, value)
            if cut:
                raise ValueError(f"{key}: {shown(value)} is longer than {field.attribute.size} bytes")
            record[field.offset : field.offset + field.nbytes] = packed
            present |= 1 << field.index
    core = ffi.new("rb_record *", {"present": present, "name": layout.name_index(name), "kind": kind})
    record[: ffi.sizeof("rb_record")] = ffi.buffer(core)
    return bytes(record)
