"""Records to OTLP, case by case; tests/property/test_encoder.py has the general promises."""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

import numpy as np
import pytest

from drain.otlp.encode_plan import find_spans
from drain.otlp.encoder import Encoded, Encoder, to_resource_spans
from drain.otlp.output_buffer import OutputBuffer
from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.layout import SpanLayout
from tests.property.strategies import make_records
from tests.unit.otlp.core_records import CORE, LABELS, Records, one, spans_of


def test_a_span_has_these_very_bytes() -> None:
    records = one(LABELS, {"outcome": "error"}, parent_span_id=b"\xaa" * 8, name=1, status=2)
    span = b"".join(
        (
            bytes.fromhex("0a10 0102030405060708090a0b0c0d0e0f10"),
            bytes.fromhex("1208 1112131415161718"),
            bytes.fromhex("2208 aaaaaaaaaaaaaaaa"),
            b"\x2a\x05write",
            b"\x30\x03",
            b"\x39" + struct.pack("<Q", CORE["start_unix_nano"]),
            b"\x41" + struct.pack("<Q", CORE["end_unix_nano"]),
            b"\x4a\x12" + b"\x0a\x07outcome" + b"\x12\x07" + b"\x0a\x05error",
            b"\x7a\x02\x18\x02",
            b"\x85\x01" + struct.pack("<I", 0x101),
        )
    )
    scope_spans = b"\x0a\x0a\x0a\x05scope\x12\x011" + b"\x12" + bytes([len(span)]) + span
    scope_spans += b"\x1a\x1ahttps://example.org/schema"
    resource = b"\x0a\x0a\x0a\x08\x0a\x01k\x12\x03\x0a\x01v"
    resource_spans = resource + b"\x12" + varint(len(scope_spans)) + scope_spans
    assert Encoder(LABELS, {"k": "v"}).encode(records).body == b"\x0a" + varint(len(resource_spans)) + resource_spans


def test_a_span_has_this_very_json() -> None:
    records = one(LABELS, {"outcome": "error"}, parent_span_id=b"\xaa" * 8, name=1, status=2)
    assert Encoder(LABELS, {"k": "v"}).encode_json(records).body == (
        b'{"resource":{"attributes":[{"key":"k","value":{"stringValue":"v"}}]},'
        b'"scopeSpans":[{"scope":{"name":"scope","version":"1"},"spans":['
        b'{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"1112131415161718","parentSpanId":"aaaaaaaaaaaaaaaa",'
        b'"name":"write","kind":3,"startTimeUnixNano":"1764000000000000001","endTimeUnixNano":"1764000000000000002",'
        b'"attributes":[{"key":"outcome","value":{"stringValue":"error"}}],"events":[],"status":{"code":2},"flags":257}'
        b'],"schemaUrl":"https://example.org/schema"}]}'
    )


def test_what_has_its_default_is_left_out() -> None:
    records = one(LABELS, {}, start_unix_nano=0, end_unix_nano=0, kind=0, flags=0)
    encoder = Encoder(LABELS, {})
    (span,) = spans_of(encoder.encode(records).body)
    assert [field.name for field, _ in span.ListFields()] == ["trace_id", "span_id", "name"]
    (text,) = json.loads(encoder.encode_json(records).body)["scopeSpans"][0]["spans"]
    assert list(text) == ["traceId", "spanId", "name", "attributes", "events"]
    assert text["attributes"] == text["events"] == []


STATED = 1 + (0xFD70A << 36)  # 1 in 100
OF_A_ROOT: dict[str, Any] = {"parent_span_id": b"\1" * 8, "present": lib.RB_PRESENT_ROOT_THRESHOLD}
KEPT, NOT_KEPT = bytes(9) + (0xFD70A << 36).to_bytes(7, "big"), b"\xff" * 9 + ((0xFD70A << 36) - 1).to_bytes(7, "big")


