"""What C refuses to count by; tests/property/test_span_metrics.py has what it counts, beside a plain reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOT = 128
SOUND = {"bit": 1, "offset": SLOT - 2, "bytes": 2, "values": 3, "is_bool": 0}


def outcome(label: dict[str, Any], **form: Any) -> int:
    records = ffi.new("uint8_t[]", SLOT)
    labels, bounds = ffi.new("rb_span_label *", {**SOUND, **label}), ffi.new("uint64_t[]", [10])
    whole = {
        "slot_bytes": SLOT,
        "names": 1,
        "labels": labels,
        "label_count": 1,
        "bound_count": 1,
        "bounds_nano": bounds,
    }
    of = ffi.new("rb_span_form *", {**whole, **form})
    codes, cells, nanos = ffi.new("int64_t[]", 1), ffi.new("int64_t[]", 1), ffi.new("double[]", 1)
    return int(lib.rb_code_spans(of, records, 1, codes, cells, nanos))


def test_a_sound_form_is_counted_by() -> None:
    assert outcome({}) == lib.RB_OK


@pytest.mark.parametrize(
    ("label", "form"),
    [
        ({"offset": SLOT - 1}, {}),
        ({"offset": 2**32 - 1}, {}),
        ({"bytes": 0}, {}),
        ({"bytes": 3}, {}),
        ({}, {"slot_bytes": 0}),
        ({}, {"slot_bytes": 2**32 - 1}),
        ({}, {"labels": ffi.NULL}),
        ({}, {"bounds_nano": ffi.NULL}),
    ],
)
def test_a_form_that_would_read_beyond_a_record_is_refused(label: dict[str, Any], form: dict[str, Any]) -> None:
    assert outcome(label, **form) == lib.RB_E_ARGUMENT


def test_a_name_beyond_the_layout_has_no_code_and_a_value_beyond_its_table_counts_as_absent() -> None:
    records = ffi.new("uint8_t[]", 2 * SLOT)
    first, second = (ffi.cast("rb_record *", records + at * SLOT) for at in range(2))
    first.name, second.present, second.end_unix_nano = 1, 1, 11
    records[2 * SLOT - 2] = 3
    labels, bounds = ffi.new("rb_span_label *", SOUND), ffi.new("uint64_t[]", [10])
    form = ffi.new("rb_span_form *", [SLOT, 1, labels, 1, 1, bounds])
    codes, cells, nanos = ffi.new("int64_t[]", 2), ffi.new("int64_t[]", 2), ffi.new("double[]", 2)
    assert lib.rb_code_spans(form, records, 2, codes, cells, nanos) == lib.RB_OK
    assert (list(codes), list(cells), list(nanos)) == ([-1, 0], [0, 1], [0.0, 11.0])
    records[2 * SLOT - 2] = 2
    assert lib.rb_code_spans(form, records, 2, codes, cells, nanos) == lib.RB_OK
    assert list(codes) == [-1, 3]


def counted(
    rows: list[int], row_count: int, blocks: Sequence[int] = (1, 2), **form: Any
) -> tuple[int, list[int], list[float]]:
    """Count three records, of the names 0, 1, and one beyond the layout; return what C returns, counts and sums."""
    records = ffi.new("uint8_t[]", 3 * SLOT)
    for at, name in enumerate((0, 7, 1)):
        record = ffi.cast("rb_record *", records + at * SLOT)
        record.name, record.end_unix_nano = name, 20
    bounds = ffi.new("uint64_t[]", [10])
    whole = {"slot_bytes": SLOT, "names": 2, "bound_count": 1, "bounds_nano": bounds}
    of, given = ffi.new("rb_span_form *", {**whole, **form}), ffi.new("int32_t[]", rows)
    counts, nanos = ffi.new("int64_t[]", 3 * lib.RB_BLOCK_CELLS), ffi.new("double[]", 2)
    block_of = ffi.new("int32_t[]", blocks)
    series = ffi.new("rb_span_series *", [given, len(rows), block_of, counts, 3, nanos, row_count])
    result = int(lib.rb_count_spans(of, records, 3, series))
    cells = [counts[block * lib.RB_BLOCK_CELLS + cell] for block in (1, 2) for cell in (0, 1)]
    return result, cells, list(nanos)


def test_spans_are_counted_up_to_the_first_without_a_row_or_a_block() -> None:
    assert counted([1, 0], 2) == (3, [0, 1, 0, 1], [20.0, 20.0])
    assert counted([1, -1], 2) == (2, [0, 0, 0, 1], [0.0, 20.0])
    assert counted([1, 0], 2, blocks=[0, 2]) == (2, [0, 0, 0, 1], [0.0, 20.0])
    assert counted([1, 0], 2, blocks=[2, 1]) == (3, [0, 1, 0, 1], [20.0, 20.0])


@pytest.mark.parametrize("block", [3, -1, 2**31 - 1, -(2**31)])
def test_a_block_that_there_is_not_is_refused(block: int) -> None:
    assert counted([1, 0], 2, blocks=[1, block])[0] == lib.RB_E_ARGUMENT


@pytest.mark.parametrize(("rows", "row_count"), [([0], 2), ([0, 2], 2), ([0, 0], 0)])
def test_a_code_or_a_row_that_there_is_not_is_refused(rows: list[int], row_count: int) -> None:
    assert counted(rows, row_count)[0] == lib.RB_E_ARGUMENT


def test_nor_is_by_a_form_that_is_not_sound() -> None:
    assert counted([0, 1], 2, slot_bytes=0)[0] == lib.RB_E_ARGUMENT


def tallied(
    names: Sequence[int], *, room: int, codes: int = 3, flags: int = 0, **form: Any
) -> tuple[int, list[int], list[int], list[int], list[int]]:
    """Tally records of names, each 1 ns longer than the one before, the first sampled.

    Returns:
        what C returns, the codes that occur, counts and last records by cell, and the places afterwards.
    """
    records = ffi.new("uint8_t[]", len(names) * SLOT)
    for at, name in enumerate(names):
        record = ffi.cast("rb_record *", records + at * SLOT)
        record.name, record.end_unix_nano, record.flags = name, 9 + at, at == 0
    bounds = ffi.new("uint64_t[]", [10])
    whole = {"slot_bytes": SLOT, "names": 3, "bound_count": 1, "bounds_nano": bounds}
    of = ffi.new("rb_span_form *", {**whole, **form})
    places, found, nanos = ffi.new("uint32_t[]", 3), ffi.new("int64_t[]", 3), ffi.new("double[]", 3)
    counts, last = (ffi.new("uint32_t[]", [99] * 6) for _ in range(2))
    tally = ffi.new("rb_span_tally *", [places, codes, room, found, nanos, counts, last, flags, 0])
    result = int(lib.rb_tally_spans(of, records, len(names), tally))
    used = 2 * tally.found
    return result, list(found)[: tally.found], list(counts)[:used], list(last)[:used], list(places)


def test_spans_are_summed_up_by_code_in_the_order_of_the_first_of_each() -> None:
    assert tallied([2, 7, 0, 2], room=3) == (4, [2, 0], [1, 1, 0, 1], [1, 4, 0, 3], [0, 0, 0])


def test_the_last_of_a_cell_is_one_that_has_the_flags() -> None:
    assert tallied([2, 2, 2], room=3, flags=1)[2:4] == ([2, 1], [1, 0])


def test_spans_are_summed_up_to_the_first_that_has_no_room() -> None:
    assert tallied([2, 2, 0, 2], room=1) == (2, [2], [2, 0], [2, 0], [0, 0, 0])
    assert tallied([0, 1, 2], room=3, codes=2) == (2, [0, 1], [1, 0, 1, 0], [1, 0, 2, 0], [0, 0, 0])
    assert tallied([0], room=0) == (0, [], [], [], [0, 0, 0])


@pytest.mark.parametrize("form", [{"slot_bytes": 0}, {"bounds_nano": ffi.NULL}])
def test_nothing_is_summed_up_by_a_form_that_is_not_sound(form: dict[str, Any]) -> None:
    assert tallied([0], room=3, **form)[0] == lib.RB_E_ARGUMENT


def test_more_codes_than_there_is_room_for_are_not_listed() -> None:
    records, bounds = ffi.new("uint8_t[]", SLOT), ffi.new("uint64_t[]", [10])
    form = ffi.new("rb_span_form *", {"slot_bytes": SLOT, "names": 1, "bound_count": 1, "bounds_nano": bounds})
    places, codes, nanos = ffi.new("uint32_t[]", 1), ffi.new("int64_t[]", 1), ffi.new("double[]", 1)
    counts, last = (ffi.new("uint32_t[]", [1, 2]) for _ in range(2))
    cells = [ffi.new("int64_t[]", 2) for _ in range(3)]
    exemplars = ffi.new("rb_exemplar[]", 2)
    out = ffi.new("rb_tally_cells *", [*cells, exemplars, 0])

    def listed(found: int, count: int) -> int:
        tally = ffi.new("rb_span_tally *", [places, 1, 1, codes, nanos, counts, last, 0, found])
        return int(lib.rb_list_tally(form, records, count, tally, codes, 2, ffi.NULL, out))

    assert (listed(1, 1), out.exemplar_count) == (2, 1)  # there is no second record
    assert (list(cells[1]), list(cells[2])) == ([0, 1], [1, 2])
    assert listed(2, 1) == lib.RB_E_ARGUMENT
