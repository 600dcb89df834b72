"""Where the spans of a trace go is fixed for good, the same in C and in Python, and as even as chance."""

from __future__ import annotations

import os
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.otlp.destinations import CollectorRing, Rendezvous, grouped
from tests.service.draining import LAYOUT

NAMES = ("http://gateway-0:4318", "http://gateway-1:4318", "http://gateway-2:4318")
# Every drain of a fleet has to agree, whatever its version: these never change.
GOLDEN = {
    "00000000000000000000000000000001": "http://gateway-0:4318",
    "0102030405060708090a0b0c0d0e0f10": "http://gateway-0:4318",
    "4bf92f3577b34da6a3ce929d0e0e4736": "http://gateway-2:4318",
    "ffffffffffffffffffffffffffffffff": "http://gateway-0:4318",
}


def records_of(*trace_ids: bytes) -> np.ndarray:
    records = np.zeros(len(trace_ids), LAYOUT.dtype)
    records["trace_id"] = np.frombuffer(b"".join(trace_ids), np.uint8).reshape(records["trace_id"].shape)
    return records


@pytest.mark.parametrize("trace_id", GOLDEN)
def test_the_home_of_a_trace_never_changes(trace_id: str) -> None:
    for names in permutations(NAMES):
        made = Rendezvous(names)
        assert made.home(bytes.fromhex(trace_id)) == GOLDEN[trace_id]
        assert names[made.assign(records_of(bytes.fromhex(trace_id)))[0]] == GOLDEN[trace_id]


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=40),
    st.lists(st.text(max_size=8).filter(str.isprintable), min_size=1, max_size=9, unique=True),
)
def test_c_and_python_agree(trace_ids: list[bytes], names: list[str]) -> None:
    made = Rendezvous(names)
    homes = made.assign(records_of(*trace_ids)).tolist() if trace_ids else []
    assert [names[at] for at in homes] == [made.home(trace_id) for trace_id in trace_ids]


def test_traces_are_spread_evenly_and_only_those_of_a_destination_move_when_it_goes() -> None:
    trace_ids = np.random.default_rng(1).integers(0, 256, (30_000, 16), np.uint8)
    records = np.zeros(len(trace_ids), LAYOUT.dtype)
    records["trace_id"] = trace_ids.reshape(records["trace_id"].shape)
    before, after = (Rendezvous(names).assign(records) for names in (NAMES, NAMES[:2]))
    shares = Counter(before.tolist())
    assert all(9_600 < count < 10_400 for count in shares.values()), "five standard deviations"
    assert (before[before < 2] == after[before < 2]).all()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_records_are_grouped_in_their_order(destinations: list[int]) -> None:
    records = records_of(*(number.to_bytes(16, "big") for number in range(len(destinations))))
    groups = dict(grouped(records, np.array(destinations, np.uint16), 5))
    assert groups.keys() == set(destinations)
    for destination, group in groups.items():
        assert (group == records[np.array(destinations) == destination]).all()


def test_a_destination_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be sorted"):
        list(grouped(records_of(bytes(16), bytes(16)), np.array([0, 3], np.uint16), 3))
    for names in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="destinations"):
            Rendezvous(names)


# Of the Collector's own tests, with 5 points a name (consistent_hashing_test.go).
RING_OF_TWO = {
    "endpoint-1": [1401, 4175, 14133, 17836, 21667],
    "endpoint-2": [10240, 15002, 21263, 26806, 27020],
}


def test_the_ring_is_the_collectors(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CollectorRing(["http://endpoint-2", "endpoint-1"])
    assert len(whole._points) == 200
    assert whole.home(bytes([1, 2, *[0] * 14])) == "endpoint-1"
    assert whole.home(bytes([128, 128, *[0] * 14])) == "http://endpoint-2"
    monkeypatch.setattr("drain.otlp.destinations._RING_POINTS", 5)
    ring = CollectorRing(["http://endpoint-2", "endpoint-1"])
    for index, name in enumerate(("endpoint-2", "endpoint-1")):
        assert ring._points[ring._owners == index].tolist() == RING_OF_TWO[name]


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_the_ring_assigns_each_record_to_the_home_of_its_trace(count: int) -> None:
    ring = CollectorRing([f"gateway-{number}:4317" for number in range(count)])
    records = records_of(*(os.urandom(16) for _ in range(500)), bytes(16), bytes([255] * 16))
    homes = [ring.names[at] for at in ring.assign(records)]
    assert homes == [ring.home(record["trace_id"].tobytes()) for record in records]
    assert count == 1 or len(set(homes)) > count / 3


def test_of_points_that_fall_on_each_other_the_first_name_in_order_has_it_whatever_their_order_here() -> None:
    names = [f"gateway-{number}:4317" for number in range(50)]
    forth, back = CollectorRing(names), CollectorRing(names[::-1])
    assert len(forth._points) < 5000, "some fall on each other"
    traces = [os.urandom(16) for _ in range(500)]
    assert [forth.home(trace) for trace in traces] == [back.home(trace) for trace in traces]
