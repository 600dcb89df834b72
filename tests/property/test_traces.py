"""The trace table against the plain sampler: random traces over several rings and layouts, rules, waits, late spans."""

from __future__ import annotations

import secrets
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.sampler import Sampler, Why
from drain.sampling.seen_records import RecordLooker
from drain.sampling.seen_span import SeenSpan
from drain.sampling.trace_state import Stated
from drain.sampling.traces import WHYS, Traces
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.sampling import THRESHOLDS
from tests.examples import examples
from tests.property.strategies import make_records
from tests.property.test_sampling import SECOND, arriving, drawn_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from drain.sampling.traces import Counts

NAMES: Final = ["flush", "read", "write"]
PLAIN: Final = SpanLayout(span_names=NAMES, attributes=[Attribute("n", "u8"), Attribute("hit", "bool")])
CARRYING: Final = SpanLayout(
    span_names=[*NAMES, "other"],
    attributes=[Attribute("hit", "bool"), Attribute("otlp", "otlp", 200), Attribute("n", "i64")],
)
FOREVER: Final = 1 << 62


class Outcome(NamedTuple):
    """What became of a span, whoever decided it."""

    rule: int | None
    why: Why | None
    is_kept: bool
    threshold: int | None
    is_late: bool
    is_for_itself: bool
    random: int | None


class Ring:
    """A ring of spans, of one service and layout, as the table sees it."""

    def __init__(self, table: Traces, rules: Rules, layout: SpanLayout, service: str) -> None:
        self.origin = table.join()
        self.layout = layout
        self.looker = RecordLooker(rules, layout, service)

    def records(self, spans: list[SeenSpan]) -> np.ndarray[Any, np.dtype[np.void]]:
        rows: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        for span in spans:
            core: dict[str, Any] = {
                "start_unix_nano": span.start_unix_nano,
                "end_unix_nano": span.end_unix_nano,
                "trace_id": span.trace_id,
                "span_id": b"\2" * 8,
                "parent_span_id": span.parent_span_id or bytes(8),
                "name": self.layout.name_index(span.name),
                "kind": span.kind,
                "status": span.status,
                "flags": 0x100 | 0x200 * span.is_remote | span.is_sampled,
            }
            values: dict[str, Any] = dict(span.attributes)
            if self.layout is CARRYING:
                core["name"] = 3
                carried = Span(trace_state=text_of(span.says), name=span.name)
                values["otlp"] = carried.SerializeToString()
            rows.append((core, values))
        records = make_records(self.layout, rows)
        for record, span in zip(records, spans, strict=True):
            record["present"] |= np.uint32(lib.RB_PRESENT_ALONE * span.is_alone)
        return records


def table_of(rules: Rules, *, traces: int = 64, spans: int = 256, decided: int = 64) -> Traces:
    return Traces(rules, secrets.token_bytes(16), traces=traces, spans=spans, decided=decided, look=64)


def text_of(says: Stated) -> str:
    if says.is_malformed:
        return "ot=th:x"
    parts = [] if says.threshold is None else [f"th:{says.threshold:014x}"]
    parts += [] if says.randomness is None else [f"rv:{says.randomness:014x}"]
    return "ot=" + ";".join(parts) if parts else ""


