"""Which OTLP a record may carry: one case for each rule, for the C check and the reference alike."""

from __future__ import annotations

import numpy as np
import pytest

from drain.otlp.encode_plan import find_spans
from drain.otlp.encoder import Encoder, to_resource_spans
from drain.otlp.fields import checked_fields
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.layout.value import pack_value
from tests.property.otlp_values import nested
from tests.property.strategies import make_records

LAYOUT = SpanLayout(
    span_names=["work"], attributes=[Attribute("otlp", "otlp", 60), Attribute("scope", "scope", 20)], scope_name="own"
)
IDS = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
LINK_IDS = b"\x0a\x10" + bytes(16) + b"\x12\x08" + bytes(8)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x2a\x00",  # an empty name
        b"\x2a\x81\x00a",  # a length that is longer than it must be
        b"\x4a\x0b\x12\x09\x21" + bytes(8),
        b"\x50\xff\xff\xff\xff\x0f",
        b"\x6a\x1c" + LINK_IDS,
        nested(16),
    ],
)
def test_sound_otlp(value: bytes) -> None:
    assert checked_fields("Span", value) is not None
    assert lib.rb_otlp_is_sound(lib.RB_TYPE_OTLP, value, len(value)) == 1


@pytest.mark.parametrize(
    "value",
    [
        b"\x0a\x10" + bytes(16),  # a trace id: the record's own
        b"\x30\x01",  # a kind
        b"\x7a\x02\x18\x01",  # a status code
        b"\x82\x01\x00",  # a tag of two bytes
        b"\x2b\x2c",  # a group
        b"\x28\x00",  # a name that is a number
        b"\x2a\x01a\x1a\x01b",  # out of order
        b"\x2a\x01a\x2a\x01b",  # twice
        b"\x2a",
        b"\x2a\x02a",
        b"\x2a\x01\xff",  # no UTF-8
        b"\x4a\x0a\x12\x08\x21" + bytes(7),  # a double that is cut
        b"\x4a\x06\x12\x04\x10\x01\x18\x01",  # two values in one
        b"\x50\x80\x80\x80\x80\x10",  # 33 bits
        b"\x4a\x0d\x12\x0b\x18" + b"\xff" * 9 + b"\x02",  # 65 bits
        b"\x6a\x12\x0a\x10" + bytes(16),  # a link without its span id
        b"\x6a\x1b\x0a\x0f" + bytes(15) + b"\x12\x08" + bytes(8),
        nested(17),
    ],
)
def test_unsound_otlp(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        checked_fields("Span", value)
    assert lib.rb_otlp_is_sound(lib.RB_TYPE_OTLP, value, len(value)) == 0


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("otlp", b"\x3d\x00\x2a\x3b" + b"a" * 58),  # a byte longer than the field
        ("otlp", b"\x02\x00\x30\x01"),
        ("scope", b"\x15\x00\x1a\x12" + b"a" * 18),  # sound, were it a byte shorter
        ("scope", b"\x02\x00\x12\x00"),  # spans in a scope
    ],
)
def test_a_record_with_unsound_otlp_is_invalid_and_the_others_go_on(key: str, raw: bytes) -> None:
    records = make_records(LAYOUT, [(IDS, {"otlp": b"\x2a\x01a", "scope": b"\x0a\x00"})] * 3)
    whole = bytearray(records.tobytes())
    at = LAYOUT.slot_bytes + LAYOUT.offsets[key]
    whole[at : at + len(raw)] = raw
    records = np.frombuffer(whole, LAYOUT.dtype)
    assert Encoder(LAYOUT, {}).encode(records)[1:] == (2, 1)
    assert Encoder(LAYOUT, {}).encode_json(records)[1:] == (2, 1)
    assert len(to_resource_spans(records, LAYOUT, {}).scope_spans[0].spans) == 2
    assert find_spans(records, LAYOUT).tolist() == [True, False, True]


def test_of_each_there_may_be_one() -> None:
    for kind in ("otlp", "scope"):
        with pytest.raises(ValueError, match=f"one of type {kind}"):
            SpanLayout(span_names=["a"], attributes=[Attribute("a", kind, 4), Attribute("b", kind, 4)])


def test_a_value_that_is_too_long_is_refused_and_not_cut() -> None:
    field = LAYOUT.fields[1]
    assert pack_value(field, b"a" * 20) == (b"\x14\x00" + b"a" * 20, False)
    with pytest.raises(ValueError, match="scope: 21 bytes, where it takes at most 20"):
        pack_value(field, b"a" * 21)
