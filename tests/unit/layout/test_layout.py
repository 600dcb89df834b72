"""SpanLayout: what it refuses, its bytes and its JSON as they are pinned, and the values that records take."""

from __future__ import annotations

import copy
import decimal
import doctest
import enum
import json
import pickle
import re
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
import ringbuf.layout.attribute
import ringbuf.layout.layout
import ringbuf.layout.layout_json
import ringbuf.layout.value
import ringbuf.sites.packing
from ringbuf._hot import ffi as hot_ffi
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError
from ringbuf.layout.layout import CORE_OFFSETS, Attribute, SpanLayout
from ringbuf.sites.packing import pack_constants
from tests.consumer import records_in
from tests.emitted import emitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

INTEGER_BOUNDS = {
    "i8": (-0x80, 0x7F),
    "i16": (-0x8000, 0x7FFF),
    "i32": (-0x80000000, 0x7FFFFFFF),
    "i64": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
    "u8": (0, 0xFF),
    "u16": (0, 0xFFFF),
    "u32": (0, 0xFFFFFFFF),
    "u64": (0, 0xFFFFFFFFFFFFFFFF),
}
# One of each type, in an order in which every alignment would need padding.
EVERY_TYPE = SpanLayout(
    span_names=["read", "schreiben ✎"],
    attributes=[
        Attribute("flag", "bool", metric_label=True),
        Attribute("a.i64", "i64"),
        Attribute("a.i8", "i8"),
        Attribute("a.u64", "u64"),
        Attribute("a.u8", "u8"),
        Attribute("a.i32", "i32"),
        Attribute("a.i16", "i16"),
        Attribute("a.u32", "u32"),
        Attribute("a.u16", "u16"),
        Attribute("a.f64", "f64"),
        Attribute("label", "label", labels=("ok", "fehlgeschlagen")),
        Attribute("wide label", "label", labels=tuple(f"l{index}" for index in range(257))),
        Attribute("id", "hex", 3),
        Attribute("text", "str", 5),
        Attribute("raw", "bytes", 4),
    ],
    scope_name="scope",
    scope_version="1.2",
    schema_url="https://example.org/s",
)
EVERY_VALUE: dict[str, Any] = {
    "flag": True,
    "a.i64": -2,
    "a.i8": -3,
    "a.u64": 2**64 - 4,
    "a.u8": 200,
    "a.i32": -5,
    "a.i16": -6,
    "a.u32": 2**32 - 7,
    "a.u16": 60000,
    "a.f64": 1.5,
    "label": "fehlgeschlagen",
    "wide label": "l256",
    "id": b"\x0a\x0b\x0c",
    "text": "Öl",
    "raw": b"\xff\x00",
}
SMALL = SpanLayout(
    span_names=["read"], attributes=[Attribute("size", "u32"), Attribute("outcome", "label", labels=("ok", "error"))]
)


def layout_of(*attributes: Attribute, **more: Any) -> SpanLayout:
    return SpanLayout(**{"span_names": ["name"], "attributes": attributes, **more})


def labels_of(count: int) -> tuple[str, ...]:
    return tuple(f"{index:x}" for index in range(count))


# ---- the golden record: a change here is another ABI ----

