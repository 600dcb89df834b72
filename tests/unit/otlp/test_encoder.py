"""Records to OTLP, case by case; tests/property/test_encoder.py has the general promises."""

from __future__ import annotations

import base64
import gc
import itertools
import json
import locale
import os
import struct
import subprocess
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.otlp.encode_plan import find_spans, plan_of
from drain.otlp.encoder import Encoded, Encoder, to_resource_spans
from drain.otlp.output_buffer import OutputBuffer
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError, RingBufferError
from ringbuf.layout.attribute_types import TYPES
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import make_records
from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Records: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
Rows: TypeAlias = "list[tuple[Mapping[str, Any], Mapping[str, Any]]]"

CORE = {
    "start_unix_nano": 1_764_000_000_000_000_001,
    "end_unix_nano": 1_764_000_000_000_000_002,
    "trace_id": bytes(range(1, 17)),
    "span_id": bytes(range(17, 25)),
    "kind": 3,
    "flags": 0x101,
}
LABELS = SpanLayout(
    span_names=["read", "write"],
    attributes=[Attribute("outcome", "label", labels=("ok", "error")), Attribute("note", "str", 4)],
    scope_name="scope",
    scope_version="1",
    schema_url="https://example.org/schema",
)


def one(layout: SpanLayout, values: Mapping[str, Any], **core: Any) -> Records:
    return make_records(layout, [({**CORE, **core}, values)])


def spans_of(body: bytes) -> Sequence[Span]:
    (resource_spans,) = TracesData.FromString(body).resource_spans
    return resource_spans.scope_spans[0].spans


def values_in(layout: SpanLayout, records: Records) -> list[Any]:
    """Encode both ways and return the first attribute of each span, which must be the same in both."""
    encoder = Encoder(layout, {})
    spans = spans_of(encoder.encode(records).body)
    text = json.loads(encoder.encode_json(records).body)["scopeSpans"][0]["spans"]
    found = []
    for span, json_span in zip(spans, text, strict=True):
        value = span.attributes[0].value
        kind = value.WhichOneof("value")
        assert kind is not None
        (json_value,) = json_span["attributes"][0]["value"].items()
        found.append(getattr(value, kind))
        expected = str(found[-1]) if kind == "int_value" else found[-1]
        assert json_value == (kind.replace("_v", "V"), expected)
    return found


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


def test_a_threshold_that_cannot_be_makes_no_plan() -> None:
    with pytest.raises(LayoutError, match="root_threshold"):
        Encoder(LABELS, {}, 2**56 + 1)


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


def test_an_attribute_that_is_not_present_may_hold_anything() -> None:
    records = one(LABELS, {})
    records["outcome"] = 255
    records["note"]["length"] = 65535
    records["present"] = 0xFFFFFFFC  # bits without an attribute
    (span,) = spans_of(Encoder(LABELS, {}).encode(records).body)
    assert not span.attributes
    (text,) = json.loads(Encoder(LABELS, {}).encode_json(records).body)["scopeSpans"][0]["spans"]
    assert text["attributes"] == []


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


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_integers_keep_their_value_at_every_length(kind: Any) -> None:
    bits = int(kind[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    near = {sign * 2**power + step for power in range(65) for step in (-1, 0, 1) for sign in (1, -1)}
    near |= {10**power + step for power in range(20) for step in (-1, 0, 1)}
    numbers = sorted(number for number in near if low <= number <= high)
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("n", kind)])
    found = values_in(layout, make_records(layout, [(CORE, {"n": number}) for number in numbers]))
    assert found == [number if number < 2**63 else str(number) for number in numbers]


@pytest.mark.parametrize("leads", [b"\xf0\xf4", pytest.param(b"\xe0\xed\xf1", marks=[pytest.mark.prove])])
def test_text_that_is_not_utf8_is_mended_as_python_does(leads: bytes) -> None:
    # The first and last byte of every class that Unicode's table 3-7 has, and those just outside.
    edges = b"A\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"
    texts = [bytes(text) for length in range(4) for text in itertools.product(edges, repeat=length)]
    texts += [bytes((lead, *rest)) for lead in leads for rest in itertools.product(edges, repeat=3)]
    texts += [b"12345678" + text + b"1234567" for text in texts[:600]]
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("text", "str", 20)])
    records = np.repeat(make_records(layout, [(CORE, {"text": ""})]), len(texts))
    records["text"]["length"] = [len(text) for text in texts]
    records["text"]["data"] = np.frombuffer(b"".join(text.ljust(20, b"\0") for text in texts), "u1").reshape(-1, 20)
    assert values_in(layout, records) == [text.decode(errors="replace") for text in texts]


