"""Rules on random traces: a plain sampler as the oracle, and that nothing is decided by R but what is kept."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drain.sampling.rules import DEFAULT, AttributeTest, Rule, Rules, of_ratio
from drain.sampling.sampler import Fate, Sampler, Why
from drain.sampling.seen_span import SeenSpan
from drain.sampling.trace_state import Stated
from ringbuf.sampling import THRESHOLDS, threshold_of
from tests.examples import examples
from tests.seeds import drawn_seed

SECOND: Final = 10**9
SIGMAS: Final = 7  # where `make prove` draws another seed each time: of 10^9 sound runs none is to fail
Arrivals = list[tuple[int, SeenSpan]]


class Verdict(NamedTuple):
    """What became of a trace; `why` and `at_nano` say when."""

    rule: int
    threshold: int
    why: Why
    at_nano: int


# ---- the oracle: each trace by itself, over all that came; only the rates are of all traces ----


def ends_of(prefix: Arrivals, rules: Rules) -> tuple[int, Why]:
    """Return until when to wait after these arrivals."""
    roots = [at for at, span in prefix if not span.parent_span_id]
    entries = [at for at, span in prefix if span.parent_span_id and span.is_remote]
    found = [(prefix[0][0] + rules.wait_nano, Why.TIMEOUT)]
    if roots:
        found.append((roots[0] + rules.wait_after_root_nano, Why.ROOT))
    elif entries:
        found.append((entries[-1] + rules.wait_after_entry_nano, Why.ENTRY))
    least = min(at for at, _ in found)
    return next(end for end in found if end[0] == least)


def matching(spans: list[SeenSpan], rules: Rules) -> int:
    return [rule.is_catch_all or rule.matches(spans) for rule in rules.rules].index(True)


def decided(arrivals: Arrivals, rules: Rules) -> tuple[int, Why, int, int]:
    """Return which rule decides on a trace, why, when, and on how many of its spans."""
    for count in range(1, len(arrivals) + 1):
        spans = [span for _, span in arrivals[:count]]
        if matching(spans, rules) == 0:
            return 0, Why.RULE, arrivals[count - 1][0], count
        end, why = ends_of(arrivals[:count], rules)
        if count == len(arrivals) or arrivals[count][0] >= end:
            return matching(spans, rules), why, end, count
    raise AssertionError("a trace has spans")


def share_of(limit: float | None, events: list[tuple[int, float]], at_nano: int) -> float:
    """Return the share of the limit in what came in the ten seconds before the one of `at_nano`."""
    second = at_nano // SECOND
    seconds = min(10, second - min(at // SECOND for at, _ in events))
    came = sum(amount for at, amount in events if second - 10 <= at // SECOND < second)
    return 1.0 if limit is None or came <= limit * seconds else limit * seconds / came


def oracle(arrivals: Arrivals, rules: Rules) -> dict[bytes, Verdict]:
    by_trace: dict[bytes, Arrivals] = defaultdict(list)
    for at, span in arrivals:
        if span.is_sampled:
            by_trace[span.trace_id].append((at, span))
    found = {trace_id: decided(of_trace, rules) for trace_id, of_trace in by_trace.items()}
    shares: dict[bytes, float] = {}
    for trace_id, (index, _, at, _) in found.items():
        matched = [(other_at, 1.0) for other, _, other_at, _ in found.values() if other == index]
        rule = rules.rules[index]
        shares[trace_id] = rule.ratio * share_of(rule.traces_per_second, matched, at)
    wanted = [(at, count * shares[trace_id]) for trace_id, (_, _, at, count) in found.items()]
    for trace_id, (_, _, _, count) in found.items():
        wanted += [(at, shares[trace_id]) for at, _ in by_trace[trace_id][count:]]
    verdicts = {}
    for trace_id, (index, why, at, _) in found.items():
        share = shares[trace_id] * share_of(rules.kept_spans_per_second, wanted, at)
        verdicts[trace_id] = Verdict(index, threshold_of(share) if share * THRESHOLDS >= 1 else THRESHOLDS, why, at)
    return verdicts


# ---- what is drawn ----

SPAN, TRACE = b"\1" * 8, bytes(8)
states = st.sampled_from([Stated(), Stated(0), Stated(1 << 55), Stated(0xE666 << 40), Stated(is_malformed=True)])
states_with_rv = st.sampled_from([Stated(0, 1 << 55), Stated(None, 0), Stated(1 << 55, THRESHOLDS - 1)])
randoms = st.integers(0, THRESHOLDS - 1) | st.sampled_from([0, 1 << 55, (1 << 55) - 1, THRESHOLDS - 1])


@st.composite
def arriving(draw: st.DrawFn, *, alone: bool = False, rv: bool = False) -> Arrivals:
    """Draw spans of a few traces, in the order in which they come; the first nine bytes of an id say which trace.

    With `alone` some are their whole trace; with `rv` some state their randomness.
    """
    ids = [number.to_bytes(9, "big") + draw(randoms).to_bytes(7, "big") for number in range(1, draw(st.integers(2, 7)))]
    at = draw(st.integers(0, 3)) * SECOND
    arrivals = []
    for number, trace_id in enumerate(draw(st.lists(st.sampled_from(ids), min_size=1, max_size=25)), 1):
        at += draw(st.sampled_from([0, 0, 1, SECOND // 3, SECOND, 4 * SECOND]))
        duration = draw(st.sampled_from([0, 10, 2 * SECOND]))
        is_alone = alone and draw(st.integers(0, 4)) == 0
        span = SeenSpan(
            (number << 32).to_bytes(9, "big") + trace_id[9:] if is_alone else trace_id,
            b"" if is_alone else draw(st.sampled_from([b"", SPAN, SPAN, SPAN])),
            draw(st.sampled_from(["shop", "store"])),
            draw(st.sampled_from(["read", "write", "flush"])),
            draw(st.integers(0, 5)),
            draw(st.sampled_from([0, 0, 0, 1, 2])),
            max(0, at - duration),
            at,
            {"hit": draw(st.booleans()), "n": draw(st.integers(0, 3))},
            is_remote=draw(st.booleans()),
            is_sampled=draw(st.sampled_from([True, True, True, False])),
            says=draw(states | states_with_rv if rv else states),
            is_alone=is_alone,
        )
        arrivals.append((at, span))
    return arrivals


conditions = st.fixed_dictionaries(
    {},
    optional={
        "statuses": st.just(frozenset({2})),
        "kinds": st.just(frozenset({1, 2, 3})),
        "spans": st.sampled_from([("read",), ("w*", "flu?h")]),
        "services": st.just(("st*",)),
        "longer_than_nano": st.just(SECOND),
        "attributes": st.sampled_from(
            [(AttributeTest("hit", (True,)),), (AttributeTest("n", at_least=1, at_most=2), AttributeTest("n", (2, 3)))]
        ),
        "trace_longer_than_nano": st.just(3 * SECOND),
        "trace_spans_at_least": st.integers(1, 4),
    },
)
actions = st.sampled_from(
    [{}, {"ratio": 0.0}, {"ratio": 0.5}, {"ratio": 0.01}, {"traces_per_second": 0.2}, {"traces_per_second": 1.0}]
)


def made(
    given: list[tuple[dict[str, Any], dict[str, Any]]],
    default: float,
    bound: float | None,
    is_open: bool,
    waits: tuple[int, int, int],
) -> Rules:
    rules = [Rule(f"r{at}", **where, **action) for at, (where, action) in enumerate(given)]
    return Rules(
        (*rules, Rule(DEFAULT, ratio=default)),
        wait_nano=waits[0],
        wait_after_root_nano=waits[1],
        wait_after_entry_nano=waits[2],
        is_head_open=is_open,
        kept_spans_per_second=bound,
    )


drawn_rules = st.builds(
    made,
    st.lists(st.tuples(conditions, actions), max_size=3),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([None, None, 0.5, 3.0]),
    st.booleans(),
    st.sampled_from([(5 * SECOND, SECOND // 2, 2 * SECOND), (SECOND, SECOND, SECOND), (3 * SECOND, 0, 0)]),
)


def run(arrivals: Arrivals, rules: Rules) -> list[Fate]:
    sampler = Sampler(rules)
    fates = [fate for at, span in arrivals for fate in sampler.take(span, at)]
    return [*fates, *sampler.decide_due()]


def verdicts_of(fates: list[Fate]) -> dict[bytes, Verdict]:
    return {fate.span.trace_id: Verdict(*fate.decision) for fate in fates if fate.decision is not None}


# ---- the properties ----


@settings(max_examples=examples(400))
@given(arriving(), drawn_rules)
def test_each_trace_is_decided_as_the_oracle_decides_it(arrivals: Arrivals, rules: Rules) -> None:
    found, expected = verdicts_of(run(arrivals, rules)), oracle(arrivals, rules)
    assert found.keys() == expected.keys()
    for trace_id, verdict in expected.items():
        assert (found[trace_id].rule, *found[trace_id][2:]) == (verdict.rule, *verdict[2:])
        # The sums of a rate may differ in their last bit, by the order in which they are added up.
        assert found[trace_id].threshold == pytest.approx(verdict.threshold, rel=1e-3)


@settings(max_examples=examples(400))
@given(arriving(), drawn_rules, st.lists(randoms, min_size=7, max_size=7))
def test_rule_threshold_and_time_do_not_depend_on_r(arrivals: Arrivals, rules: Rules, others: list[int]) -> None:
    def other(span: SeenSpan) -> SeenSpan:
        number = int.from_bytes(span.trace_id[:9], "big")
        fields = {name: getattr(span, name) for name in SeenSpan.__slots__}
        return SeenSpan(**fields | {"trace_id": span.trace_id[:9] + others[number].to_bytes(7, "big")})

    before = verdicts_of(run(arrivals, rules))
    after = verdicts_of(run([(at, other(span)) for at, span in arrivals], rules))
    assert {trace_id[:9]: verdict for trace_id, verdict in before.items()} == {
        trace_id[:9]: verdict for trace_id, verdict in after.items()
    }


@settings(max_examples=examples(400))
@given(arriving(), drawn_rules)
def test_each_span_has_one_fate_and_states_what_is_true(arrivals: Arrivals, rules: Rules) -> None:
    fates = run(arrivals, rules)
    assert sorted(id(fate.span) for fate in fates) == sorted(id(span) for _, span in arrivals)
    kept: dict[bytes, set[tuple[bool, int | None]]] = defaultdict(set)
    for fate in fates:
        if fate.decision is None:
            assert not fate.span.is_sampled
            assert not fate.is_kept
            continue
        random_value = int.from_bytes(fate.span.trace_id[9:], "big")
        own = fate.span.says.threshold
        if own is not None and random_value >= own:
            assert not fate.is_kept or fate.threshold is not None
            assert fate.threshold is None or fate.threshold >= own  # never lower
        if fate.is_kept_for_itself:
            assert fate.is_late
            assert random_value < fate.decision.threshold or random_value < (fate.threshold or 0) or own is None
            continue
        if fate.threshold is not None:
            assert fate.is_kept
            assert fate.threshold >= fate.decision.threshold
            assert random_value >= fate.threshold
        if fate.is_kept:
            assert random_value >= fate.decision.threshold
        elif random_value >= fate.decision.threshold:
            assert max(span.says.threshold or 0 for _, span in arrivals) > random_value or own is not None
        kept[fate.span.trace_id].add((fate.is_kept, None))
    # Whole, or wholly out.
    assert all(len(found) == 1 for found in kept.values())


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_what_is_kept_stands_for_all(ratio: float) -> None:
    seed, count = drawn_seed(), 20_000
    source = np.random.default_rng(seed)
    arrivals = [
        (at, SeenSpan(source.bytes(16), b"", "shop", "read", 1, 0, at, at, {}, says=Stated(0))) for at in range(count)
    ]
    kept = [fate.threshold for fate in run(arrivals, of_ratio(ratio)) if fate.is_kept]
    assert None not in kept
    estimate = sum(THRESHOLDS / (THRESHOLDS - (threshold or 0)) for threshold in kept)
    assert abs(estimate - count) < 5 * math.sqrt(count * (1 - ratio) / ratio), f"seed {seed}"


@pytest.mark.parametrize("rate", [5, 50, pytest.param(1000, marks=pytest.mark.prove)])
def test_a_rate_keeps_its_number_in_the_mean(rate: int) -> None:
    seed, seconds = drawn_seed(), 60
    source = np.random.default_rng(seed)
    every = SECOND // rate
    arrivals = [
        (at, SeenSpan(source.bytes(16), b"", "shop", "read", 1, 2, at, at, {}, says=Stated(0)))
        for at in range(0, seconds * SECOND, every)
    ]
    rules = Rules((Rule("errors", statuses=frozenset({2}), traces_per_second=10), Rule(DEFAULT, ratio=0.0)))
    kept = [fate for fate in run(arrivals, rules) if fate.is_kept and fate.span.end_unix_nano >= SECOND]
    expected = (seconds - 1) * min(rate, 10)
    assert abs(len(kept) - expected) <= (0 if rate <= 10 else SIGMAS * math.sqrt(expected)), f"seed {seed}"
    # Also where it changes all the time what is kept stands for all.
    estimate = sum(THRESHOLDS / (THRESHOLDS - (fate.threshold or 0)) for fate in kept)
    variance = sum((THRESHOLDS / (THRESHOLDS - (fate.threshold or 0))) ** 2 for fate in kept)
    assert abs(estimate - (seconds - 1) * rate) <= SIGMAS * math.sqrt(variance), f"seed {seed}"