class Fixture:
    """A table with rings, which is given arrivals and told what became of each."""

    def __init__(self, rules: Rules, **rooms: int) -> None:
        self.rules = rules
        self.table = table_of(rules, **rooms)
        self.rings = {
            (service, layout): Ring(self.table, rules, layout, service)
            for service in ("shop", "store")
            for layout in (PLAIN, CARRYING)
        }
        self.outcomes: dict[int, Outcome] = {}
        self.malformed = 0

    def run(self, arrivals: list[tuple[int, SeenSpan]]) -> dict[int, Outcome]:
        numbered = list(enumerate(arrivals))
        for (at, ring), together in groupby(numbered, lambda item: (item[1][0], self._ring_of(item[1][1]))):
            self._look(at, ring, [(number, span) for number, (_, span) in together])
        self.table.decide_due(FOREVER)
        self._take()
        return self.outcomes

    def _ring_of(self, span: SeenSpan) -> Ring:
        return self.rings[span.service, PLAIN if text_of(span.says) == "" else CARRYING]

    def _look(self, at: int, ring: Ring, numbered: list[tuple[int, SeenSpan]]) -> None:
        self.table.decide_due(at)
        self._take()
        records = ring.records([span for _, span in numbered])
        seen = ring.looker.look(records)
        self.malformed += seen.malformed
        looked = self.table.look(ring.origin, records, seen.masks, at, thresholds=seen.thresholds, randoms=seen.randoms)
        places = np.array([number for number, _ in numbered], np.uint64)
        for place, bits, stated, drew in zip(places, *looked.fates, strict=True):
            if bits & lib.RB_FATE_SETTLED:
                self._settle(int(place), int(bits), int(stated), int(drew))
        assert (looked.fates.is_settled == (looked.spans == 2**32 - 1)).all()
        assert np.flatnonzero(~looked.fates.is_settled | looked.fates.is_kept).tolist() == looked.held.tolist()
        self.table.place(looked, places[looked.held])
        self._take()

    def _take(self) -> None:
        settled = self.table.take()
        if settled is None:
            return
        assert (settled.fates.is_kept == (np.arange(len(settled.places)) < settled.kept)).all()
        for place, bits, stated, drew in zip(settled.places, *settled.fates, strict=True):
            self._settle(int(place), int(bits), int(stated), int(drew))

    def _settle(self, place: int, bits: int, stated: int, drew: int) -> None:
        assert place not in self.outcomes
        unsampled = bits & lib.RB_FATE_UNSAMPLED
        self.outcomes[place] = Outcome(
            None if unsampled else bits & lib.RB_FATE_RULE,
            None if unsampled else WHYS[bits >> lib.RB_FATE_WHY_SHIFT & 0xF],
            bool(bits & lib.RB_FATE_KEPT),
            stated - 1 if stated else None,
            bool(bits & lib.RB_FATE_LATE),
            bool(bits & lib.RB_FATE_ITSELF),
            drew - 1 if drew else None,
        )


def by_oracle(arrivals: list[tuple[int, SeenSpan]], rules: Rules) -> dict[int, Outcome]:
    sampler = Sampler(rules)
    numbers = {id(span): number for number, (_, span) in enumerate(arrivals)}
    fates = [fate for at, span in arrivals for fate in sampler.take(span, at)]
    fates += sampler.decide_due()
    late = {id(fate.span) for fate in fates if fate.is_late}
    stated: dict[bytes, int] = {}
    for _, span in arrivals:
        if span.says.randomness is not None and span.is_sampled and id(span) not in late:
            stated.setdefault(span.trace_id, span.says.randomness)
    return {
        numbers[id(fate.span)]: Outcome(
            fate.decision and fate.decision.rule,
            fate.decision and fate.decision.why,
            fate.is_kept,
            fate.threshold,
            fate.is_late,
            fate.is_kept_for_itself,
            fate.decision and stated.get(fate.span.trace_id),
        )
        for fate in fates
    }


def assert_counts_are_of(outcomes: Collection[Outcome], counts: Counts) -> None:
    spans = Counter((outcome.rule, outcome.is_kept) for outcome in outcomes)
    assert [(rule.kept_spans, rule.dropped_spans) for rule in counts.rules] == [
        (spans[at, True], spans[at, False]) for at in range(len(counts.rules))
    ]
    assert counts.unsampled == spans[None, False]


@settings(max_examples=examples(150))
@given(arriving(alone=True, rv=True), drawn_rules)
def test_the_table_decides_as_the_sampler(arrivals: list[tuple[int, SeenSpan]], rules: Rules) -> None:
    fixture = Fixture(rules)
    found, expected = fixture.run(arrivals), by_oracle(arrivals, rules)
    assert found.keys() == expected.keys()
    for number, outcome in expected.items():
        assert found[number]._replace(threshold=None) == outcome._replace(threshold=None)
        # The sums of a rate may differ in their last bit, by the order in which they are added up.
        assert (found[number].threshold is None) == (outcome.threshold is None)
        assert (found[number].threshold or 0) == pytest.approx(outcome.threshold or 0, rel=1e-3)
    counts = fixture.table.counts()
    assert (counts.waiting_spans, counts.waiting_traces, counts.forgotten) == (0, 0, 0)
    assert counts.late == sum(outcome.is_late for outcome in expected.values())
    assert counts.late_kept == sum(outcome.is_for_itself for outcome in expected.values())
    assert_counts_are_of(expected.values(), counts)
    assert fixture.malformed == sum(span.says.is_malformed for _, span in arrivals)