GOLDEN = (
    ("start_unix_nano", "0100000000000000"),
    ("end_unix_nano", "0200000000000000"),
    ("trace_id", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"),
    ("span_id", "b0b1b2b3b4b5b6b7"),
    ("parent_span_id", "c0c1c2c3c4c5c6c7"),
    ("present", "ff7f0000"),
    ("name", "0100"),
    ("kind", "03"),
    ("status", "02"),
    ("flags", "01030000"),
    ("reserved", "00000000"),
    ("a.i64", "feffffffffffffff"),
    ("a.u64", "fcffffffffffffff"),
    ("a.f64", "000000000000f83f"),
    ("a.i32", "fbffffff"),
    ("a.u32", "f9ffffff"),
    ("a.i16", "faff"),
    ("a.u16", "60ea"),
    ("wide label", "0001"),
    ("text", "0300c3966c0000"),
    ("up to the alignment of a length", "00"),
    ("raw", "0200ff000000"),
    ("flag", "01"),
    ("a.i8", "fd"),
    ("a.u8", "c8"),
    ("label", "01"),
    ("id", "0a0b0c"),
    ("up to a multiple of 64", "00" * 5),
)
GOLDEN_RECORD = bytes.fromhex("".join(digits for _, digits in GOLDEN))
GOLDEN_JSON = (
    '{"scope_name":"grafos.dataplane","scope_version":"219","schema_url":"https://example.org/s",'
    '"span_names":["lesen ✎"],"slot_bytes":128,"attributes":['
    '{"key":"id","type":"hex","offset":72,"bytes":16},'
    '{"key":"outcome","type":"label","offset":88,"bytes":1,"labels":["ok","error"],"metric_label":true},'
    '{"key":"size","type":"u64","offset":64,"bytes":8}]}'
).encode()


def test_the_golden_record_is_what_numpy_writes() -> None:
    record = EVERY_TYPE.empty(1)
    record["start_unix_nano"], record["end_unix_nano"] = 1, 2
    for name, first in (("trace_id", 0xA0), ("span_id", 0xB0), ("parent_span_id", 0xC0)):
        record[name] = first + np.arange(record[name].size, dtype="u1")
    record["name"], record["kind"], record["status"], record["flags"] = 1, 3, 2, 0x301
    record["present"] = 0x7FFF
    for key, value in EVERY_VALUE.items():
        attribute = EVERY_TYPE.attributes[EVERY_TYPE.index(key)]
        if attribute.labels:
            record[key] = attribute.labels.index(value)
        elif attribute.type == "hex":
            record[key] = np.frombuffer(value, "u1")
        elif attribute.size:
            content = value if isinstance(value, bytes) else value.encode()
            record[key]["length"] = len(content)
            record[key]["data"][0, : len(content)] = np.frombuffer(content, "u1")
        else:
            record[key] = value
    assert record.tobytes().hex(" ", 8) == GOLDEN_RECORD.hex(" ", 8)


def test_the_golden_record_is_what_a_site_writes() -> None:
    half = len(EVERY_VALUE) // 2
    constants = dict(list(EVERY_VALUE.items())[:half])
    varying = list(EVERY_VALUE)[half:]
    with emitted(EVERY_TYPE, varying, name="schreiben ✎", constants=constants) as site:
        record = site.record(1, 2, *(EVERY_VALUE[key] for key in varying)).tobytes()
    assert record[64:].hex(" ", 8) == GOLDEN_RECORD[64:].hex(" ", 8)
    assert record[:16] == GOLDEN_RECORD[:16]
    assert record[48:54] == GOLDEN_RECORD[48:54]


def test_the_golden_record_is_what_the_core_of_the_c_header_says() -> None:
    core = ffi.from_buffer("rb_record *", GOLDEN_RECORD)
    assert (core.start_unix_nano, core.end_unix_nano) == (1, 2)
    assert bytes(core.trace_id) == bytes(range(0xA0, 0xB0))
    assert bytes(core.span_id) == bytes(range(0xB0, 0xB8))
    assert bytes(core.parent_span_id) == bytes(range(0xC0, 0xC8))
    assert (core.present, core.name, core.kind, core.status, core.flags) == (0x7FFF, 1, 3, 2, 0x301)
    assert core.reserved == 0


def test_the_golden_record_is_read_as_what_was_written() -> None:
    assert EVERY_TYPE.values(GOLDEN_RECORD) == EVERY_VALUE | {"id": "0a0b0c"}
    assert list(EVERY_TYPE.values(GOLDEN_RECORD)) == list(EVERY_VALUE)
    assert EVERY_TYPE.values(np.frombuffer(GOLDEN_RECORD, EVERY_TYPE.dtype)[0]) == EVERY_TYPE.values(GOLDEN_RECORD)


def test_the_golden_json() -> None:
    layout = SpanLayout(
        span_names=["lesen ✎"],
        attributes=[
            Attribute("id", "hex", 16),
            Attribute("outcome", "label", labels=("ok", "error"), metric_label=True),
            Attribute("size", "u64"),
        ],
        scope_name="grafos.dataplane",
        scope_version="219",
        schema_url="https://example.org/s",
    )
    assert layout.to_json() == GOLDEN_JSON
    assert SpanLayout.from_json(GOLDEN_JSON) == layout


def test_the_core_is_where_the_documents_say() -> None:
    assert dict(CORE_OFFSETS) == {
        "start_unix_nano": 0,
        "end_unix_nano": 8,
        "trace_id": 16,
        "span_id": 32,
        "parent_span_id": 40,
        "present": 48,
        "name": 52,
        "kind": 54,
        "status": 55,
        "flags": 56,
        "reserved": 60,
    }


def test_every_struct_of_the_header_is_what_the_compiler_made_of_it() -> None:
    # cffi compares a struct with the compiler's at its first use only: one that drifted would fail in front of a user.
    sizes = {}
    for name in {name for module in (ffi, hot_ffi) for names in module.list_types() for name in names}:
        try:
            sizes[name] = ffi.sizeof(name)
        except ffi.error as error:
            assert "don't know the size" in str(error)  # noqa: PT017 - rb_producer and others are opaque on purpose
    assert {name: sizes[name] for name in ("rb_header", "rb_lane", "rb_record")} == {
        "rb_header": 128,
        "rb_lane": 384,
        "rb_record": 64,
    }
    assert {"rb_config", "rb_lane_view", "rb_outcome"} < sizes.keys()


# ---- what a layout refuses ----


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Attribute("", "u8"), "key is empty"),
        (lambda: Attribute("k\ud800", "u8"), "lone surrogate"),
        (lambda: Attribute("k", "u128"), "'k': no such type as 'u128'"),  # type: ignore[arg-type]  # that is the point
        (lambda: Attribute("k", "u8", 1), "'k': a u8 takes no size"),
        (lambda: Attribute("k", "hex"), "'k': a hex needs a size"),
        (lambda: Attribute("k", "str", 0), "'k': size 0"),
        (lambda: Attribute("k", "bytes", -1), "'k': size -1"),
        (lambda: Attribute("k", "hex", 16321), "'k': size 16321"),
        (lambda: Attribute("k", "str", 16319), "'k': size 16319"),
        (lambda: Attribute("k", "label"), "'k': a label needs labels"),
        (lambda: Attribute("k", "label", labels=()), "'k': 0 labels"),
        (lambda: Attribute("k", "label", labels=labels_of(65537)), "'k': 65537 labels"),
        (lambda: Attribute("k", "label", labels=("a", "")), "'k': labels: one of them is empty"),
        (lambda: Attribute("k", "label", labels=("a", "b", "a")), "'k': labels: 'a' is there twice"),
        (lambda: Attribute("k", "label", labels=("\udcff",)), "'k': labels: one of them has a lone surrogate"),
        (lambda: Attribute("k", "u8", labels=("a",)), "'k': a u8 takes no labels"),
        (lambda: Attribute("k", "str", 3, metric_label=True), "'k': only a label or bool may be a metric_label"),
        (lambda: layout_of(span_names=[]), "span_names: 0"),
        (lambda: layout_of(span_names=["a", ""]), "span_names: one of them is empty"),
        (lambda: layout_of(span_names=["a", "a"]), "span_names: 'a' is there twice"),
        (lambda: layout_of(span_names=["\ud800"]), "span_names: one of them has a lone surrogate"),
        (lambda: layout_of(span_names=labels_of(65536)), "span_names: 65536"),
        (lambda: layout_of(span_names=["x" * 262144]), "bytes of JSON"),
        (lambda: layout_of(scope_name="\ud800"), "scope_name has a lone surrogate"),
        (lambda: layout_of(scope_version="\ud800"), "scope_version has a lone surrogate"),
        (lambda: layout_of(schema_url="\ud800"), "schema_url has a lone surrogate"),
        (lambda: layout_of(Attribute("k", "u8"), Attribute("k", "u16")), "'k' is there twice"),
        (lambda: layout_of(Attribute("trace_id", "hex", 16)), "'trace_id': a field of the record's core"),
        (lambda: layout_of(*(Attribute(f"k{index}", "u8") for index in range(33))), "attributes: 33"),
        (lambda: layout_of(Attribute("j", "hex", 16000), Attribute("k", "hex", 321)), "'k' exceeds the largest slot"),
    ],
)
def test_an_invalid_layout_is_a_value_error_that_names_the_field(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attribute(b"k", "u8"),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "hex", 3.0),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "hex", True),
        lambda: Attribute("k", "label", labels="abc"),
        lambda: Attribute("k", "label", labels=(1, 2)),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "bool", metric_label=1),  # type: ignore[arg-type]  # that is the point
        lambda: layout_of("k"),  # type: ignore[arg-type]  # that is the point
        lambda: layout_of(span_names="name"),
        lambda: layout_of(span_names=1),
        lambda: layout_of(scope_name=None),
    ],
)
def test_another_python_type_is_a_type_error(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"k|span_names|scope_name"):
        make()