@pytest.mark.parametrize(
    ("core", "state"),
    [
        ({"trace_id": KEPT, "flags": 0x103}, "ot=th:fd70a"),
        ({"trace_id": KEPT, "flags": 0x101}, ""),  # not the ring's sampler kept it
        ({"trace_id": KEPT, "flags": 0x102}, ""),  # nobody did
        (
            {"trace_id": NOT_KEPT, "flags": 0x103},
            "",
        ),  # a sampler before did: of the one that is stated this is no child
        ({"trace_id": KEPT, "flags": 0x103, "parent_span_id": b"\1" * 8}, ""),
        ({"trace_id": KEPT, "flags": 0x303, "parent_span_id": b"\1" * 8}, ""),
        ({"trace_id": KEPT, "flags": 0x103, **OF_A_ROOT}, "ot=th:fd70a"),
        ({"trace_id": KEPT, "flags": 0x102, **OF_A_ROOT}, ""),
        ({"trace_id": KEPT, "flags": 0x101, **OF_A_ROOT}, ""),
        ({"trace_id": NOT_KEPT, "flags": 0x103, **OF_A_ROOT}, ""),
    ],
)
def test_a_span_whose_trace_its_rings_sampler_kept_says_what_it_stands_for(core: dict[str, Any], state: str) -> None:
    records, encoder = one(LABELS, {}, **core), Encoder(LABELS, {}, STATED)
    (span,) = spans_of(encoder.encode(records).body)
    (text,) = json.loads(encoder.encode_json(records).body)["scopeSpans"][0]["spans"]
    assert (span.trace_state, text.get("traceState", "")) == (state, state)
    assert spans_of(Encoder(LABELS, {}).encode(records).body)[0].trace_state == ""


@pytest.mark.parametrize(
    ("stated", "text"), [(1, "0"), (1 + (1 << 55), "8"), (1 + 1, "00000000000001"), (2**56, "ffffffffffffff")]
)
def test_a_threshold_has_its_digits_but_for_zeros_at_the_end(stated: int, text: str) -> None:
    records = one(LABELS, {}, trace_id=b"\xff" * 16, flags=0x103)
    assert spans_of(Encoder(LABELS, {}, stated).encode(records).body)[0].trace_state == "ot=th:" + text


def test_an_end_before_the_start_is_delivered() -> None:
    (span,) = spans_of(Encoder(LABELS, {}).encode(one(LABELS, {}, start_unix_nano=9, end_unix_nano=8)).body)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (9, 8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reserved", 1),
        ("trace_id", bytes(16)),
        ("span_id", bytes(8)),
        ("name", 2),
        ("name", 65535),
        ("kind", 6),
        ("kind", 255),
        ("status", 3),
        ("status", 255),
        ("outcome", 2),
        ("outcome", 255),
        ("note", 5),
        ("note", 65535),
    ],
)
def test_an_invalid_record_is_counted_and_its_neighbours_are_delivered(field: str, value: Any) -> None:
    records = make_records(LABELS, [({**CORE, "status": at}, {"outcome": "ok", "note": "mine"}) for at in (1, 0, 2)])
    if field == "note":
        records["note"]["length"][1] = value
    else:
        records[field][1] = np.frombuffer(value, "u1") if isinstance(value, bytes) else value
    encoder = Encoder(LABELS, {})
    for encoded in (encoder.encode(records), encoder.encode_json(records)):
        assert (encoded.spans, encoded.invalid) == (2, 1)
    assert [span.status.code for span in spans_of(encoder.encode(records).body)] == [1, 2]
    assert len(to_resource_spans(records, LABELS, {}).scope_spans[0].spans) == 2
    assert find_spans(records, LABELS).tolist() == [True, False, True]
    if field not in {"outcome", "note"}:  # of the core
        expected = lib.RB_E_ZERO_ID if field.endswith("_id") else lib.RB_E_RECORD
        assert lib.rb_record_check(ffi.from_buffer(records[1:2].tobytes()), len(LABELS.span_names)) == expected
    text = json.loads(encoder.encode_json(records).body)
    assert [span["status"]["code"] for span in text["scopeSpans"][0]["spans"]] == [1, 2]


