"""What numpy makes of records and values: packed records, and its own bool, are taken as the plain ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
from ringbuf.dataplane import DATAPLANE_LAYOUT
from tests.consumer import records_in
from tests.records import fresh_records

if TYPE_CHECKING:
    from pathlib import Path


def test_records_that_numpy_has_packed_are_taken(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16) as emitter:
        parts = [fresh_records(emitter, 2), fresh_records(emitter, 3)]
        joined = np.concatenate(parts)
        assert joined.dtype.itemsize < DATAPLANE_LAYOUT.slot_bytes
        assert emitter.emit_batch(joined) == 5
        assert emitter.emit(joined[0])
        assert emitter.emit_batch(np.array(list(parts[1]))) == 3
        found = records_in(ring_dir)
        assert [record.tobytes() for record in found[:5]] == [record.tobytes() for part in parts for record in part]
        assert found[5].tobytes() == parts[0][0].tobytes()


def test_ids_are_filled_into_records_that_numpy_has_packed(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16) as emitter:
        joined = np.concatenate([DATAPLANE_LAYOUT.empty(2), DATAPLANE_LAYOUT.empty(2)])
        emitter.fill_ids(joined)
        assert joined["trace_id"].any(axis=1).all()
        assert len({bytes(span_id) for span_id in joined["span_id"]}) == 4
        joined.flags.writeable = False
        with pytest.raises(TypeError, match="written"):
            emitter.fill_ids(joined)


def test_records_of_other_fields_are_refused_still(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16) as emitter:
        joined = np.concatenate([fresh_records(emitter, 2), fresh_records(emitter, 2)])
        wrong: Any
        for wrong in (joined[["start_unix_nano"]], joined.view("u1"), [joined]):
            with pytest.raises(TypeError, match="dtype"):
                emitter.emit_batch(wrong)


def test_a_bool_of_numpy_is_a_bool(ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("hit", "bool")])
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=layout, capacity=16) as emitter:
        get = emitter.site("get", varying=["hit"])
        for value in (np.bool_(True), np.array([False])[0]):
            assert get.emit(1, 2, value)
            with get.span(value):
                pass
        found = [layout.values(record)["hit"] for record in records_in(ring_dir)]
    assert found == [True, True, False, False]