@settings(max_examples=examples(60))
@given(arriving(), drawn_rules)
def test_decisions_are_told_once_and_say_when(arrivals: list[tuple[int, SeenSpan]], rules: Rules) -> None:
    fixture = Fixture(rules)
    fixture.run(arrivals)
    sampler = Sampler(rules)
    fates = [fate for at, span in arrivals for fate in sampler.take(span, at)]
    expected = {
        fate.span.trace_id: (fate.decision.rule, fate.decision.why, fate.decision.at_nano)
        for fate in [*fates, *sampler.decide_due()]
        if fate.decision is not None
    }
    decided = fixture.table.decided()
    assert {bytes(one["id"]): (int(one["rule"]), WHYS[one["why"]], int(one["at_nano"])) for one in decided} == expected
    assert len(decided) == len(expected)
    assert len(fixture.table.decided()) == 0
    traces = Counter((rule, why) for rule, why, _ in expected.values())
    is_kept = decided["random"] >= np.maximum(decided["threshold"], decided["known"] - np.minimum(decided["known"], 1))
    for at, counted in enumerate(fixture.table.counts().rules):
        assert counted.traces == {why: traces[at, why] for why in WHYS}
        assert counted.kept_traces == (is_kept & (decided["rule"] == at)).sum()


@settings(max_examples=examples(100))
@given(arriving(rv=True), drawn_rules, st.integers(1, 4), st.integers(1, 6), st.integers(1, 4))
def test_with_no_room_every_span_is_settled_once(
    arrivals: list[tuple[int, SeenSpan]], rules: Rules, traces: int, spans: int, decided: int
) -> None:
    fixture = Fixture(rules, traces=traces, spans=spans, decided=decided)
    found = fixture.run(arrivals)
    assert found.keys() == set(range(len(arrivals)))
    counts = fixture.table.counts()
    assert (counts.waiting_spans, counts.waiting_traces) == (0, 0)
    for number, (_, span) in enumerate(arrivals):
        assert (found[number].rule is None) == (not span.is_sampled)
        assert found[number].threshold is None or found[number].is_kept


def test_thresholds_are_below_2_to_56() -> None:
    table = table_of(Rules((Rule(DEFAULT, ratio=0.0),)))
    table.decide_due(SECOND)
    table.look(table.join(), np.empty(0, PLAIN.dtype), np.empty(0, np.uint64), SECOND)
    assert [choice.threshold for choice in table.thresholds()] == [THRESHOLDS]


def test_a_wait_of_nothing_is_over_before_the_next_span_of_the_same_look() -> None:
    rules = Rules((Rule("errors", statuses=frozenset({2})), Rule(DEFAULT)), wait_after_root_nano=0)
    root, child = (
        SeenSpan(b"\1" * 16, parent, "shop", "read", 1, 0, 1, 2, {"hit": True, "n": 1}) for parent in (b"", b"\1" * 8)
    )
    arrivals = [(SECOND, root), (SECOND, child)]
    found = Fixture(rules).run(arrivals)
    assert found == by_oracle(arrivals, rules)
    assert [found[number].is_late for number in range(2)] == [False, True]


class Edge(NamedTuple):
    """Spans of one trace, as (second at which it comes, what it is), and what is expected of each."""

    comes: list[tuple[float, dict[str, Any]]]
    whys: list[Why | None]
    randoms: Sequence[int | None] = ()
    is_late: Sequence[bool] = ()
    is_for_itself: Sequence[bool] = ()
    ratio: float = 0.0  # of what is no error
    is_kept: list[bool] | None = None


