"""The bytes of a record and the JSON of a layout as they are pinned: a change here is another ABI."""

from __future__ import annotations

import numpy as np

from ringbuf._hot import ffi as hot_ffi
from ringbuf._ringbuf import ffi
from ringbuf.layout.layout import CORE_OFFSETS, Attribute, SpanLayout
from tests.emitted import emitted
from tests.unit.layout.layouts import EVERY_TYPE, EVERY_VALUE

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
