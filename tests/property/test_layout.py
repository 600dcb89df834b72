"""Layouts: their placement in C, cffi and numpy, their JSON, and values on their way through a record."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cffi import FFI
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import ringbuf
from ringbuf.exceptions import LayoutError
from ringbuf.layout.layout import CORE_OFFSETS, Attribute, SpanLayout
from ringbuf.layout.value import cut_utf8, pack_value
from ringbuf.sites.argument import pack_time
from tests.emitted import emitted
from tests.examples import examples
from tests.property.strategies import (
    any_records_for,
    attribute_values_for,
    attributes,
    keys,
    layouts,
    make_records,
    readable,
    records_for,
    values_for,
    wide_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def view(data: bytes) -> memoryview:
    return memoryview(data)


INLINE = ("str", "bytes", "otlp", "scope")  # a length, then data: said again, not asked of the table
C_TYPES = {"bool": "_Bool", "f64": "double", "hex": "uint8_t", "str": "uint8_t", "bytes": "uint8_t"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
anything = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(-300, 300), st.floats(), st.complex_numbers()),
    *(st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8).map(bytearray)),
    *(st.binary(max_size=8).map(view), st.lists(st.integers(0, 9), max_size=8)),
    *(st.decimals(), st.fractions(), st.integers(0, 255).map(np.uint8), st.integers(0, 99).map(np.int64)),
    *(st.floats().map(np.float64), st.floats(width=32).map(np.float32), st.booleans().map(np.bool_)),
)


@given(layouts(max_attributes=32))
def test_every_attribute_is_aligned_and_overlaps_nothing(layout: SpanLayout) -> None:
    assert_sound(layout)
    assert layout.slot_bytes - max((field.offset + field.nbytes for field in layout.fields), default=64) < 64


@given(layouts(max_attributes=32))
def test_numpy_has_the_same_offsets_and_sizes(layout: SpanLayout) -> None:
    places = {name: (dtype.itemsize, offset) for name, (dtype, offset) in fields_of(layout.dtype).items()}
    assert layout.dtype.itemsize == layout.slot_bytes
    assert {name: places.pop(name)[1] for name in CORE_OFFSETS} == CORE_OFFSETS
    assert places == {field.attribute.key: (field.nbytes, field.offset) for field in layout.fields}


@given(layouts(max_attributes=32))
def test_cffi_places_the_members_of_a_c_struct_as_the_layout_does(layout: SpanLayout) -> None:
    # In the order of their offsets, natural alignment is all that C needs to come to the same places.
    ffi = FFI()
    ffi.cdef(f"struct record {{ uint64_t core[8]; {' '.join(members(layout))} }};")
    for field in layout.fields:
        name = f"a{field.index}_length" if field.attribute.type in INLINE else f"a{field.index}"
        assert ffi.offsetof("struct record", name) == field.offset
    assert ffi.sizeof("struct record") <= layout.slot_bytes


@settings(max_examples=examples(20), phases=[Phase.generate])
@given(st.lists(layouts(max_attributes=32), min_size=20, max_size=20))
def test_the_c_compiler_places_them_there_too(c_compiler: str, some: list[SpanLayout]) -> None:
    lines = ["#include <assert.h>", "#include <ringbuf.h>"]
    for number, layout in enumerate(some):
        lines.append(f"struct r{number} {{ rb_record core; {' '.join(members(layout))} }};")
        for field in layout.fields:
            sized = field.attribute.type in INLINE
            name = f"a{field.index}_length" if sized else f"a{field.index}"
            lines.append(f"static_assert(offsetof(struct r{number}, {name}) == {field.offset}, {c_text(field)});")
            if sized:
                data = f"offsetof(struct r{number}, a{field.index}) == {field.offset + 2}"
                lines.append(f"static_assert({data}, {c_text(field)});")
            else:
                size = f"sizeof(((struct r{number} *)0)->{name}) == {field.nbytes}"
                lines.append(f"static_assert({size}, {c_text(field)});")
    command = [c_compiler, "-std=c11", "-fsyntax-only", f"-I{ringbuf.get_include()}", "-xc", "-"]
    done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@given(layouts(max_attributes=32))
def test_json_gives_the_same_layout_again(layout: SpanLayout) -> None:
    again = SpanLayout.from_json(layout.to_json())
    assert again == layout
    assert hash(again) == hash(layout)
    assert again.to_json() == layout.to_json()
    for name in ("span_names", "attributes", "scope_name", "scope_version", "schema_url", "fields", "slot_bytes"):
        assert getattr(again, name) == getattr(layout, name)
    assert again.dtype == layout.dtype


@given(st.data(), layouts())
def test_sound_offsets_of_another_writer_are_kept(data: st.DataObject, layout: SpanLayout) -> None:
    content = json.loads(layout.to_json())
    end = 64
    for index in data.draw(st.permutations(range(len(layout.fields)))):
        field = layout.fields[index]
        alignment = field.attribute.alignment
        offset = -(-end // alignment) * alignment + alignment * data.draw(st.integers(0, 9))
        content["attributes"][index]["offset"] = offset
        end = offset + field.nbytes
    content["slot_bytes"] = -(-end // 64) * 64 + 64 * data.draw(st.integers(0, 3))
    moved = SpanLayout.from_json(json.dumps(content).encode())
    assert list(moved.offsets.values()) == [entry["offset"] for entry in content["attributes"]]
    assert moved.slot_bytes == content["slot_bytes"]
    assert_sound(moved)
    values = data.draw(attribute_values_for(moved))
    assert moved.values(make_records(moved, [({}, values)])[0]) == readable_values(moved, values)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_from_json_raise_anything_but_layout_error(data: bytes) -> None:
    assert_refused_or_sound(data)


@given(st.data(), layouts())
def test_no_changed_byte_makes_from_json_raise_anything_but_layout_error(
    data: st.DataObject, layout: SpanLayout
) -> None:
    raw = bytearray(layout.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert_refused_or_sound(bytes(raw))


@given(st.data(), layouts(min_attributes=1))
def test_no_changed_member_makes_from_json_raise_anything_but_layout_error(
    data: st.DataObject, layout: SpanLayout
) -> None:
    content = json.loads(layout.to_json())
    target = data.draw(st.sampled_from([content, *content["attributes"]]))
    member = data.draw(st.sampled_from(sorted(target)))
    if data.draw(st.booleans()):
        target[member] = data.draw(json_values | st.integers(-1, 2**15))
    else:
        del target[member]
    assert_refused_or_sound(json.dumps(content).encode())


@given(st.data(), layouts())
def test_values_come_out_of_a_numpy_record_as_they_went_in(data: st.DataObject, layout: SpanLayout) -> None:
    rows = data.draw(st.lists(st.tuples(st.just({}), attribute_values_for(layout)), max_size=4))
    for record, (_, values) in zip(make_records(layout, rows), rows, strict=True):
        assert layout.values(record) == readable_values(layout, values)
        assert layout.values(record.tobytes()) == readable_values(layout, values)


@given(st.data(), layouts())
def test_packed_values_and_constants_make_the_record_that_numpy_makes(data: st.DataObject, layout: SpanLayout) -> None:
    values = data.draw(attribute_values_for(layout))
    order = data.draw(st.permutations([attribute.key for attribute in layout.attributes]))
    varying = order[: data.draw(st.integers(0, len(order)))]
    constants = {key: values.get(key) for key in order if key not in varying}
    name = data.draw(st.sampled_from(layout.span_names))
    start, end = (data.draw(st.integers(0, 2**64 - 1)) for _ in range(2))
    core = {"start_unix_nano": start, "end_unix_nano": end, "name": layout.name_index(name), "kind": 1}
    (expected,) = make_records(layout, [(core, values)])

    with emitted(layout, varying, name=name, constants=constants) as site:
        given_values = [values.get(key) for key in varying]
        for record in (site.record(start, end, *given_values), site.spanned(*given_values)):
            assert record.tobytes()[64:] == expected.tobytes()[64:]
            assert [record[member] for member in ("present", "name", "kind")] == [
                expected[member] for member in ("present", "name", "kind")
            ]
            assert layout.values(record) == readable_values(layout, values)
        assert site.cuts == 0


@settings(max_examples=examples(400))
@given(st.data(), layouts(min_attributes=1, max_attributes=3, max_size=8))
def test_a_site_accepts_and_refuses_what_the_reference_in_python_does(data: st.DataObject, layout: SpanLayout) -> None:
    varying = [attribute.key for attribute in layout.attributes]
    values = [data.draw(values_for(attribute) | anything) for attribute in layout.attributes]
    start = data.draw(st.integers(0, 2**64 - 1) | st.integers() | st.none())
    cuts = 0

    def expected() -> bytes:
        nonlocal cuts
        pack_time("start_unix_nano", start)
        record = bytearray(layout.slot_bytes)
        for field, value in zip(layout.fields, values, strict=True):
            packed, cut = pack_value(field, value)
            cuts += cut
            record[field.offset : field.offset + field.nbytes] = packed
        return bytes(record[64:])

    with emitted(layout, varying) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGBUF_STRICT", "1")  # what does not fit raises, and is not left out
        got = outcome(lambda: site.record(start, 2, *values).tobytes()[64:])
        assert got == outcome(expected)
        if isinstance(got, tuple):
            assert (site.cuts, site.attempts) == (0, 0)
        else:
            assert site.cuts == cuts


@given(wide_text, keys)
def test_text_is_cut_after_the_last_character_that_fits_whole(whole: str, key: str) -> None:
    encoded = whole.encode()
    for size in range(1, min(len(encoded) + 2, 40)):
        cut = cut_utf8(encoded, size).decode()
        assert whole.startswith(cut)
        assert len(cut.encode()) <= size
        assert cut == whole or len(whole[: len(cut) + 1].encode()) > size


@given(st.data(), attributes(("str", "bytes"), max_size=12), st.text(st.characters(), max_size=20))
def test_a_value_that_is_cut_is_counted_and_its_prefix_arrives(
    data: st.DataObject, attribute: Attribute, whole: str
) -> None:
    layout = SpanLayout(span_names=["name"], attributes=[attribute])
    encoded = whole.encode(errors="replace")
    value: Any = whole if attribute.type == "str" else encoded
    with emitted(layout, [attribute.key]) as site:
        got = layout.values(site.record(1, 2, value))[attribute.key]
        cuts = site.cuts
    assert attribute.size is not None
    kept = cut_utf8(encoded, attribute.size) if attribute.type == "str" else encoded[: attribute.size]
    assert got == (kept.decode() if attribute.type == "str" else kept)
    assert cuts == (len(encoded) > attribute.size)


@given(st.data(), layouts())
def test_any_bytes_are_values_or_a_value_error(data: st.DataObject, layout: SpanLayout) -> None:
    for record in data.draw(any_records_for(layout)):
        try:
            values = layout.values(record)
        except ValueError as error:
            assert any(attribute.key in str(error) for attribute in layout.attributes)  # noqa: PT017 - not every record is refused
        else:
            assert values.keys() == {
                field.attribute.key for field in layout.fields if record["present"] >> field.index & 1
            }


@given(st.data(), layouts())
def test_the_records_of_the_other_tests_are_valid(data: st.DataObject, layout: SpanLayout) -> None:
    for record in data.draw(records_for(layout)):
        assert record["trace_id"].any()
        assert record["span_id"].any()
        assert record["name"] < len(layout.span_names)
        assert record["reserved"] == 0
        layout.values(record)


def assert_sound(layout: SpanLayout) -> None:
    assert layout.slot_bytes % 64 == 0
    assert 64 <= layout.slot_bytes <= 16384
    taken = set(range(64))
    for field in layout.fields:
        place = range(field.offset, field.offset + field.nbytes)
        assert taken.isdisjoint(place)
        assert place.stop <= layout.slot_bytes
        kind = field.attribute.type
        assert field.offset % {"hex": 1, **dict.fromkeys(INLINE, 2)}.get(kind, field.nbytes) == 0
        taken.update(place)


def assert_refused_or_sound(data: bytes) -> None:
    try:
        layout = SpanLayout.from_json(data)
    except LayoutError:
        return
    assert_sound(layout)
    layout.values(layout.empty(1)[0])
    assert SpanLayout.from_json(layout.to_json()) == layout


def members(layout: SpanLayout) -> list[str]:
    """Return the attributes as members of a C struct, in the order of their offsets."""
    lines = []
    for field in sorted(layout.fields, key=lambda field: field.offset):
        kind, name = field.attribute.type, f"a{field.index}"
        if kind == "label":
            lines.append(f"uint{8 * field.nbytes}_t {name};")
        elif kind == "hex":
            lines.append(f"uint8_t {name}[{field.attribute.size}];")
        elif kind in INLINE:
            lines.append(f"uint16_t {name}_length; uint8_t {name}[{field.attribute.size}];")
        else:
            integer = ("u" if kind[0] == "u" else "") + f"int{kind[1:]}_t"
            lines.append(f"{C_TYPES.get(kind, integer)} {name};")
    return lines


def c_text(field: Any) -> str:
    return f'"{field.attribute.type} {field.index}"'


def fields_of(dtype: np.dtype[np.void]) -> dict[str, tuple[np.dtype[Any], int]]:
    assert dtype.fields is not None
    return {name: (entry[0], entry[1]) for name, entry in dtype.fields.items()}


def readable_values(layout: SpanLayout, values: dict[str, Any]) -> dict[str, Any]:
    return {
        attribute.key: readable(attribute, values[attribute.key])
        for attribute in layout.attributes
        if attribute.key in values
    }


def outcome(call: Callable[[], bytes]) -> bytes | tuple[type[Exception], str]:
    try:
        return call()
    except (TypeError, ValueError) as error:
        return type(error), re.sub(r"0x[0-9a-f]+", "", str(error))