def test_what_is_just_within_the_limits_is_accepted() -> None:
    assert Attribute("k", "label", labels=labels_of(256)).format == "B"
    assert Attribute("k", "label", labels=labels_of(257)).format == "H"
    assert Attribute("k", "label", labels=labels_of(65536)).format == "H"
    assert layout_of(Attribute("k", "hex", 16320)).slot_bytes == lib.RB_MAX_SLOT_BYTES
    assert layout_of(Attribute("k", "str", 16318)).slot_bytes == lib.RB_MAX_SLOT_BYTES
    assert layout_of().slot_bytes == 64
    assert layout_of(Attribute("k", "hex", 64)).slot_bytes == 128
    assert layout_of(Attribute("k", "hex", 65)).slot_bytes == 192
    many = layout_of(*(Attribute(f"k{index}", "u8") for index in range(32)))
    assert many.index("k31") == 31
    # Short enough for the JSON, as many as `name` can count.
    names = [chr(code) for code in range(32, 127) if chr(code) not in '"\\']
    crowd = [a + b for a in names for b in names]
    assert layout_of(span_names=crowd).name_index(crowd[-1]) == len(crowd) - 1


def test_labels_of_an_enum_become_plain_strings() -> None:
    class Operation(enum.StrEnum):
        READ = "read"
        WRITE = "write"

    attribute = Attribute("operation", "label", labels=tuple(Operation))
    assert attribute.labels == ("read", "write")
    assert [type(label) for label in attribute.labels] == [str, str]


