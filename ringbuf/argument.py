"""The arguments of a site's `emit`: what C needs to know of each to put it into the record."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.value import integer, shown

if TYPE_CHECKING:
    from ringbuf.layout.attribute import LayoutField

__all__ = ["END", "START", "Argument", "pack_time"]

_VALUE, _START, _END, _NAME = range(4)  # enum rb_role
_MAX_U64: Final = 2**64 - 1


class Argument(NamedTuple):
    """One argument of `emit`: rb_argument of csrc/python/site.h, field by field.

    Attributes:
        name: as a keyword argument, and as `span[name]`.
        role: a value, the start, the end or the span's name.
        kind: of value, enum rb_type of ringbuf.h.
        offset: bytes, in the record.
        nbytes: bytes, in the record.
        present: its bit of rb_record.present, shifted; 0 for a time.
        only: the one type whose instances C takes, None: the built-in one. All else is asked of Python.
        labels: of a label: index by string; of the name: what stands for each span name, in their order.
        statuses: of a label: OTLP status code by index; None: the label has no say in it.
        names: of a label: the index of the span name that it goes with, by its own index; None: with any.
        required: whether `emit` demands it.
        takes_none: whether None stands for an absent value, or an end for now.
        in_order: of the end: whether C refuses one before the start.
    """

    name: str
    role: int
    kind: int
    offset: int
    nbytes: int
    present: int
    only: type | None
    labels: dict[str, int] | tuple[object, ...] | None
    statuses: bytes | None
    names: bytes | None
    required: bool
    takes_none: bool
    in_order: bool = False

    @classmethod
    def of_field(
        cls,
        field: LayoutField,
        name: str | None = None,
        *,
        only: type | None = None,
        statuses: bytes | None = None,
        names: bytes | None = None,
        required: bool = True,
        takes_none: bool = True,
    ) -> Self:
        """Return the argument for an attribute's value; its name is the attribute's key unless another is given."""
        labels = field.attribute.labels
        return cls(
            name or field.attribute.key,
            _VALUE,
            field.attribute.row.code,
            field.offset,
            field.nbytes,
            1 << field.index,
            only,
            None if labels is None else {label: index for index, label in enumerate(labels)},
            statuses,
            names,
            required,
            takes_none,
        )

    @classmethod
    def of_name(cls, name: str, members: tuple[object, ...]) -> Self:
        """Return the argument that says the span's name: one of `members`, which stand for the layout's names."""
        return cls(name, _NAME, 0, 0, 0, 0, None, members, None, None, required=True, takes_none=False)


def _time(name: str, role: int, *, takes_none: bool) -> Argument:
    offset = ffi.offsetof("rb_record", name)
    return Argument(name, role, lib.RB_TYPE_U64, offset, 8, 0, None, None, None, None, not takes_none, takes_none)


START: Final = _time("start_unix_nano", _START, takes_none=False)
END: Final = _time("end_unix_nano", _END, takes_none=True)


def pack_time(name: str, value: Any) -> bytes:
    """Return a time as it lies in the record.

    Raises:
        TypeError, ValueError: it is no int, or not of 64 bits; both name it.
    """
    if not 0 <= integer(name, value) <= _MAX_U64:
        raise ValueError(f"{name}: {shown(value)} does not fit an unsigned 64-bit integer")
    return struct.pack("<Q", value)