@pytest.mark.parametrize(
    "core",
    [
        {"trace_id": b"\1" + bytes(15)},
        {"trace_id": bytes(7) + b"\x80" + bytes(8)},
        {"trace_id": bytes(15) + b"\1"},
        {"span_id": b"\1" + bytes(7)},
        {"span_id": bytes(7) + b"\x80"},
        {"parent_span_id": bytes(8), "flags": 2**32 - 1},
        {"name": 1, "kind": 5, "status": 2},
        {"kind": 0},
    ],
    ids=str,
)
def test_a_core_at_its_bounds_is_a_span(core: dict[str, Any]) -> None:
    records = one(LABELS, {}, **core)
    assert Encoder(LABELS, {}).encode(records)[1:] == Encoder(LABELS, {}).encode_json(records)[1:] == (1, 0)
    assert find_spans(records, LABELS).tolist() == [True]
    assert lib.rb_record_check(ffi.from_buffer(records.tobytes()), len(LABELS.span_names)) == lib.RB_OK


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_spans_are_found_in_records_that_lie_apart(count: int) -> None:
    records = make_records(LABELS, [({**CORE, "kind": at % 7}, {}) for at in range(2 * count)])
    assert find_spans(records[::2], LABELS).tolist() == [2 * at % 7 != 6 for at in range(count)]


@pytest.mark.parametrize("records", [LABELS.empty(0), LABELS.empty(5)], ids=["none", "only invalid ones"])
def test_without_a_span_there_is_no_envelope(records: Records) -> None:
    encoder = Encoder(LABELS, {"k": "v"})
    assert encoder.encode(records) == Encoded(b"", 0, len(records))
    assert encoder.encode_json(records) == Encoded(b"", 0, len(records))


def test_records_of_another_layout_are_refused() -> None:
    other = SpanLayout(span_names=["read"], attributes=[])
    encoder = Encoder(LABELS, {})
    for wrong in (other.empty(1), LABELS.empty(2).reshape(1, 2)):
        for encode in (encoder.encode, encoder.encode_json):
            with pytest.raises(ValueError, match="layout's dtype"):
                encode(wrong)
        with pytest.raises(ValueError, match="layout's dtype"):
            to_resource_spans(wrong, LABELS, {})


def test_records_need_not_lie_side_by_side() -> None:
    records = make_records(LABELS, [({**CORE, "kind": kind}, {}) for kind in (1, 2, 3, 4)])
    spans = spans_of(Encoder(LABELS, {}).encode(records[::2]).body)
    assert [span.kind for span in spans] == [1, 3]


@pytest.mark.parametrize("kinds", list(itertools.product([1, 6], repeat=4)), ids=str)
def test_pieces_with_nothing_but_invalid_records_leave_no_trace(
    kinds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_records(LABELS, [({**CORE, "kind": kind}, {}) for kind in kinds])
    encoder = Encoder(LABELS, {"k": "v"})
    expected = encoder.encode(records), encoder.encode_json(records)
    assert expected[0].spans == kinds.count(1)
    monkeypatch.setattr("drain.otlp.encoder._PIECE_BYTES", 1)
    assert (encoder.encode(records), encoder.encode_json(records)) == expected


def test_a_buffer_takes_batches_of_any_size_one_after_the_other() -> None:
    records = make_records(LABELS, [({**CORE, "start_unix_nano": at}, {"note": "é"}) for at in range(3000)])
    batches = [records[:count] for count in (1, 3000, 0, 100, 2, 3000, 1)]
    fresh = [Encoder(LABELS, {"k": "v"}).encode(batch) for batch in batches]
    fresh_json = [Encoder(LABELS, {"k": "v"}).encode_json(batch) for batch in batches]
    encoder, out, out_json = Encoder(LABELS, {"k": "v"}), OutputBuffer(), OutputBuffer()
    for _ in range(2):
        out.clear()
        out_json.clear()
        counts = [encoder.encode_into(batch, out) for batch in batches]
        counts_json = [encoder.encode_json_into(batch, out_json) for batch in batches]
        assert counts == counts_json == [(encoded.spans, encoded.invalid) for encoded in fresh]
        assert out.view() == b"".join(encoded.body for encoded in fresh)
        assert out_json.view() == b"".join(encoded.body for encoded in fresh_json)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)
