"""Packs the values of one span into bytes, for the doors that take Python values one by one (rb_emit_packed).

Packed values are `u64 start, u64 end, u32 present`, then each value as it lies in the record, one after the other:
`present` has the bits of those that are not None. All of it is little-endian and unaligned. `ringbuf/value.py` says
what a value may be.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ringbuf._ringbuf import ffi
from ringbuf.value import cut_utf8, integer, label_index, pack_value, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ringbuf.attribute import LayoutField
    from ringbuf.layout import SpanLayout

HEAD_FORMAT: Final = "<QQI"
HEAD_BYTES: Final = struct.calcsize(HEAD_FORMAT)
MAX_U64: Final = 2**64 - 1
INTERNAL: Final = 1  # OTLP SpanKind
MAX_KIND: Final = 5


class PackedField(NamedTuple):
    """Where a packed value goes: rb_field of ringbuf.h."""

    packed_offset: int
    record_offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs values of certain attributes, given in a certain order.

    Attributes:
        keys: The attributes, in the order of their values.
        fields: Their places in the packed bytes and in the record.
        packed_bytes: Bytes that `pack` returns.
        pack: `pack(start_unix_nano, end_unix_nano, *values) -> bytes`. Raises TypeError or ValueError naming the
            attribute that does not take its value.
        pack_values: `pack_values(*values) -> bytes`: the same with zero as start and end.
    """

    keys: tuple[str, ...]
    fields: tuple[PackedField, ...]
    packed_bytes: int
    pack: Callable[..., bytes]
    pack_values: Callable[..., bytes]


def compile_packer(
    layout: SpanLayout, varying: Sequence[str], *, on_cut: Callable[[int], object] | None = None
) -> Packer:
    r"""Make the packer for the attributes whose values vary where spans are emitted.

    Args:
        layout: The layout that has the attributes.
        varying: Their keys, in the order in which values will be given.
        on_cut: Called with the number of values that were cut to their size, when some of a span were.

    Raises:
        ValueError: When a key is unknown or there twice.

    >>> from ringbuf.layout import Attribute, SpanLayout
    >>> layout = SpanLayout(span_names=["read"], attributes=[Attribute("path", "str", 4), Attribute("bytes", "u16")])
    >>> packer = compile_packer(layout, ["bytes", "path"])
    >>> packer.pack(1, 2, 4096, "a")[16:]
    b'\x03\x00\x00\x00\x00\x10\x01\x00a\x00\x00\x00'
    >>> packer.pack(1, 2, 65536, None)
    Traceback (most recent call last):
    ValueError: bytes: 65536 is out of the range of u16
    """
    if isinstance(varying, str):
        raise TypeError(f"varying is a sequence of keys, not {varying!r}")
    fields = tuple(layout.fields[layout.index(key)] for key in varying)
    for position, key in enumerate(varying):
        if key in varying[:position]:
            raise ValueError(f"varying: attribute {key!r} is there twice")
    packed_fields = []
    packed_bytes = HEAD_BYTES
    for field in fields:
        packed_fields.append(PackedField(packed_bytes, field.offset, field.nbytes))
        packed_bytes += field.nbytes
    pack, pack_values = _generate(fields, on_cut)
    return Packer(tuple(varying), tuple(packed_fields), packed_bytes, pack, pack_values)


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


def pack_carefully(
    fields: Sequence[LayoutField], start: Any, end: Any, values: Sequence[Any], on_cut: Callable[[int], object] | None
) -> bytes:
    """Pack value by value: what the generated code does, and what it leaves, with an error that says what is wrong."""
    present, cuts = 0, 0
    packed = []
    for name, number in (("start_unix_nano", start), ("end_unix_nano", end)):
        if not 0 <= integer(name, number) <= MAX_U64:
            raise ValueError(f"{name}: {shown(number)} is out of the range of u64")
    for field, value in zip(fields, values, strict=True):
        part, cut = pack_value(field, value)
        packed.append(part)
        cuts += cut
        if value is not None:
            present |= 1 << field.index
    if cuts and on_cut is not None:
        on_cut(cuts)
    return struct.pack(HEAD_FORMAT, start, end, present) + b"".join(packed)


