"""The plan that a layout is compiled to: what makes none, who shares it, its bounds, what its door in C refuses."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from drain.otlp.encode_plan import plan_of
from drain.otlp.encoder import Encoder
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError, RingBufferError
from ringbuf.layout.attribute_types import TYPES
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import make_records
from tests.unit.otlp.core_records import CORE, LABELS, one


def test_a_threshold_that_cannot_be_makes_no_plan() -> None:
    with pytest.raises(LayoutError, match="root_threshold"):
        Encoder(LABELS, {}, 2**56 + 1)


def test_a_bound_that_is_too_small_is_an_error_and_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(LABELS, {})
    monkeypatch.setattr("drain.otlp.encoder._PIECE_BYTES", 1)
    monkeypatch.setattr(encoder.plan, "json_bound", 1)
    with pytest.raises(RingBufferError, match="takes no record"):
        encoder.encode_json(one(LABELS, {}))


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