# ---- what a layout's JSON may not say ----


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(SMALL.to_json()) | members).encode()


def with_attribute(**members: Any) -> bytes:
    """Return SMALL's JSON with members of the first attribute changed, or left out where the value is `...`."""
    content = json.loads(SMALL.to_json())
    first = content["attributes"][0] | members
    content["attributes"][0] = {key: value for key, value in first.items() if value is not ...}
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"span_names":["\xff"]}', "not UTF-8: invalid start byte at byte 16"),
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{", "not JSON"),
        (b'{"slot_bytes":NaN}', "not JSON: NaN"),
        (b'{"slot_bytes":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"x":' * 50_000, "nested too deeply"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b" " * 262145, "262145 bytes of JSON"),
        (b"{}", "'attributes' is missing"),
        (b'{"a":1,"a":1}', "a key twice"),
        (changed(attributes={}), "'attributes' is not an array"),
        (changed(attributes=[1]), "attribute 0 is no object"),
        (changed(attributes=[{}] * 33), "33 attributes"),
        (changed(slot_bytes=128.0), "'slot_bytes' is not an integer"),
        (changed(slot_bytes=100), "slot_bytes 100 is not a multiple of 64"),
        (changed(slot_bytes=0), "slot_bytes 0"),
        (changed(slot_bytes=-64), "slot_bytes -64"),
        (changed(slot_bytes=16448), "slot_bytes 16448"),
        (changed(span_names="name"), "'span_names' is not an array"),
        (changed(span_names=["a", 1]), "span_names: not all of them are strings"),
        (changed(span_names=[]), "span_names: 0"),
        (changed(span_names=["\ud800"]), "lone surrogate"),
        (changed(scope_name=1), "'scope_name' is not a string"),
        (changed(schema_url=None), "'schema_url' is not a string"),
        (with_attribute(key=...), "attribute 0: 'key' is missing"),
        (with_attribute(key=""), "key is empty"),
        (with_attribute(key="flags"), "'flags': a field of the record's core"),
        (with_attribute(key="outcome"), "'outcome' is there twice"),
        (with_attribute(type="proto"), "'size': no such type as 'proto'"),
        (with_attribute(type=[]), "'type' is not a string"),
        (with_attribute(offset=...), "'size': 'offset' is missing"),
        (with_attribute(offset=True), "'offset' is not an integer"),
        (with_attribute(offset=60), "'size': offset 60 lies in the record's core"),
        (with_attribute(offset=-8), "'size': offset -8 lies in the record's core"),
        (with_attribute(offset=128), "end outside the slot"),
        (with_attribute(offset=125), "end outside the slot"),
        (with_attribute(offset=2**70), "end outside the slot"),
        (with_attribute(offset=70), "'size': offset 70 is no multiple of 4"),
        (with_attribute(type="hex", offset=66), "overlaps"),
        (with_attribute(type="hex", offset=65), "'outcome': offset 68 overlaps attribute 'size'"),
        (with_attribute(bytes=8), "'size': 8 bytes, where its type takes 4"),
        (with_attribute(bytes="4"), "'bytes' is not an integer"),
        (with_attribute(type="str", bytes=2), "'size': size 0"),
        (with_attribute(type="hex", bytes=2**70), "'size': size"),
        (with_attribute(labels=["a"]), "takes no labels"),
        (with_attribute(type="label", bytes=1), "needs labels"),
        (with_attribute(type="label", bytes=1, labels=[1]), "labels: not all of them are strings"),
        (with_attribute(type="label", bytes=2, labels=["a"]), "2 bytes, where its type takes 1"),
        (with_attribute(metric_label=True), "only a label or bool"),
        (with_attribute(metric_label=1), "'metric_label' is not true or false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "json",
)
def test_an_unsound_json_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(reason)):
        SpanLayout.from_json(data)