def test_keys_labels_names_and_text_may_have_any_character() -> None:
    odd = "".join(map(chr, range(128))) + "é€\u2028𝄞" + "x" * 70
    layout = SpanLayout(
        span_names=[odd],
        attributes=[
            Attribute(odd, "label", labels=(odd, "z")),
            Attribute(odd + "2", "str", 400),
            Attribute(odd + "3", "bool"),
        ],
    )
    records = one(layout, {odd: odd, odd + "2": odd, odd + "3": True})
    (span,) = spans_of(Encoder(layout, {}).encode(records).body)
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == (odd, odd, odd)
    (text,) = json.loads(Encoder(layout, {}).encode_json(records).body)["scopeSpans"][0]["spans"]
    assert (text["name"], text["attributes"][0]["key"]) == (odd, odd)
    assert [attribute["value"] for attribute in text["attributes"]] == [
        {"stringValue": odd},
        {"stringValue": odd},
        {"boolValue": True},
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 200])
def test_hex_of_every_size_has_its_digits(size: int) -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("id", "hex", size), Attribute("last", "bool")])
    data = bytes((7 * index + 3) % 256 for index in range(size))
    assert values_in(layout, one(layout, {"id": data, "last": True})) == [data.hex()]
    everything = [bytes([byte] * size) for byte in range(256)]
    rows: Rows = [(CORE, {"id": data, "last": False}) for data in everything]
    assert values_in(layout, make_records(layout, rows)) == [data.hex() for data in everything]


@pytest.mark.parametrize("length", [*range(8), 30, 76, 77, 126, 127, 128, 129, 400, 16_000, 16_318])
def test_lengths_take_as_many_bytes_as_they_need(length: int) -> None:
    """From a span whose length has one byte to one whose length has three."""
    layout = SpanLayout(span_names=["s"], attributes=[Attribute("b", "bytes", max(1, length))])
    data = bytes(index % 251 for index in range(length))
    records = make_records(layout, [(CORE, {"b": data}), (CORE, {"b": b""}), (CORE, {"b": data})])
    reference = to_resource_spans(records, layout, {})
    assert Encoder(layout, {}).encode(records).body == TracesData(resource_spans=[reference]).SerializeToString()
    text = json.loads(Encoder(layout, {}).encode_json(records).body)
    value = text["scopeSpans"][0]["spans"][2]["attributes"][0]["value"]
    assert base64.b64decode(value["bytesValue"], validate=True) == data


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (0.000123, "0.000123"),
        (123456.789, "123456.789"),
        (123456789012345.0, "123456789012345.0"),
        (1e15, "1e+15"),
        (1234567890123456.0, "1234567890123456.0"),
        (9007199254740993.0, "9007199254740992.0"),
        (1 / 3, "0.3333333333333333"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e300, "1e+300"),
        (5e-324, "4.94065645841247e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
    ],
)
def test_a_float_has_the_digits_that_it_needs(value: float, digits: str) -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("f", "f64")])
    body = Encoder(layout, {}).encode_json(one(layout, {"f": value})).body
    assert f'"doubleValue":{digits}}}}}'.encode() in body


# German but for the order of words, which takes two seconds to compile.
WITH_COMMA = {"CTYPE": "i18n_ctype", "COLLATE": "POSIX"} | dict.fromkeys(
    [
        *("NUMERIC", "MONETARY", "TIME", "MESSAGES"),
        *("PAPER", "NAME", "ADDRESS", "TELEPHONE", "MEASUREMENT", "IDENTIFICATION"),
    ],
    "de_DE",
)


