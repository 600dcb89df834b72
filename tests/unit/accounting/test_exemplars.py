"""What is held as an exemplar, and what C refuses to pick from; tests/property/test_exemplars.py has what it picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drain.accounting.exemplars import SHOWN_NANO, Exemplar, ExemplarReservoir, exemplars
from ringbuf._ringbuf import ffi, lib

SLOT, SECOND = 128, 10**9


def picked(**changed: Any) -> tuple[int, list[Any]]:
    """Pick from two records, of places 0 and 1; return what C returned, and what it wrote."""
    found = ffi.new("rb_exemplar[]", 2)
    arguments = {
        "records": ffi.new("uint8_t[]", 2 * SLOT),
        "count": 2,
        "slot_bytes": SLOT,
        "flags": 0,
        "places": ffi.new("int64_t[]", [0, 1]),
        "nanos": ffi.new("double[]", [1.0, 2.0]),
        "place_count": 2,
        "is_taken": ffi.new("uint8_t[]", 2),
        "exemplars": found,
    }
    count = lib.rb_pick_exemplars(*(arguments | changed).values())
    return count, [(one.place, one.nanos) for one in found[0 : max(count, 0)]]


def test_the_last_record_of_each_place_is_picked() -> None:
    assert picked() == (2, [(1, 2.0), (0, 1.0)])
    assert picked(places=ffi.new("int64_t[]", [1, 1])) == (1, [(1, 2.0)])
    assert picked(flags=1) == (0, [])


@pytest.mark.parametrize("place", [2, -1, 2**63 - 1, -(2**63)])
def test_a_place_that_there_is_not_is_passed_over(place: int) -> None:
    assert picked(places=ffi.new("int64_t[]", [0, place])) == (1, [(0, 1.0)])


@pytest.mark.parametrize(
    "changed",
    [
        {"slot_bytes": 0},
        {"slot_bytes": lib.RB_CORE_BYTES - 1},
        {"slot_bytes": 2**32 - 1},
        *({name: ffi.NULL} for name in ("records", "places", "nanos", "is_taken", "exemplars")),
    ],
)
def test_what_would_be_read_beyond_its_end_is_refused(changed: dict[str, Any]) -> None:
    assert picked(**changed) == (lib.RB_E_ARGUMENT, [])


class Clocks:
    def __init__(self) -> None:
        self.nano, self.unix_nano = 5 * SECOND, 1_000 * SECOND

    def reservoir(self, buckets: int) -> ExemplarReservoir:
        return ExemplarReservoir(buckets, "always_on", lambda: self.nano, lambda: self.unix_nano)


def candidate(reservoir: ExemplarReservoir, end: int, span_id: bytes = b"\1\0\0\0\0\0\0\0") -> np.ndarray[Any, Any]:
    record = ffi.new("rb_record *", {"end_unix_nano": end, "trace_id": b"\2".ljust(16, b"\0"), "span_id": span_id})
    data, size = ffi.cast("uint8_t *", record), ffi.sizeof("rb_record")
    return reservoir.candidates(data, size, np.zeros(1, np.int64), np.array([7e9]), np.zeros(1, np.int64))


def held(reservoir: ExemplarReservoir) -> list[Exemplar]:
    [of_series] = exemplars(reservoir.held(np.zeros(1, np.int64)))
    return of_series


def test_what_ended_last_is_held_with_all_its_bytes() -> None:
    reservoir = (clocks := Clocks()).reservoir(3)
    assert held(reservoir) == []
    reservoir.offer(candidate(reservoir, 900 * SECOND))
    ids = b"\2".ljust(16, b"\0"), b"\1".ljust(8, b"\0")
    assert held(reservoir) == [Exemplar(0, 7.0, 900 * SECOND, clocks.nano, *ids)]
    clocks.nano += 1
    reservoir.offer(candidate(reservoir, 899 * SECOND, b"\3" * 8))
    assert held(reservoir)[0].span_id == ids[1], "it came later, and had ended before"
    reservoir.offer(candidate(reservoir, 901 * SECOND, b"\3" * 8))
    assert (held(reservoir)[0].span_id, held(reservoir)[0].seen_nano) == (b"\3" * 8, clocks.nano)


def test_an_end_in_the_future_is_now_and_lets_the_next_take_its_place() -> None:
    reservoir = (clocks := Clocks()).reservoir(1)
    reservoir.offer(candidate(reservoir, 2**64 - 1))
    assert held(reservoir)[0].unix_nano == clocks.unix_nano
    clocks.unix_nano += 1
    reservoir.offer(candidate(reservoir, clocks.unix_nano, b"\3" * 8))
    assert held(reservoir)[0].span_id == b"\3" * 8


def test_a_clock_that_is_set_back_does_not_keep_an_exemplar_for_good() -> None:
    reservoir = (clocks := Clocks()).reservoir(1)
    reservoir.offer(candidate(reservoir, 1_000 * SECOND))
    clocks.unix_nano -= 500 * SECOND
    clocks.nano += SHOWN_NANO
    reservoir.offer(candidate(reservoir, 501 * SECOND, b"\3" * 8))
    assert held(reservoir)[0].unix_nano == 1_000 * SECOND
    clocks.nano += 1
    reservoir.offer(candidate(reservoir, 501 * SECOND, b"\3" * 8))
    assert held(reservoir)[0].unix_nano == 500 * SECOND


def test_more_series_leave_what_is_held_where_it_is() -> None:
    reservoir = Clocks().reservoir(2)
    reservoir.offer(candidate(reservoir, 900 * SECOND))
    reservoir.make_room(3)
    assert [len(of_series) for of_series in exemplars(reservoir.held(np.arange(3)))] == [1, 0, 0]
