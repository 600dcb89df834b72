"""Packs what all spans of a site share into a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringbuf._ringbuf import ffi
from ringbuf.layout.value import pack_value, shown, unpack_value
from ringbuf.status import SpanKind, Status, member_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringbuf.layout.layout import SpanLayout


def pack_constants(
    layout: SpanLayout, name: str, constants: Mapping[str, object], *, kind: object = SpanKind.INTERNAL
) -> bytes:
    """Return a whole record with what every span of a site shares: name, kind, constants and their bits of `present`.

    The status is ERROR where a constant is one of its `error_labels`. Ids, times, flags and the other attributes are
    zero; so is a constant that is None.

    Raises:
        TypeError: Naming the constant that is of a type that its attribute does not take.
        ValueError: Naming the span name, kind or constant that there is not, or the constant whose value does not fit.
            One that is too long is refused and not cut: the cut could not be counted with each span.
    """
    span_kind = member_of(SpanKind, "kind", kind)
    record = bytearray(layout.slot_bytes)
    present, status = 0, Status.UNSET
    for key, value in constants.items():
        field = layout.fields[layout.index(key)]
        if value is not None:
            packed, cut = pack_value(field, value)
            if cut:
                raise ValueError(f"{key}: {shown(value)} is longer than {field.attribute.size} bytes")
            record[field.offset : field.offset + field.nbytes] = packed
            present |= 1 << field.index
            if field.attribute.error_labels and unpack_value(field, bytes(record)) in field.attribute.error_labels:
                status = Status.ERROR
    core = ffi.new("rb_record *")
    core.present, core.name, core.kind, core.status = present, layout.name_index(name), span_kind, status
    record[: ffi.sizeof("rb_record")] = ffi.buffer(core)
    return bytes(record)
