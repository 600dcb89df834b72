"""When a trace is decided, by which rule, and what its spans say that they stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drain.sampling.rates import Rate
from drain.sampling.rules import DEFAULT, AttributeTest, Rule, Rules, of_ratio
from drain.sampling.sampler import Fate, Sampler, Why
from drain.sampling.seen_span import SeenSpan
from drain.sampling.trace_state import Stated
from ringbuf.sampling import THRESHOLDS

SECOND = 10**9
NOTHING = Stated()
HALF, TENTH = 1 << 55, 0xE666 << 40
TRACE = bytes(9) + (HALF + 1).to_bytes(7, "big")
LOW_TRACE = b"\1" * 9 + bytes(7)
KEEP, DROP = Rule(DEFAULT), Rule(DEFAULT, ratio=0.0)
ERRORS = Rule("errors", statuses=frozenset({2}))


def span(
    trace_id: bytes = TRACE,
    *,
    root: bool = False,
    status: int = 0,
    end: int = 0,
    start: int = 0,
    says: Stated = NOTHING,
    name: str = "read",
    remote: bool = False,
    sampled: bool = True,
) -> SeenSpan:
    parent = b"" if root else b"\1" * 8
    return SeenSpan(
        trace_id, parent, "shop", name, 1, status, start, end, {}, is_remote=remote, is_sampled=sampled, says=says
    )


def fates(rules: Rules, *arrivals: tuple[float, SeenSpan]) -> list[Fate]:
    sampler = Sampler(rules)
    found = [fate for at, arriving in arrivals for fate in sampler.take(arriving, round(at * SECOND))]
    return [*found, *sampler.decide_due()]


def decision(rules: Rules, *arrivals: tuple[float, SeenSpan]) -> tuple[str, Why, float]:
    found = fates(rules, *arrivals)[0].decision
    assert found is not None
    return rules.rules[found.rule].name, found.why, found.at_nano / SECOND


@pytest.mark.parametrize(
    ("arrivals", "why", "at"),
    [
        ([(1, span())], Why.TIMEOUT, 6),
        ([(1, span()), (5.9, span())], Why.TIMEOUT, 6),  # never extended
        ([(1, span()), (2, span(root=True))], Why.ROOT, 2.5),
        ([(1, span(root=True)), (1.4, span(root=True))], Why.ROOT, 1.5),
        ([(1, span()), (5.9, span(root=True))], Why.TIMEOUT, 6),
        ([(1, span(remote=True))], Why.ENTRY, 3),
        ([(1, span(remote=True)), (2.5, span(remote=True))], Why.ENTRY, 4.5),  # the last one
        ([(1, span(remote=True)), (2.5, span())], Why.ENTRY, 3),
        ([(1, span(remote=True)), (1.1, span(root=True))], Why.ROOT, 1.6),
        ([(1, span(root=True)), (1.1, span(remote=True))], Why.ROOT, 1.5),
    ],
)
def test_the_wait_ends(arrivals: list[tuple[float, SeenSpan]], why: Why, at: float) -> None:
    assert decision(Rules((ERRORS, KEEP)), *arrivals) == (DEFAULT, why, at)


def test_the_first_rule_decides_at_once_and_others_wait_for_it() -> None:
    rules = Rules((ERRORS, Rule("reads", spans=("re*",)), KEEP))
    assert decision(rules, (1, span(status=2))) == ("errors", Why.RULE, 1)
    assert decision(rules, (1, span()), (2, span(status=2))) == ("errors", Why.RULE, 2)
    assert decision(rules, (1, span()), (2, span(status=1))) == ("reads", Why.TIMEOUT, 6)
    assert decision(rules, (1, span()), (6.5, span(status=2))) == ("reads", Why.TIMEOUT, 6)  # too late for the trace


def test_a_span_that_is_alone_is_decided_at_once() -> None:
    alone = replace(span(root=True), is_alone=True)
    assert decision(Rules((ERRORS, KEEP)), (1, alone)) == (DEFAULT, Why.ALONE, 1)
    assert decision(Rules((ERRORS, KEEP)), (1, replace(alone, status=2))) == ("errors", Why.RULE, 1)


def test_one_span_meets_all_conditions_on_spans() -> None:
    rules = Rules((Rule("slow errors", statuses=frozenset({2}), longer_than_nano=5), DROP))
    assert decision(rules, (1, span(status=2, end=5)), (2, span(end=6)))[0] == DEFAULT
    assert decision(rules, (1, span(status=2, end=6)))[0] == "slow errors"


def test_conditions_on_traces() -> None:
    rules = Rules((Rule("long", trace_longer_than_nano=5), Rule("many", trace_spans_at_least=2), DROP))
    assert decision(rules, (1, span(start=1, end=2)), (1, span(start=5, end=6)))[0] == "many"
    assert decision(rules, (1, span(start=1, end=2)), (1, span(start=6, end=7)))[0] == "long"
    assert decision(rules, (1, span(start=1, end=6)))[0] == DEFAULT


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        (AttributeTest("k", ("a", "b")), "b", True),
        (AttributeTest("k", ("a",)), "A", False),
        (AttributeTest("k", (True,)), True, True),
        (AttributeTest("k", (1,)), True, False),
        (AttributeTest("k", (True,)), 1, False),
        (AttributeTest("k", (1,)), 1.0, True),
        (AttributeTest("k", ("1",)), 1, False),
        (AttributeTest("k", ("",)), None, False),
        (AttributeTest("k", at_least=1, at_most=2), 2, True),
        (AttributeTest("k", at_least=1, at_most=2), 2.1, False),
        (AttributeTest("k", at_least=1), 0.9, False),
        (AttributeTest("k", at_least=0), True, False),
        (AttributeTest("k", at_least=0), "5", False),
        (AttributeTest("k", at_least=0), float("nan"), False),
    ],
)
def test_what_an_attribute_must_be(test: AttributeTest, value: object, holds: bool) -> None:
    assert test.holds(value) is holds  # type: ignore[arg-type]  # anything that an attribute may be


@pytest.mark.parametrize(
    ("ratio", "says", "stated"),
    [
        (1.0, Stated(), None),  # nobody knows what the head did
        (0.5, Stated(), None),
        (1.0, Stated(0), 0),
        (0.5, Stated(0), HALF),
        (1.0, Stated(HALF), HALF),  # never lower
        (0.75, Stated(HALF), HALF),
        (1.0, Stated(HALF + 2), None),  # it would not have kept this trace: no threshold of it
        (1.0, Stated(is_malformed=True), None),
        (0.1, Stated(0, THRESHOLDS - 1), TENTH),  # rv
    ],
)
def test_a_kept_span_states_the_higher_threshold_where_the_heads_is_known(
    ratio: float, says: Stated, stated: int | None
) -> None:
    (fate,) = fates(of_ratio(ratio), (1, span(says=says)))
    assert (fate.is_kept, fate.threshold) == (True, stated)


def test_rv_takes_the_place_of_the_id() -> None:
    (kept,) = fates(of_ratio(0.5), (1, span(LOW_TRACE, says=Stated(0, HALF))))
    (dropped,) = fates(of_ratio(0.5), (1, span(says=Stated(0, HALF - 1))))
    assert (kept.is_kept, dropped.is_kept, dropped.threshold) == (True, False, None)


def test_the_threshold_of_the_root_is_that_of_its_trace() -> None:
    child, root, other = span(), span(root=True, says=Stated(0x7 << 52)), span(says=Stated(0))
    found = {id(fate.span): fate.threshold for fate in fates(of_ratio(1.0), (1, child), (1, other), (1, root))}
    # The default is the first rule here: it decides at the first span, when no root has come.
    assert found == {id(child): None, id(root): 0x7 << 52, id(other): 0}
    found = {id(fate.span): fate.threshold for fate in fates(Rules((ERRORS, KEEP)), (1, child), (1, other), (1, root))}
    assert found == {id(child): 0x7 << 52, id(root): 0x7 << 52, id(other): 0}


def test_nobody_samples_upstream_where_that_is_said() -> None:
    (fate,) = fates(Rules((Rule(DEFAULT, ratio=0.5),), is_head_open=True), (1, span()))
    assert fate.threshold == HALF
    (fate,) = fates(Rules((KEEP,), is_head_open=True), (1, span()))
    assert fate.threshold == 0


def test_late_spans_inherit_decision_and_threshold() -> None:
    rules = Rules((ERRORS, Rule("half", ratio=0.5, spans=("read",)), DROP), is_head_open=True)
    first, late, lower = span(), span(name="write"), span(says=Stated(0))
    found = fates(rules, (1, first), (7, late), (8, lower))
    assert [(fate.is_kept, fate.threshold, fate.is_late) for fate in found] == [
        (True, HALF, False),
        (True, HALF, True),
        (True, HALF, True),
    ]


def test_of_a_dropped_trace_a_late_span_is_kept_for_itself_by_a_rule_that_keeps_all() -> None:
    rules = Rules((ERRORS, Rule("half", ratio=0.5, spans=("write",)), DROP), is_head_open=True)
    found = fates(
        rules,
        (1, span(LOW_TRACE)),
        (7, span(LOW_TRACE, status=2)),
        (8, span(LOW_TRACE, name="write")),
        (9, span(LOW_TRACE)),
    )
    assert [(fate.is_kept, fate.is_kept_for_itself, fate.threshold) for fate in found] == [
        (False, False, None),
        (True, True, 0),  # it stands for itself alone: the trace is not upgraded
        (False, False, None),
        (False, False, None),
    ]


def test_what_the_head_did_not_want_is_no_part_of_a_trace() -> None:
    found = fates(Rules((ERRORS, KEEP)), (1, span(status=2, sampled=False)), (2, span()))
    assert [(fate.is_kept, fate.decision is None) for fate in found] == [(False, True), (True, False)]


def test_a_rate_is_that_of_the_last_ten_whole_seconds() -> None:
    rate = Rate()
    assert rate.share(1, 0) == 1
    for second in range(3):
        for _ in range(10):
            rate.add(1, second * SECOND)
        # Of the first second nothing is known; then it is 10 a second.
        assert rate.share(5, second * SECOND + SECOND - 1) == (1 if second == 0 else 0.5)
    assert rate.share(1, 11 * SECOND) == 0.5  # 20 in the ten seconds before
    assert rate.share(1, 14 * SECOND) == 1


def test_all_thresholds_rise_together_above_the_bound_of_kept_spans() -> None:
    rules = Rules((ERRORS, Rule(DEFAULT, ratio=0.5)), is_head_open=True, kept_spans_per_second=1.0)
    ids = [bytes([number]) * 9 + b"\xff" * 7 for number in range(1, 9)]
    found = fates(
        rules,
        *((0.1 * at, span(trace_id, status=2)) for at, trace_id in enumerate(ids[:4])),
        (1.5, span(ids[4], status=2)),
        (2.0, span(ids[5], root=True)),
    )
    assert [fate.threshold for fate in found] == [0, 0, 0, 0, 0xC << 52, 0xCCCD << 40]  # 1 in 4; a half of 1 in 2.5


def test_what_late_spans_count_does_not_depend_on_r() -> None:
    rules = Rules((ERRORS, Rule("half", ratio=0.5, spans=("read",)), KEEP), kept_spans_per_second=0.1)
    found = []
    for trace_id in (TRACE, LOW_TRACE):
        late = [(6.5 + 0.01 * at, span(trace_id)) for at in range(10)]
        last = fates(rules, (1, span(trace_id)), *late, (8, span(b"\2" * 9 + bytes(7), status=2)))[-1].decision
        assert last is not None
        found.append(last.threshold)
    assert found[0] == found[1] > 0
