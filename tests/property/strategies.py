"""Hypothesis strategies: layouts, values that fit their attributes, and records that have them.

    @given(layouts().flatmap(lambda layout: st.tuples(st.just(layout), records_for(layout))))

or, with a layout drawn first, `data.draw(records_for(layout))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from hypothesis import strategies as st

from ringbuf.layout.attribute_types import TYPES, Shape
from ringbuf.layout.layout import CORE_OFFSETS, Attribute, AttributeType, SpanLayout
from tests.property.otlp_values import sound_values

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_TYPES: tuple[AttributeType, ...] = get_args(AttributeType)
INTEGER_TYPES = tuple(kind for kind, row in TYPES.items() if row.shape is Shape.NUMBER and row.python is int)
CARRIED: tuple[AttributeType, ...] = ("otlp", "scope")
MAX_LAYOUT_SIZE = 200  # 32 attributes of it stay below the largest slot

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = text.filter(bool)
keys = names.filter(lambda key: key not in CORE_OFFSETS)
# Wide enough for every length in UTF-8, at every place of a character.
wide_text = st.text(st.sampled_from("az\0é߿€￿𝄞\U0010ffff"), max_size=2 * MAX_LAYOUT_SIZE)
nonzero_ids = {size: st.binary(min_size=size, max_size=size).filter(any) for size in (8, 16)}
u64 = st.integers(0, 2**64 - 1)
# Those that a round trip keeps equal to themselves.
floats = st.floats(allow_nan=False)


def attributes(
    types: tuple[AttributeType, ...] = ALL_TYPES, *, max_size: int = MAX_LAYOUT_SIZE
) -> st.SearchStrategy[Attribute]:
    """Return attributes of these types; labels of more than 256 come rarely, since they are slow to make."""

    def of_type(kind: AttributeType) -> st.SearchStrategy[Attribute]:
        size: st.SearchStrategy[int | None] = st.none()
        labels: st.SearchStrategy[Any] = st.none()
        if TYPES[kind].shape in (Shape.EXACT, Shape.INLINE):
            size = st.integers(1, max_size)
        if kind == "label":
            few = st.lists(names, min_size=1, max_size=5, unique=True)
            many = st.integers(255, 300).map(lambda count: [f"label {index}" for index in range(count)])
            labels = st.one_of(few, few, few, many).map(tuple)
        metric_label = st.booleans() if kind in ("bool", "label") else st.just(False)
        return st.builds(Attribute, keys, st.just(kind), size, labels, metric_label)

    return st.sampled_from(types).flatmap(of_type)


def layouts(
    *,
    types: tuple[AttributeType, ...] = ALL_TYPES,
    min_attributes: int = 0,
    max_attributes: int = 8,
    max_size: int = MAX_LAYOUT_SIZE,
) -> st.SearchStrategy[SpanLayout]:
    """Return layouts with attributes of these types; `max_size` bounds each hex, str and bytes."""
    return st.builds(
        SpanLayout,
        span_names=st.lists(names, min_size=1, max_size=4, unique=True),
        attributes=st.lists(
            attributes(types, max_size=max_size),
            min_size=min_attributes,
            max_size=max_attributes,
            unique_by=(lambda attribute: attribute.key, _one_of_each_carried),
        ),
        scope_name=text,
        scope_version=text,
        schema_url=text,
        resource_schema_url=text,
    )


def _one_of_each_carried(attribute: Attribute) -> tuple[str, str]:
    return (attribute.type, "" if attribute.type in CARRIED else attribute.key)


def values_for(attribute: Attribute) -> st.SearchStrategy[Any]:
    """Return values that fit the attribute without a cut, as the scalar doors take them: a hex is bytes."""
    size = attribute.size or 0
    strategies: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "f64": floats,
        "label": st.sampled_from(attribute.labels or (None,)),
        "hex": st.binary(min_size=size, max_size=size),
        "bytes": st.binary(max_size=size),
        "str": wide_text.map(lambda value: value.encode()[:size].decode(errors="ignore")),
    }
    if attribute.type in CARRIED:
        return sound_values(attribute.type).map(lambda value: value if len(value) <= size else b"")
    if attribute.type in INTEGER_TYPES:
        return st.integers(*bounds(attribute.type))
    return strategies[attribute.type]


def bounds(kind: str) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type."""
    bits = int(kind[1:])
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)


