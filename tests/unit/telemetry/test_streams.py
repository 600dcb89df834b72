"""Each point says since when it counts, and what a receiver did not acknowledge is in the next."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from drain.telemetry.streams import VALUE, Streams

START = 1000


def test_a_cumulative_counter_counts_from_the_start_of_the_drain() -> None:
    streams = Streams(START, "cumulative")
    for now, number in ((1010, 5), (1020, 9), (1030, 9)):
        point = streams.point("spans", "counter", {VALUE: number}, now)
        assert (point.start_unix_nano, point.numbers) == (START, {VALUE: number})
        point.stream.acknowledge(point.numbers, now)


def test_a_cumulative_counter_whose_source_began_again_has_a_later_start() -> None:
    streams = Streams(START, "cumulative")
    streams.point("spans", "counter", {VALUE: 5}, 1010)
    streams.point("spans", "counter", {VALUE: 9}, 1020)
    point = streams.point("spans", "counter", {VALUE: 2}, 1030)
    assert (point.start_unix_nano, point.numbers) == (1020, {VALUE: 2})
    assert streams.point("spans", "counter", {VALUE: 3}, 1040)[1:3] == (1020, {VALUE: 3})


def test_a_delta_that_was_not_acknowledged_is_added_to_the_next() -> None:
    streams = Streams(START, "delta")
    first = streams.point("spans", "counter", {VALUE: 5}, 1010)
    assert first[1:3] == (START, {VALUE: 5})
    first.stream.acknowledge(first.numbers, 1010)
    assert streams.point("spans", "counter", {VALUE: 7}, 1020)[1:3] == (1010, {VALUE: 2})
    third = streams.point("spans", "counter", {VALUE: 8}, 1030)
    assert third[1:3] == (1010, {VALUE: 3})
    third.stream.acknowledge(third.numbers, 1030)
    assert streams.point("spans", "counter", {VALUE: 8}, 1040)[1:3] == (1030, {})


def test_low_memory_is_delta_for_histograms_alone() -> None:
    streams = Streams(START, "lowmemory")
    for kind, second in (("counter", {VALUE: 9}), ("histogram", {VALUE: 4})):
        point = streams.point(kind, kind, {VALUE: 5}, 1010)  # type: ignore[arg-type]  # mypy takes a tuple's item for any text
        point.stream.acknowledge(point.numbers, 1010)
        assert streams.point(kind, kind, {VALUE: 9}, 1020).numbers == second  # type: ignore[arg-type]  # likewise


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans())))
def test_acknowledged_deltas_add_up_to_all_that_was_counted(steps: list[tuple[int, int, bool]]) -> None:
    streams = Streams(START, "delta")
    counted, told, since = Counter[int](), Counter[int](), START
    for step, (one, other, is_acknowledged) in enumerate(steps, start=1):
        counted += Counter({0: one, 1: other})  # what is 0 is not there
        point = streams.point("spans", "histogram", dict(counted), START + step)
        assert point.start_unix_nano == since
        if is_acknowledged:
            told.update({place: int(number) for place, number in point.numbers.items()})
            point.stream.acknowledge(point.numbers, START + step)
            since = START + step
    owed = streams.point("spans", "histogram", dict(counted), START + len(steps) + 1).numbers
    assert told + Counter({place: int(number) for place, number in owed.items()}) == counted


def test_a_delta_whose_source_began_again_loses_nothing_that_was_owed() -> None:
    streams = Streams(START, "delta")
    streams.point("spans", "counter", {VALUE: 5}, 1010)
    assert streams.point("spans", "counter", {VALUE: 2}, 1020).numbers == {VALUE: 7}