def test_a_decimal_comma_does_not_reach_the_json(
    monkeypatch: pytest.MonkeyPatch,
    debian_program: Callable[[str], str],
    missing_debian: Callable[[str], NoReturn],
) -> None:
    compiled = ROOT / "build" / "locales" / "with_comma.UTF-8"
    if not compiled.exists():
        part = compiled.with_name(f"{os.getpid()}.UTF-8")
        part.parent.mkdir(parents=True, exist_ok=True)
        source = part.with_suffix(".source")
        source.write_text("".join(f'LC_{name}\ncopy "{of}"\nEND LC_{name}\n' for name, of in WITH_COMMA.items()))
        command = [debian_program("localedef"), "-i", str(source), "-f", "UTF-8", str(part)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            missing_debian("localedef with its data (package locales)")
        part.rename(compiled)
    monkeypatch.setenv("LOCPATH", str(compiled.parent))
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("f", "f64")])
    numeric = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, compiled.name)
        assert locale.localeconv()["decimal_point"] == ","
        body = Encoder(layout, {}).encode_json(one(layout, {"f": 1 / 3})).body
    finally:
        locale.setlocale(locale.LC_NUMERIC, numeric)
    assert b'"doubleValue":0.3333333333333333}' in body


def test_a_label_has_its_string_below_and_above_256() -> None:
    labels = tuple(f"label {index}" for index in range(300))
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("label", "label", labels=labels)])
    found = values_in(layout, make_records(layout, [(CORE, {"label": label}) for label in labels]))
    assert found == list(labels)


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


def test_a_bound_that_is_too_small_is_an_error_and_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(LABELS, {})
    monkeypatch.setattr("drain.otlp.encoder._PIECE_BYTES", 1)
    monkeypatch.setattr(encoder.plan, "json_bound", 1)
    with pytest.raises(RingBufferError, match="takes no record"):
        encoder.encode_json(one(LABELS, {}))


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


def test_layouts_that_are_equal_share_a_plan_that_goes_with_its_last_user() -> None:
    first, second = (SpanLayout(span_names=["plan"], attributes=[Attribute("k", "u8")]) for _ in range(2))
    plan = plan_of(first)
    assert plan_of(second) is plan
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None
    assert plan_of(second) is not None


def test_a_layout_whose_plan_would_be_huge_is_refused() -> None:
    key = "k" * 100_000
    layout = SpanLayout(span_names=["span"], attributes=[Attribute(key, "label", labels=tuple(map(str, range(1000))))])
    with pytest.raises(LayoutError, match="more than 16 MiB"):
        Encoder(layout, {})


def test_threads_may_share_an_encoder() -> None:
    records = make_records(LABELS, [({**CORE, "start_unix_nano": at}, {"note": "é"}) for at in range(500)])
    encoder = Encoder(LABELS, {"k": "v"})
    expected = encoder.encode(records), encoder.encode_json(records)
    found = []

    def encode() -> None:
        for _ in range(20):
            found.append((encoder.encode(records), encoder.encode_json(records)))  # noqa: PERF401 - threads add to it

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(encoded == expected for encoded in found)


