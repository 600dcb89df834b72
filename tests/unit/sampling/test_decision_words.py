"""Decisions that are written in 16 bytes mean the same when they are read, for spans that come late."""

from __future__ import annotations

import numpy as np
import pytest

from drain.sampling.decision_words import packed, packed_spans, unpacked, unpacked_spans
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.traces import DECIDED, Traces
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT
from ringbuf.sampling import THRESHOLDS, threshold_of

SECOND = 10**9
NOW = 123_456 * SECOND
RULES = Rules((Rule("errors", statuses=frozenset({2})), Rule("half", ratio=0.5, kinds=frozenset({3})), Rule(DEFAULT)))


def decided(**fields: int) -> np.ndarray:
    one = np.zeros(1, DECIDED)
    for name, value in {"hash": 7, "at_nano": NOW, **fields}.items():
        one[name] = value
    return one


def again(**fields: int) -> np.void:
    (read,) = unpacked(packed(decided(**fields), RULES), RULES, NOW + SECOND)
    return read  # type: ignore[no-any-return]  # a row


@pytest.mark.parametrize("probability", [1.0, 0.5, 0.1, 0.01, 1 / 3, 1e-3, 7e-6, 1e-9, 2**-40, 2**-56])
def test_each_threshold_of_ours_fits(probability: float) -> None:
    threshold = threshold_of(probability)
    read = again(threshold=threshold, known=1 + threshold)
    assert (int(read["threshold"]), int(read["known"])) == (threshold, 1 + threshold)
    assert (int(read["hash"]), read["id"].tobytes()) == (7, bytes(16))


def test_none_is_kept_and_nothing_is_known() -> None:
    read = again(threshold=THRESHOLDS, known=0)
    assert (int(read["threshold"]), int(read["known"])) == (THRESHOLDS, 0)


def test_a_threshold_of_the_head_with_more_digits_is_unknown() -> None:
    assert int(again(threshold=0, known=1 + 0x12345 * 16**9)["known"]) == 0
    assert int(again(threshold=0, known=1 + 0x1234 * 16**10)["known"]) == 1 + 0x1234 * 16**10


@pytest.mark.parametrize(("random", "read_as"), [(THRESHOLDS // 2, THRESHOLDS - 1), (THRESHOLDS // 2 - 1, 0)])
def test_of_an_r_that_was_stated_what_came_of_it_stays(random: int, read_as: int) -> None:
    read = again(threshold=THRESHOLDS // 2, random=random, random_is=lib.RB_RANDOM_STATED)
    assert (int(read["random"]), int(read["random_is"])) == (read_as, lib.RB_RANDOM_OUTCOME)


def test_a_rule_is_found_by_its_name() -> None:
    words = packed(decided(rule=1), RULES)
    others = Rules((Rule("new", kinds=frozenset({1})), *RULES.rules))
    assert int(unpacked(words, others, NOW)[0]["rule"]) == 2
    assert int(unpacked(words, Rules((Rule("new", kinds=frozenset({1})), Rule(DEFAULT))), NOW)[0]["rule"]) == 1


def test_the_time_is_about_right_and_never_in_the_future() -> None:
    for at in (NOW, NOW - 3600 * SECOND, 0):
        (read,) = unpacked(packed(decided(at_nano=at), RULES), RULES, NOW)
        assert 0 <= at - int(read["at_nano"]) < 1 << 33 or at == 0


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_late_span_after_a_restart_has_the_fate_of_its_trace(ratio: float) -> None:
    rules = Rules((Rule("all", kinds=frozenset({1}), ratio=ratio), Rule(DEFAULT, ratio=1 - ratio)))
    records = np.zeros(1, DATAPLANE_LAYOUT.dtype)
    records["trace_id"], records["flags"], records["parent_span_id"] = 5, 0x101, 1
    key = bytes(range(16))

    def look(table: Traces, mask: int) -> int:
        looked = table.look(table.join(), records, np.array([mask], np.uint64), NOW)
        return int(looked.fates.bits[0])

    before, after = (Traces(rules, key, traces=8, spans=8, decided=8, look=8) for _ in range(2))
    assert look(before, 0b11) & lib.RB_FATE_SETTLED
    words = packed(before.decided(), rules)
    after.remember(unpacked(words, rules, NOW))
    assert len(after.decided()) == 0  # they are written already
    bits = look(after, 0b10)  # by itself another rule would decide on it
    assert bits & lib.RB_FATE_LATE
    assert bool(bits & lib.RB_FATE_KEPT) == (ratio == 1.0 or bool(bits & lib.RB_FATE_ITSELF))
    assert bits & lib.RB_FATE_RULE == 0


def test_spans_that_are_kept_for_themselves_lie_among_decisions_and_are_none() -> None:
    span_ids = np.array([7, 2**64 - 1], np.uint64)  # one is also the hash of a trace
    found = np.concatenate([packed(decided(threshold=THRESHOLDS // 2), RULES), packed_spans(span_ids)])
    assert unpacked_spans(found).tolist() == span_ids.tolist()
    assert [int(one["threshold"]) for one in unpacked(found, RULES, NOW)] == [THRESHOLDS // 2]
