"""What the Collector's documents and the OpenTelemetry specification say becomes of a trace, as cases.

Expected values are from these, not from our code:

- Collector contrib, processor/tailsamplingprocessor/README.md: policies, decision_wait, "Late-Arriving Spans";
- OpenTelemetry specification, trace/tracestate-probability-sampling.md: "General requirements", "Equalizing downstream
  sampler", the example of 1 %; trace/tracestate-handling.md: `th` and `rv`.

The table has where we differ on purpose, too, each with what the Collector does.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final, NamedTuple

import pytest

from drain.sampling.rules_file import rules_of
from drain.sampling.sampler import Fate, Sampler
from drain.sampling.seen_span import SeenSpan
from drain.sampling.trace_state import stated, with_threshold

MS: Final = 1_000_000
SECOND: Final = 1000 * MS
OK, ERROR, UNSET = 1, 2, 0
HIGHEST, LOWEST = b"\1" * 9 + b"\xff" * 7, b"\1" * 9 + bytes(7)


def span(
    at: float = 0,
    *,
    trace: bytes = LOWEST,
    status: int = UNSET,
    start: int = 0,
    end: int = 0,
    service: str = "service-1",
    state: str = "",
    is_root: bool = False,
    **attributes: Any,
) -> tuple[float, SeenSpan]:
    """Return when it comes, in seconds, and a span."""
    parent = b"" if is_root else b"\2" * 8
    made = SeenSpan(trace, parent, service, "work", 1, status, start, end, attributes, says=stated(state))
    return at, made


def fates(rules: str, *arrivals: tuple[float, SeenSpan]) -> list[Fate]:
    """Return what became of spans, in the order in which they came."""
    sampler = Sampler(rules_of(tomllib.loads(rules)["sampling"]))
    found = [fate for at, one in arrivals for fate in sampler.take(one, round(at * SECOND))]
    found += sampler.decide_due()
    return [next(fate for fate in found if fate.span is one) for _, one in arrivals]


class Policy(NamedTuple):
    """A policy of the Collector, the rules that say the same, and traces with what becomes of them by its document."""

    rules: str
    sampled: list[list[tuple[float, SeenSpan]]]
    not_sampled: list[list[tuple[float, SeenSpan]]]


def rule(body: str) -> str:
    return f'[sampling]\n[[sampling.rule]]\nname = "policy"\n{body}\n'


POLICIES: Final = {
    "always_sample": Policy('[sampling]\ndefault = "keep"\n', [[span()], [span(trace=HIGHEST)]], []),
    # "Sample based upon the status code": of any span.
    "status_code: [ERROR, UNSET]": Policy(
        rule('status = ["error", "unset"]'),
        [[span(status=ERROR)], [span(status=OK), span(status=UNSET)]],
        [[span(status=OK)], [span(status=OK), span(status=OK)]],
    ),
    # "The earliest start time and latest end time, without taking into consideration what happened in between."
    "latency: {threshold_ms: 5000}": Policy(
        rule('trace_longer_than = "5s"'),
        [
            [span(start=0, end=5001 * MS)],
            [span(start=0, end=MS), span(start=9000 * MS, end=9001 * MS)],
            [span(start=9000 * MS, end=9001 * MS), span(start=0, end=MS)],
        ],
        [[span(start=0, end=5000 * MS)], [span(start=0, end=4000 * MS), span(start=MS, end=4999 * MS)]],
    ),
    # "Sample a percentage of traces", by the trace id: the same whatever else they have.
    "probabilistic: {sampling_percentage: 10}": Policy(
        rule("ratio = 0.1"), [[span(trace=HIGHEST)], [span(trace=HIGHEST, status=ERROR)]], [[span(trace=LOWEST)]]
    ),
    "probabilistic: {sampling_percentage: 100}": Policy(rule("ratio = 1"), [[span(trace=LOWEST)]], []),
    "probabilistic: {sampling_percentage: 0}": Policy(rule("ratio = 0"), [], [[span(trace=HIGHEST)]]),
    "string_attribute: {key: key2, values: [value1, value2]}": Policy(
        rule('attributes = { key2 = ["value1", "value2"] }'),
        [[span(key2="value1")], [span(), span(key2="value2")]],
        [[span(key2="value")], [span(key3="value1")], [span(key2=1)], [span()]],
    ),
    "string_attribute of the resource, by a pattern: {key: service.name, values: [service-.*]}": Policy(
        rule('service = "service-*"'), [[span(service="service-9")]], [[span(service="store")]]
    ),
    # "By min_value and/or max_value": both are inclusive in the example {min_value: 50, max_value: 100}.
    "numeric_attribute: {key: key1, min_value: 50, max_value: 100}": Policy(
        rule("attributes = { key1 = { at_least = 50, at_most = 100 } }"),
        [[span(key1=50)], [span(key1=100)], [span(key1=49), span(key1=51)]],
        [[span(key1=49)], [span(key1=101)], [span(key1=49), span(key1=101)], [span(key1="50")]],
    ),
    "boolean_attribute: {key: key4, value: true}": Policy(
        rule("attributes = { key4 = true }"), [[span(key4=True)]], [[span(key4=False)], [span(key4=1)], [span()]]
    ),
    # "Inclusive. If the sum of all spans in the trace is outside the range, the trace will not be sampled."
    "span_count: {min_spans: 2}": Policy(
        rule("trace_spans_at_least = 2"), [[span(), span()], [span(), span(), span()]], [[span()]]
    ),
    # "Creates an AND policy"; of both by one span.
    "and: [numeric_attribute, string_attribute]": Policy(
        rule('attributes = { key1 = { at_least = 50 }, key2 = "value1" }'),
        [[span(key1=50, key2="value1")]],
        [[span(key1=50)], [span(key2="value1")], [span(key1=49, key2="value1")]],
    ),
    "and: [status_code, probabilistic]": Policy(
        rule('status = "error"\nratio = 0.01'),
        [[span(trace=HIGHEST, status=ERROR)]],
        [[span(trace=LOWEST, status=ERROR)], [span(trace=HIGHEST)]],
    ),
    # "When there's a drop decision, the trace is not sampled", whatever else samples it: here it stands first.
    "drop: [string_attribute]": Policy(
        rule('attributes = { path = ["/health"] }\nratio = 0\n[[sampling.rule]]\nname = "errors"\nstatus = "error"'),
        [[span(status=ERROR, path="/work")]],
        [[span(path="/health")], [span(status=ERROR, path="/health")], [span(status=ERROR), span(path="/health")]],
    ),
    # "When there's a sample decision, the trace is sampled": policies that do not sample it do not matter.
    "several policies": Policy(
        rule('status = "error"\n[[sampling.rule]]\nname = "slow"\nlonger_than = "1s"'),
        [[span(status=ERROR)], [span(end=2 * SECOND)], [span(status=ERROR, end=2 * SECOND)]],
        [[span()]],
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_what_a_policy_samples_a_rule_keeps_whole(name: str) -> None:
    rules, sampled, not_sampled = POLICIES[name]
    for trace in sampled:
        assert {fate.is_kept for fate in fates(rules, *trace)} == {True}
    for trace in not_sampled:
        assert {fate.is_kept for fate in fates(rules, *trace)} == {False}


WAIT: Final = '[sampling]\nwait = "10s"\nwait_after_root = "10s"\nwait_after_entry = "10s"\n'
SLOW: Final = (
    WAIT
    + '[[sampling.rule]]\nname = "slow"\ntrace_longer_than = "1s"\n[[sampling.rule]]\nname = "e"\nstatus = "error"\n'
)


def test_decision_wait_is_from_the_first_span_of_a_trace() -> None:
    first, second, last = fates(SLOW, span(1), span(10.9, status=ERROR), span(11.1))
    assert first.decision is not None
    assert (first.decision.at_nano, first.is_kept, second.is_kept) == (11 * SECOND, True, True)
    assert (last.is_late, last.is_kept) == (True, True)


@pytest.mark.parametrize("is_kept", [True, False])
def test_late_spans_inherit_the_decision_and_do_not_influence_it(is_kept: bool) -> None:
    _, late, later = fates(SLOW, span(1, status=ERROR * is_kept), span(12), span(30, end=5))
    assert [(one.is_late, one.is_kept) for one in (late, later)] == [(True, is_kept)] * 2


def test_unlike_the_collector_a_late_error_of_a_dropped_trace_is_kept_for_itself_and_says_so() -> None:
    """There it is dropped with its trace; here the trace stays out, so that what is kept stands for all."""
    drops = rule('attributes = { path = "/health" }\nratio = 0\n[[sampling.rule]]\nname = "e"\nstatus = "error"')
    for rules, begin in ((SLOW, span(1)), (drops, span(1, path="/health"))):
        first, late = fates(rules, begin, span(12, status=ERROR))
        assert (first.is_kept, late.is_kept, late.is_kept_for_itself) == (False, True, True)


def test_unlike_sample_on_first_match_only_the_first_rule_decides_at_once() -> None:
    """There the first policy that matches in time does, so that which one decides depends on the order of the spans."""
    first, _ = fates(SLOW, span(1, status=ERROR), span(2, start=0, end=2 * SECOND))
    assert first.decision is not None
    assert (first.decision.rule, first.decision.at_nano) == (0, 2 * SECOND)


# ---- the specification ----

ONE_PERCENT: Final = "fd70a4"  # its example, of five digits of precision
INCOMING: Final = '[sampling]\nincoming = "{incoming}"\n[[sampling.rule]]\nname = "all"\nratio = {ratio}\nspan = "*"\n'


def test_its_one_percent_is_ours() -> None:
    assert stated(f"ot=th:{ONE_PERCENT}").threshold == 0xFD70A400000000
    (fate,) = fates(INCOMING.format(incoming="all", ratio=0.01), span(trace=HIGHEST))
    assert fate.threshold is not None
    assert f"{fate.threshold:014x}".startswith(ONE_PERCENT[:5])


@pytest.mark.parametrize(
    ("incoming", "ratio", "random", "is_kept", "outgoing"),
    [
        # "If T_s > T_d, the outbound threshold is unchanged, equal to T_s."
        ("ot=th:c", 0.5, "c0000000000000", True, "ot=th:c"),
        # R is at least T_d: "the span is selected using outbound threshold T_d".
        ("ot=th:8", 0.25, "c0000000000000", True, "ot=th:c"),
        ("ot=th:0", 0.25, "ffffffffffffff", True, "ot=th:c"),
        ("ot=th:c", 0.25, "c0000000000000", True, "ot=th:c"),
        # "Otherwise, R < T_d indicates that the span is not sampled."
        ("ot=th:8", 0.25, "bfffffffffffff", False, None),
        ("ot=th:0", 0.5, "7fffffffffffff", False, None),
        # "Sampling stages that yield spans with unknown sampling probability must erase the threshold."
        ("", 0.5, "80000000000000", True, ""),
        ("vendor=1", 0.5, "80000000000000", True, "vendor=1"),
        # "They should erase the threshold when it is apparently inconsistent": R is below th.
        ("ot=th:c", 1, "80000000000000", True, ""),
        ("ot=th:c,vendor=1", 1, "80000000000000", True, "vendor=1"),
        # "The identical rv value must be set", and it takes the place of the trace id.
        ("ot=th:0;rv:ffffffffffffff", 0.5, "00000000000000", True, "ot=th:8;rv:ffffffffffffff"),
        ("ot=th:0;rv:00000000000000", 0.5, "ffffffffffffff", False, None),
        ("ot=rv:ffffffffffffff", 0.5, "00000000000000", True, "ot=rv:ffffffffffffff"),
    ],
)
def test_a_downstream_sampler_equalizes(
    incoming: str, ratio: float, random: str, is_kept: bool, outgoing: str | None
) -> None:
    trace = b"\1" * 9 + bytes.fromhex(random)
    (fate,) = fates(INCOMING.format(incoming="unknown", ratio=ratio), span(trace=trace, state=incoming))
    assert fate.is_kept == is_kept
    if is_kept:
        found, expected = with_threshold(incoming, fate.threshold), outgoing or ""
        assert (stated(found), "vendor=1" in found) == (stated(expected), "vendor=1" in expected)