class _LabelIndices(dict[Any, int]):
    """Label to index; an index that is given itself is checked in Python."""

    def __init__(self, field: LayoutField) -> None:
        super().__init__({label: index for index, label in enumerate(field.attribute.labels or ())})
        self._field = field

    def __missing__(self, value: Any) -> int:
        return label_index(self._field, value)


def _generate(
    fields: tuple[LayoutField, ...], on_cut: Callable[[int], object] | None
) -> tuple[Callable[..., bytes], Callable[..., bytes]]:
    """Write `pack` and `pack_values` for these fields, as namedtuple and dataclass do, and compile them.

    A loop over converters takes 5 times as long: 1040 ns against 214 for a hex, a u64 and a label. Of the layout's
    texts only letters, digits and underscores get into the source.
    """
    namespace: dict[str, Any] = {
        "cut_utf8": cut_utf8,
        "encode": str.encode,
        "fields": fields,
        "on_cut": on_cut,
        "pack_all": struct.Struct(HEAD_FORMAT + "".join(field.format for field in fields)).pack,
        "pack_carefully": pack_carefully,
        "unusual": (LookupError, OverflowError, TypeError, ValueError, struct.error),
    }
    values, packed, branches = [], [], []
    for position, field in enumerate(fields):
        value = f"v{position}_" + re.sub(r"\W", "_", field.attribute.key, flags=re.ASCII)
        values.append(value)
        packed.append(f"len(p{position}), p{position}" if field.attribute.type in ("str", "bytes") else f"p{position}")
        branches.extend(_branch(field, value, f"p{position}", f"labels{position}"))
        if field.attribute.type == "label":
            namespace[f"labels{position}"] = _LabelIndices(field)
    for name, parameters, start, end in (
        ("pack", ["start", "end", *values], "start", "end"),
        ("pack_values", values, "0", "0"),
    ):
        source = [
            f"def {name}({', '.join(parameters)}):",
            f"    present = {sum(1 << field.index for field in fields)}",
            "    cuts = 0",
            "    try:",
            *("        " + line for line in branches),
            f"        packed = pack_all({', '.join([start, end, 'present', *packed])})",
            "    except unusual:",
            f"        return pack_carefully(fields, {start}, {end}, [{', '.join(values)}], on_cut)",
            "    if cuts and on_cut is not None:",
            "        on_cut(cuts)",
            "    return packed",
        ]
        exec("\n".join(source), namespace)  # noqa: S102 - made here, from what the docstring says
    return namespace["pack"], namespace["pack_values"]


def _branch(field: LayoutField, value: str, packed: str, labels: str) -> list[str]:
    """Return the lines that make `packed` of `value`; what `pack_value` would refuse raises in them."""
    kind, size = field.attribute.type, field.attribute.size
    absent = b"" if kind in ("hex", "str", "bytes") else 0
    lines = [f"if {value} is None:", f"    {packed} = {absent!r}", f"    present -= {1 << field.index}"]
    match kind:
        case "bool":
            lines += [f"elif not ({value} is True or {value} is False):", "    raise TypeError"]
        case "hex":
            lines += [f"elif len({value}) != {size}:", "    raise ValueError"]
        case "label":
            return [*lines, "else:", f"    {packed} = {labels}[{value}]"]
        case "str":
            lines += ["else:", f"    {packed} = encode({value})", f"    if len({packed}) > {size}:"]
            return [*lines, f"        {packed} = cut_utf8({packed}, {size})", "        cuts += 1"]
        case "bytes":
            lines += [f"elif type({value}) is not bytes:", "    raise TypeError"]
            lines += [f"elif len({value}) > {size}:", f"    {packed} = {value}[:{size}]", "    cuts += 1"]
        case _:
            lines += [f"elif {value} is True or {value} is False:", "    raise TypeError"]
    return [*lines, "else:", f"    {packed} = {value}"]