def attribute_values_for(layout: SpanLayout) -> st.SearchStrategy[dict[str, Any]]:
    """Return values by key for any choice of the layout's attributes, the others being absent."""
    chosen = {attribute.key: values_for(attribute) for attribute in layout.attributes}
    return st.fixed_dictionaries({}, optional=chosen)


def records_for(
    layout: SpanLayout, *, min_size: int = 0, max_size: int = 6
) -> st.SearchStrategy[np.ndarray[Any, np.dtype[np.void]]]:
    """Return one-dimensional arrays of valid records: ids, name, kind, status, labels and lengths are in bounds."""
    core = st.fixed_dictionaries(
        {
            "start_unix_nano": u64,
            "end_unix_nano": u64,
            "trace_id": nonzero_ids[16],
            "span_id": nonzero_ids[8],
            "parent_span_id": st.just(bytes(8)) | nonzero_ids[8],
            "name": st.integers(0, len(layout.span_names) - 1),
            "kind": st.integers(0, 5),
            "status": st.integers(0, 2),
            "flags": st.sampled_from([0x100, 0x101, 0x103, 0x300, 0x301, 0x303]) | st.integers(0, 2**32 - 1),
        }
    )
    rows = st.lists(st.tuples(core, attribute_values_for(layout)), min_size=min_size, max_size=max_size)
    return rows.map(lambda rows: make_records(layout, rows))


def any_records_for(
    layout: SpanLayout, *, min_size: int = 0, max_size: int = 6
) -> st.SearchStrategy[np.ndarray[Any, np.dtype[np.void]]]:
    """Return arrays of arbitrary bytes, and valid records of which some bytes were changed: most are invalid."""
    size = layout.slot_bytes
    noise = st.integers(min_size, max_size).flatmap(
        lambda count: st.binary(min_size=count * size, max_size=count * size)
    )
    changes = st.lists(st.tuples(u64, st.integers(0, 255)), max_size=4)

    def change(records: np.ndarray[Any, np.dtype[np.void]], places: list[tuple[int, int]]) -> bytes:
        raw = bytearray(records.tobytes())
        for place, byte in places:
            if raw:
                raw[place % len(raw)] = byte
        return bytes(raw)

    changed = st.builds(change, records_for(layout, min_size=min_size, max_size=max_size), changes)
    return (noise | changed).map(lambda raw: np.frombuffer(bytearray(raw), layout.dtype))


def make_records(
    layout: SpanLayout, rows: list[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> np.ndarray[Any, np.dtype[np.void]]:
    """Write fields of the core and attribute values by numpy alone: nothing of the packers is used."""
    records = layout.empty(len(rows))
    for record, (core, values) in zip(records, rows, strict=True):
        for name, value in core.items():
            record[name] = np.frombuffer(value, "u1") if isinstance(value, bytes) else value
        for attribute in layout.attributes:
            if attribute.key in values:
                record["present"] |= np.uint32(1 << layout.index(attribute.key))
                write_value(record, attribute, values[attribute.key])
    return records


def write_value(record: np.void, attribute: Attribute, value: Any) -> None:
    """Store one value, as the scalar doors take it, in its field of a numpy record."""
    match attribute.type:
        case "label":
            record[attribute.key] = (attribute.labels or ()).index(value)
        case "hex":
            record[attribute.key] = np.frombuffer(value, "u1")
        case "str" | "bytes" | "otlp" | "scope":
            content = value.encode() if isinstance(value, str) else value
            record[attribute.key]["length"] = len(content)
            record[attribute.key]["data"][: len(content)] = np.frombuffer(content, "u1")
        case _:
            record[attribute.key] = value


def readable(attribute: Attribute, value: Any) -> Any:
    """Return a value that was given to a door as `SpanLayout.values` returns it."""
    return value.hex() if attribute.type == "hex" else value