def test_a_reason_stays_short_whatever_the_json_says() -> None:
    with pytest.raises(LayoutError) as caught:
        SpanLayout.from_json(with_attribute(key="\n" * 100_000, offset=0))
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


def test_members_that_a_later_version_adds_are_ignored() -> None:
    assert SpanLayout.from_json(changed(later={"x": [1, None]})) == SMALL
    assert SpanLayout.from_json(with_attribute(unit="By")) == SMALL


def test_scope_and_metric_label_may_be_left_out() -> None:
    content = json.loads(SMALL.to_json())
    for key in ("scope_name", "scope_version", "schema_url"):
        del content[key]
    assert SpanLayout.from_json(json.dumps(content).encode()) == SMALL


# ---- the object ----


def test_a_layout_is_immutable_and_hashed_by_its_json() -> None:
    with pytest.raises(FrozenInstanceError):
        SMALL.slot_bytes = 64  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        SMALL.offsets["size"] = 0  # type: ignore[index]  # that is the point
    again = SpanLayout(span_names=iter(SMALL.span_names), attributes=iter(SMALL.attributes))
    assert {SMALL: 1}[again] == 1
    assert layout_of() != layout_of(scope_name="s")
    assert SMALL.to_json() != SMALL


def test_a_layout_survives_pickle_and_copy() -> None:
    moved = SpanLayout.from_json(with_attribute(offset=100))
    for again in (pickle.loads(pickle.dumps(moved)), copy.deepcopy(moved), copy.copy(moved)):  # noqa: S301 - our own
        assert again == moved
        assert again.offsets["size"] == 100


def test_unknown_keys_and_names_are_value_errors_that_name_them() -> None:
    with pytest.raises(ValueError, match="'nothing'"):
        SMALL.index("nothing")
    with pytest.raises(ValueError, match="'nothing'"):
        SMALL.name_index("nothing")
    with pytest.raises(ValueError, match="'nothing'"):
        made(SMALL, ["size", "nothing"])
    with pytest.raises(ValueError, match="'size' is there twice"):
        made(SMALL, ["size", "size"])
    with pytest.raises(TypeError, match="varying"):
        made(SMALL, "size")


def test_a_record_with_a_label_or_length_out_of_bounds_is_a_value_error() -> None:
    layout = layout_of(Attribute("label", "label", labels=("a", "b")), Attribute("text", "str", 4))
    record = layout.empty(1)[0]
    record["label"], record["text"]["length"] = 2, 5
    assert layout.values(record) == {}
    record["present"] = 1
    with pytest.raises(ValueError, match="label: label 2 of 2"):
        layout.values(record)
    record["present"] = 2
    with pytest.raises(ValueError, match="text: length 5, where at most 4"):
        layout.values(record)
    with pytest.raises(ValueError, match="127 bytes"):
        layout.values(bytes(127))


