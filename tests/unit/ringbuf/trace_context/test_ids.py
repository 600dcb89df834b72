"""Ids come of a count by a bijection; nobody can see the count in them, and no two ids of a span are the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import ringbuf
from tests.records import fresh_records

if TYPE_CHECKING:
    from pathlib import Path

MASK = (1 << 64) - 1


def unshifted(value: int, shift: int) -> int:
    """Undo `x ^ (x >> shift)`."""
    found = value
    for _ in range(64 // shift):
        found = value ^ found >> shift
    return found


def unmixed(value: int) -> int:
    """Undo `mix` of csrc/producer/emit.c."""
    value = unshifted(value, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    value = unshifted(value, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    return unshifted(value, 30)


def mixed(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def test_the_inverse_is_one() -> None:
    assert [unmixed(mixed(value)) for value in (0, 1, 2**63, MASK)] == [0, 1, 2**63, MASK]


def test_the_count_cannot_be_seen(ring_dir: Path) -> None:
    """Else two processes whose counts overlap would repeat each other's ids."""
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4, lanes=1) as emitter:
        made = fresh_records(emitter, 20)
    for words in (
        [int.from_bytes(span_id.tobytes(), "little") for span_id in made["span_id"]],
        [int.from_bytes(trace_id.tobytes()[:8], "little") for trace_id in made["trace_id"]],
        [int.from_bytes(trace_id.tobytes()[8:], "little") for trace_id in made["trace_id"]],
    ):
        counts = [unmixed(word) for word in words]
        steps = {(after - before) & MASK for before, after in itertools.pairwise(counts)}
        assert 1 not in steps


def test_the_three_words_of_a_root_are_three(ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4, lanes=1) as emitter:
        for record in fresh_records(emitter, 20):
            trace_id, span_id = record["trace_id"].tobytes(), record["span_id"].tobytes()
            assert len({trace_id[:8], trace_id[8:], span_id}) == 3
