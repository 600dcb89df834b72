"""The arguments of a site's `emit`: what C needs to know of each to put it into the record."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.value import integer, shown
from ringbuf.status import Status

if TYPE_CHECKING:
    from ringbuf.layout.attribute import Attribute, LayoutField

__all__ = ["END", "START", "STATUS", "Argument", "pack_time", "u64"]

_VALUE, _START, _END, _NAME, _STATUS = range(5)  # enum rb_role
_MAX_U64: Final = 2**64 - 1


class Argument(NamedTuple):
    """One argument of `emit`: rb_argument of csrc/python/site.h, field by field.

    Attributes:
        name: as a keyword argument, and as `span[name]`.
        role: a value, the start, the end, the span's name or its status.
        kind: of value, enum rb_type of ringbuf.h.
        offset: bytes, in the record.
        nbytes: bytes, in the record.
        present: its bit of rb_record.present, shifted; 0 for a time.
        only: the one type whose instances C takes, None: the built-in one. All else is asked of Python.
        labels: of a label: index by string; of the name: what stands for each span name, in their order.
        statuses: of a label: OTLP status code by index, 0 where it has no say; None: none has.
        names: of a label: the index of the span name that it goes with, by its own index; None: with any.
        required: whether `emit` demands it.
        takes_none: whether None stands for an absent value, or an end for now.
        in_order: of the end: whether C refuses one before the start.
        is_keyword: whether it is given by its name alone; such arguments are the last.
        takes_forms: whether C takes an id of 16 bytes as bytes, an int, hex digits or a UUID, beside `only`.
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
    is_keyword: bool = False
    takes_forms: bool = False

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
        is_keyword: bool = False,
    ) -> Self:
        """Return the argument for an attribute's value; its name is the attribute's key unless another is given.

        Without `statuses` the labels have the say that the attribute's `error_labels` give them.
        """
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
            statuses if statuses is not None else _statuses_of(field.attribute),
            names,
            required,
            takes_none,
            is_keyword=is_keyword,
        )

    @classmethod
    def of_name(cls, name: str, members: tuple[object, ...]) -> Self:
        """Return the argument that says the span's name: one of `members`, which stand for the layout's names."""
        return cls(name, _NAME, 0, 0, 0, 0, None, members, None, None, required=True, takes_none=False)


def _time(name: str, role: int, *, takes_none: bool) -> Argument:
    offset = ffi.offsetof("rb_record", name)
    return Argument(name, role, lib.RB_TYPE_U64, offset, 8, 0, None, None, None, None, not takes_none, takes_none)


def _statuses_of(attribute: Attribute) -> bytes | None:
    if not attribute.error_labels:
        return None
    return bytes(Status.ERROR if label in attribute.error_labels else 0 for label in attribute.labels or ())


START: Final = _time("start_unix_nano", _START, takes_none=False)
END: Final = _time("end_unix_nano", _END, takes_none=True)
STATUS: Final = Argument(
    "status", _STATUS, lib.RB_TYPE_U8, ffi.offsetof("rb_record", "status"), 1, 0, None, None, None, None,
    required=False, takes_none=True, is_keyword=True,
)  # fmt: skip


def u64(name: str, value: Any) -> int:
    """Return the int that a value stands for.

    Raises:
        TypeError, ValueError: it is no int, or not of 64 bits; both name it.
    """
    number = integer(name, value)
    if not 0 <= number <= _MAX_U64:
        raise ValueError(f"{name}: {shown(value)} does not fit an unsigned 64-bit integer")
    return number


def pack_time(name: str, value: Any) -> bytes:
    """Return a time as it lies in the record; raises as `u64`."""
    return struct.pack("<Q", u64(name, value))