def test_hostile_bytes_of_a_bool_or_str_have_a_value() -> None:
    layout = layout_of(Attribute("flag", "bool"), Attribute("text", "str", 4))
    record = bytearray(pack_constants(layout, "name", {"flag": True, "text": "abcd"}))
    record[layout.offsets["flag"]] = 2
    record[layout.offsets["text"] + 2] = 0xFF
    assert layout.values(bytes(record)) == {"flag": True, "text": "\ufffdbcd"}


def test_importing_the_layout_does_not_load_numpy() -> None:
    code = "import sys, ringbuf.layout.layout, ringbuf.sites.packing; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-Ic", code], check=False).returncode == 0


# ---- values, as the scalar doors take them ----


class Index(enum.IntEnum):
    OK = 0
    ERROR = 1


class Text(enum.StrEnum):
    ERROR = "error"


class OldText(str, enum.Enum):  # noqa: UP042 - its str() is not its value, unlike StrEnum's
    ERROR = "error"


def packed_value(attribute: Attribute, value: object) -> object:
    """Return what a value has become in a record, as a constant and as a varying value, which must agree."""
    layout = layout_of(attribute)
    constant = pack_constants(layout, "name", {attribute.key: value})
    with emitted(layout, [attribute.key]) as site:
        record = site.record(1, 2, value)
    assert record.tobytes()[64:] == constant[64:]
    assert record["present"] == int.from_bytes(constant[48:52], "little")
    return layout.values(constant).get(attribute.key)