class TestThePlanInC:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"slot_bytes": 100}, "slot_bytes 100"),
            ({"slot_bytes": 0}, "slot_bytes 0"),
            ({"slot_bytes": 16384 + 64}, "slot_bytes 16448"),
            ({"span_name_count": 0}, "span_name_count 0"),
            ({"span_name_count": 65537}, "span_name_count 65537"),
            ({"span_names": ffi.NULL}, "span_name_count 1"),
            ({"attribute_count": 33}, "attribute_count 33"),
            ({"attributes": ffi.NULL}, "attribute_count 1"),
        ],
    )
    def test_refuses_a_layout_out_of_bounds(self, change: dict[str, Any], reason: str) -> None:
        status, detail = self.plan(change, {})
        assert status == lib.RB_E_ARGUMENT
        assert detail.startswith(reason)

    @pytest.mark.parametrize(
        "change",
        [
            {"type": 1 + max(row.code for row in TYPES.values())},
            {"type": 2**32 - 1},
            {"offset": 63},
            {"offset": 128},
            {"offset": 2**32 - 1},
            {"type": lib.RB_TYPE_U64, "offset": 121},
            {"type": lib.RB_TYPE_HEX, "size": 0},
            {"type": lib.RB_TYPE_HEX, "size": 65},
            {"type": lib.RB_TYPE_STR, "size": 63},
            {"type": lib.RB_TYPE_BYTES, "size": 2**32 - 1},
            {"type": lib.RB_TYPE_OTLP, "size": 63},
            {"type": lib.RB_TYPE_SCOPE, "size": 63},
            {"type": lib.RB_TYPE_LABEL, "size": 3},
            {"type": lib.RB_TYPE_LABEL, "size": 1, "label_count": 1, "labels": ffi.NULL},
        ],
    )
    def test_refuses_an_attribute_out_of_bounds(self, change: dict[str, Any]) -> None:
        status, detail = self.plan({}, change)
        assert status == lib.RB_E_ARGUMENT
        assert detail.startswith("attribute 0: ")

    def test_takes_an_attribute_at_the_end_of_the_slot(self) -> None:
        assert self.plan({}, {"type": lib.RB_TYPE_STR, "offset": 64, "size": 62})[0] == lib.RB_OK
        assert self.plan({}, {"type": lib.RB_TYPE_U64, "offset": 120})[0] == lib.RB_OK

    def test_refuses_null(self) -> None:
        assert lib.rb_plan_new(ffi.NULL, ffi.new("rb_plan **"), ffi.NULL) == lib.RB_E_ARGUMENT
        counts = ffi.new("uint64_t[2]")
        plan = plan_of(LABELS).c_plan
        for encode in (lib.rb_encode_protobuf, lib.rb_encode_json):
            assert encode(ffi.NULL, ffi.NULL, 0, ffi.NULL, 0, counts, counts + 1) == lib.RB_E_ARGUMENT
            assert encode(plan, ffi.NULL, 1, ffi.NULL, 0, counts, counts + 1) == lib.RB_E_ARGUMENT
            assert encode(plan, ffi.NULL, 0, ffi.NULL, 0, ffi.NULL, counts) == lib.RB_E_ARGUMENT
            assert encode(plan, ffi.NULL, 0, ffi.NULL, 0, counts, counts + 1) == 0
        lib.rb_plan_free(ffi.NULL)

    def test_takes_no_record_for_which_there_may_be_no_room(self) -> None:
        plan = plan_of(LABELS)
        records = ffi.from_buffer(one(LABELS, {"note": "mine"}).tobytes() * 3)
        counts = ffi.new("uint64_t[2]")
        for encode, bound in ((lib.rb_encode_protobuf, plan.protobuf_bound), (lib.rb_encode_json, plan.json_bound)):
            out = ffi.new("uint8_t[]", 3 * bound)
            assert encode(plan.c_plan, records, 3, out, bound - 1, counts, counts + 1) == 0
            assert list(counts) == [0, 0]
            written = encode(plan.c_plan, records, 3, out, bound, counts, counts + 1)
            assert list(counts) == [1, 0]
            assert 0 < written < bound
            assert not any(out[bound : 3 * bound])

    def plan(self, change: dict[str, Any], attribute_change: dict[str, Any]) -> tuple[int, str]:
        text = ffi.new("rb_text[]", [{"data": ffi.from_buffer(b"name"), "bytes": 4}])
        attributes = ffi.new("rb_plan_attribute[]", 1)
        attributes[0].key = text[0]
        attributes[0].offset = 64
        for name, value in attribute_change.items():
            setattr(attributes[0], name, value)
        config = ffi.new("rb_plan_config *")
        config.span_names, config.span_name_count = text, 1
        config.attributes, config.attribute_count = attributes, 1
        config.slot_bytes = 128
        for name, value in change.items():
            setattr(config, name, value)
        plan, error = ffi.new("rb_plan **"), ffi.new("rb_error *")
        status: int = lib.rb_plan_new(config, plan, error)
        lib.rb_plan_free(plan[0])
        assert (plan[0] == ffi.NULL) == (status != lib.RB_OK)
        assert error.status == status
        return status, ffi.string(error.detail).decode()


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)