CHILD: Final[dict[str, Any]] = {"parent_span_id": b"\1" * 8}
ROOT: Final[dict[str, Any]] = {"parent_span_id": b""}
ENTRY: Final = CHILD | {"is_remote": True}
FAILED: Final = CHILD | {"status": 2}
RV: Final = {"says": Stated(randomness=7)}
HIGHEST: Final = {"says": Stated(randomness=THRESHOLDS - 1)}  # that of the id is low

EDGES: Final = {
    "the root's wait ends with the first span's": Edge([(1, CHILD), (5.5, ROOT)], [Why.TIMEOUT, Why.TIMEOUT]),
    "and just before it": Edge([(1, CHILD), (5.4, ROOT)], [Why.ROOT, Why.ROOT]),
    "the entry's wait ends with the first span's": Edge([(1, CHILD), (4, ENTRY)], [Why.TIMEOUT, Why.TIMEOUT]),
    "and just before it, too": Edge([(1, CHILD), (3.9, ENTRY)], [Why.ENTRY, Why.ENTRY]),
    "an entry after the root": Edge([(1, ROOT), (1.4, ENTRY)], [Why.ROOT, Why.ROOT]),
    "an entry after an entry": Edge([(1, ENTRY), (2.9, ENTRY)], [Why.ENTRY, Why.ENTRY]),
    "a span that waits states the randomness of all": Edge(
        [(1, CHILD | RV), (1, CHILD), (2, ROOT)], [Why.ROOT] * 3, randoms=[7, 7, 7]
    ),
    "and where the last decides": Edge([(1, CHILD | RV), (2, FAILED)], [Why.RULE] * 2, randoms=[7, 7]),
    "where the one that decides states it": Edge([(1, CHILD), (2, FAILED | RV)], [Why.RULE] * 2, randoms=[7, 7]),
    "late spans have it, too": Edge(
        [(1, CHILD | RV), (9, CHILD)], [Why.TIMEOUT] * 2, randoms=[7, 7], is_late=[False, True]
    ),
    "and go by it": Edge(
        [(1, CHILD | HIGHEST), (9, CHILD)],
        [Why.TIMEOUT] * 2,
        randoms=[THRESHOLDS - 1] * 2,
        is_late=[False, True],
        ratio=0.5,
        is_kept=[True, True],
    ),
    "and without one by that of the id": Edge(
        [(1, CHILD), (9, CHILD)], [Why.TIMEOUT] * 2, is_late=[False, True], ratio=0.5, is_kept=[False, False]
    ),
    "a late error of a dropped trace is kept for itself, and nothing else": Edge(
        [(1, CHILD), (9, FAILED), (9, CHILD)],
        [Why.TIMEOUT] * 3,
        is_late=[False, True, True],
        is_for_itself=[False, True, False],
    ),
    "a span that is its whole trace": Edge([(1, ROOT | {"is_alone": True})], [Why.ALONE]),
    "and meets the first rule": Edge([(1, ROOT | {"is_alone": True, "status": 2})], [Why.RULE]),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_wait_or_a_statement_at_its_edge_is_decided_as_by_the_sampler(name: str) -> None:
    edge = EDGES[name]
    rules = Rules((Rule("errors", statuses=frozenset({2})), Rule(DEFAULT, ratio=edge.ratio)))
    arrivals = [
        (
            round(at * SECOND),
            SeenSpan(
                *(b"\1" * 16, made["parent_span_id"], "shop", "read", 1, made.get("status", 0), 1, 2),
                {"hit": True, "n": 1},
                **{key: made[key] for key in ("is_remote", "says", "is_alone") if key in made},
            ),
        )
        for at, made in edge.comes
    ]
    found = Fixture(rules).run(arrivals)
    assert found == by_oracle(arrivals, rules)
    every = [found[number] for number in range(len(arrivals))]
    assert [one.why for one in every] == edge.whys
    assert [one.random for one in every] == (edge.randoms or [None] * len(every))
    assert [one.is_late for one in every] == (edge.is_late or [False] * len(every))
    assert edge.is_kept is None or [one.is_kept for one in every] == edge.is_kept
    assert [one.is_for_itself for one in every] == (edge.is_for_itself or [False] * len(every))