def made(layout: SpanLayout, varying: Any) -> None:
    with emitted(layout, varying):
        pass


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        (Attribute("k", "bool"), False, False),
        (Attribute("k", "u8"), Index.ERROR, 1),
        (Attribute("k", "i64"), np.int64(-5), -5),
        (Attribute("k", "u64"), np.uint64(2**64 - 1), 2**64 - 1),
        (Attribute("k", "f64"), 3, 3.0),
        (Attribute("k", "f64"), np.float32(0.5), 0.5),
        (Attribute("k", "f64"), decimal.Decimal("0.25"), 0.25),
        (Attribute("k", "f64"), float("inf"), float("inf")),
        (Attribute("k", "label", labels=("ok", "error")), "error", "error"),
        (Attribute("k", "label", labels=("ok", "error")), 1, "error"),
        (Attribute("k", "label", labels=("ok", "error")), Index.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), Text.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), OldText.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), np.uint8(1), "error"),
        (Attribute("k", "hex", 2), b"\x01\xff", "01ff"),
        (Attribute("k", "hex", 2), bytearray(b"\x01\xff"), "01ff"),
        (Attribute("k", "hex", 2), memoryview(b"\x01\xff"), "01ff"),
        (Attribute("k", "str", 4), "", ""),
        (Attribute("k", "str", 4), "a\0b", "a\0b"),
        (Attribute("k", "str", 4), "a\ud800b", "a?b"),
        (Attribute("k", "str", 4), Text.ERROR.value[:2], "er"),
        (Attribute("k", "bytes", 2), b"", b""),
        (Attribute("k", "bytes", 2), bytearray(b"\0\1"), b"\0\1"),
        (Attribute("k", "bytes", 2), memoryview(b"abcd")[::2], b"ac"),
        (Attribute("k", "u8"), 0, 0),
        (Attribute("k", "u8"), None, None),
        (Attribute("k", "hex", 2), None, None),
        (Attribute("k", "str", 2), None, None),
    ],
)
def test_a_value_in_any_of_its_forms(attribute: Attribute, value: object, expected: object) -> None:
    got = packed_value(attribute, value)
    assert got == expected
    assert type(got) is type(expected)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a value that does not fit raise, which else is left out and told of."""
    monkeypatch.setenv("RINGBUF_STRICT", "1")


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        (Attribute("k", "bool"), 1, TypeError),
        (Attribute("k", "bool"), "true", TypeError),
        (Attribute("k", "u8"), True, TypeError),
        (Attribute("k", "u8"), 1.0, TypeError),
        (Attribute("k", "u8"), "1", TypeError),
        (Attribute("k", "f64"), True, TypeError),
        (Attribute("k", "f64"), "1.0", TypeError),
        (Attribute("k", "f64"), 1j, TypeError),
        pytest.param(Attribute("k", "f64"), 10**400, ValueError, id="10**400"),
        pytest.param(Attribute("k", "f64"), 10**5000, ValueError, id="10**5000 f64"),
        pytest.param(Attribute("k", "i64"), 10**5000, ValueError, id="10**5000 i64"),
        (Attribute("k", "label", labels=("ok", "error")), "nothing", ValueError),
        (Attribute("k", "label", labels=("ok", "error")), 2, ValueError),
        (Attribute("k", "label", labels=("ok", "error")), -1, ValueError),
        (Attribute("k", "label", labels=("ok", "error")), True, TypeError),
        (Attribute("k", "label", labels=("ok", "error")), 1.0, TypeError),
        (Attribute("k", "label", labels=("ok", "error")), [], TypeError),
        (Attribute("k", "hex", 2), b"\0", ValueError),
        (Attribute("k", "hex", 2), b"\0\0\0", ValueError),
        (Attribute("k", "hex", 2), "0000", TypeError),
        (Attribute("k", "hex", 2), "00", TypeError),
        (Attribute("k", "hex", 2), [0, 0], TypeError),
        (Attribute("k", "str", 2), b"a", TypeError),
        (Attribute("k", "str", 2), 1, TypeError),
        (Attribute("k", "bytes", 2), "a", TypeError),
        (Attribute("k", "bytes", 2), 1, TypeError),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_key(
    attribute: Attribute, value: object, error: type[Exception], strict: None
) -> None:
    layout = layout_of(Attribute("before", "str", 3), attribute)
    with emitted(layout, ["before", "k"]) as site:
        with pytest.raises(error, match=r"^k: "):
            site.record(1, 2, "abcd", value)
        assert (site.cuts, site.attempts) == (0, 0)
        with pytest.raises(error, match=r"^k: "):  # at the end of the block, when the span is written without it
            site.spanned("abcd", value)
        assert (site.cuts, site.attempts) == (1, 1)
    with pytest.raises(error, match=r"^k: "):
        pack_constants(layout, "name", {"k": value})


@pytest.mark.parametrize("kind", INTEGER_BOUNDS)
def test_every_integer_type_takes_its_bounds_and_nothing_beyond(kind: Any, strict: None) -> None:
    attribute = Attribute("k", kind)
    least, greatest = INTEGER_BOUNDS[kind]
    for value in (least, greatest):
        assert packed_value(attribute, value) == value
    for value in (least - 1, greatest + 1):
        refusal = f"^k: {value} is out of the range of {kind}$"
        with emitted(layout_of(attribute), ["k"]) as site, pytest.raises(ValueError, match=refusal):
            site.record(1, 2, value)
        with pytest.raises(ValueError, match=f"^k: {value} is out of the range of {kind}$"):
            pack_constants(layout_of(attribute), "name", {"k": value})


def test_an_error_shows_no_more_than_the_beginning_of_a_long_value() -> None:
    with emitted(SMALL, ["size"]) as site, pytest.raises(TypeError) as caught:
        site.record(1, 2, "x" * 100_000)
    assert len(str(caught.value)) < 100


def test_times_are_u64_and_named_when_they_are_not(strict: None) -> None:
    with emitted(SMALL, []) as site:
        record = site.record(0, 2**64 - 1)
        assert (record["start_unix_nano"], record["end_unix_nano"]) == (0, 2**64 - 1)
        with pytest.raises(ValueError, match=r"^start_unix_nano: -1 "):
            site.record(-1, 0)
        with pytest.raises(ValueError, match=r"^end_unix_nano: 18446744073709551616 "):
            site.record(0, 2**64)
        with pytest.raises(TypeError, match=r"^end_unix_nano: 1.5 "):
            site.record(0, 1.5)
        with pytest.raises(TypeError, match=r"^start_unix_nano: None "):
            site.record(None, 2)


def test_an_end_that_is_none_is_now() -> None:
    with emitted(SMALL, []) as site:
        before = time.time_ns()
        record = site.record(5, None)
        assert record["start_unix_nano"] == 5
        assert before <= record["end_unix_nano"] <= time.time_ns()


def test_the_wrong_number_of_values_is_a_type_error() -> None:
    with emitted(SMALL, ["size", "outcome"]) as site:
        with pytest.raises(TypeError, match="outcome"):
            site.record(1, 2, 3)
        with pytest.raises(TypeError, match="takes 4 arguments, not 5"):
            site.record(1, 2, 1, "ok", 3)
        with pytest.raises(TypeError, match="takes 2 values, not 3"):
            site.spanned(1, "ok", 3)


def test_values_may_be_given_by_their_keys(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=SMALL, capacity=4) as emitter:
        site: Any = emitter.site(SMALL.span_names[0], varying=["size", "outcome"])
        assert site.emit(1, 2, outcome=None, size=7)
        (record,) = records_in(ring_dir)
        assert SMALL.values(record) == {"size": 7}
        for named, error in (({"size": 1}, "outcome"), ({"size": 1, "outcome": None, "x": 1}, "unexpected.*'x'")):
            with pytest.raises(TypeError, match=error):
                site.emit(1, 2, **named)
        with pytest.raises(TypeError, match="multiple values for argument 'size'"):
            site.emit(1, 2, 3, size=4, outcome=None)
        assert emitter.stats().attempts == 1


@pytest.mark.parametrize(
    ("size", "kept"), [(1, ""), (2, "é"), (4, "é"), (5, "é€"), (8, "é€"), (9, "é€𝄞"), (10, "é€𝄞z"), (11, "é€𝄞z")]
)
def test_a_str_is_cut_after_the_last_character_that_fits(size: int, kept: str) -> None:
    layout = layout_of(Attribute("k", "str", size))
    with emitted(layout, ["k"]) as site:
        record = site.record(1, 2, "é€𝄞z").tobytes()
        assert site.cuts == (size < 10)
    packed = record[layout.offsets["k"] :][: size + 2]
    assert packed == len(kept.encode()).to_bytes(2, "little") + kept.encode().ljust(size, b"\0")


def test_cuts_of_one_span_are_reported_together_and_never_with_an_error(strict: None) -> None:
    layout = layout_of(Attribute("a", "str", 2), Attribute("b", "bytes", 2), Attribute("c", "u8"))
    with emitted(layout, ["a", "b", "c"]) as site:
        site.record(1, 2, "abc", b"abc", 1)
        assert site.cuts == 2
        site.record(1, 2, "a\ud800c", memoryview(b"abc"), 1)
        assert site.cuts == 4
        site.spanned("abc", b"ab", 1)
        assert site.cuts == 5
        site.spanned("ab", b"ab", 1)
        assert site.cuts == 5
        with pytest.raises(ValueError, match="c: 256"):
            site.record(1, 2, "abc", b"abc", 256)
        assert site.cuts == 5


def test_constants_fill_a_whole_record() -> None:
    record = pack_constants(EVERY_TYPE, "schreiben ✎", {"flag": None, "a.i8": -1}, kind=2)
    assert len(record) == EVERY_TYPE.slot_bytes
    assert EVERY_TYPE.values(record) == {"a.i8": -1}
    core = ffi.from_buffer("rb_record *", record)
    assert (core.name, core.kind, core.present) == (1, 2, 1 << 2)
    assert (core.status, core.flags, core.start_unix_nano, any(core.trace_id)) == (0, 0, 0, False)


def test_constants_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^text: 'abcdef' is longer than 5 bytes$"):
        pack_constants(EVERY_TYPE, "read", {"text": "abcdef"})
    with pytest.raises(ValueError, match="'nothing'"):
        pack_constants(EVERY_TYPE, "read", {"nothing": 1})
    with pytest.raises(ValueError, match="'nothing'"):
        pack_constants(EVERY_TYPE, "nothing", {})
    for kind in (-1, 6):
        with pytest.raises(ValueError, match="kind"):
            pack_constants(EVERY_TYPE, "read", {}, kind=kind)


@pytest.mark.parametrize(
    "module",
    [
        ringbuf.layout.attribute,
        ringbuf.layout.layout,
        ringbuf.layout.layout_json,
        ringbuf.sites.packing,
        ringbuf.layout.value,
    ],
)
def test_the_examples_in_the_docstrings_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
