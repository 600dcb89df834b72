"""Other rules come while traces wait: each trace stays under those under which it began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.sampler import Sampler
from ringbuf.dataplane import DATAPLANE_LAYOUT as LAYOUT
from ringbuf.exceptions import RingBufferError
from tests.seeds import drawn_seed
from tests.unit.service.deciding import ERRORS, OTHERS, RULES, SECOND, Bench, drawn, name_and_threshold, seen, span_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("bound", ["traces_per_second", "kept_spans_per_second"])
def test_while_a_reload_is_under_way_both_rules_keep_no_more_than_one_may(tmp_path: Path, bound: str) -> None:
    errors: dict[str, Any] = {"statuses": frozenset({2})}
    of_all: dict[str, Any] = {}
    (errors if bound == "traces_per_second" else of_all)[bound] = 10
    never, rest = Rule("never", spans=("no such",), ratio=0.5), Rule(DEFAULT, ratio=0.0)
    waits = Rules((never, Rule("errors", **errors), rest), **of_all)  # decides after 5 s
    at_once = Rules((Rule("errors", **errors), rest), **of_all)
    bench = Bench(tmp_path, waits)
    ring, source, numbers = bench.ring(1), np.random.default_rng(5), iter(range(10**6))
    kept = []
    for second in range(25):
        if second == 15:
            bench.late.renew(at_once)
        before = bench.late.on_their_way + len(bench.delivered)
        for _ in range(10):
            records = drawn(source, 10, 1, 0)
            records["trace_id"] = [np.frombuffer(source.bytes(16), np.uint8) for _ in range(10)]
            records["span_id"] = [np.frombuffer(next(numbers).to_bytes(8, "little"), np.uint8) for _ in range(10)]
            records["status"], records["parent_span_id"] = 2, 1
            bench.late.read(ring, 0, records, 0, 10, 0)
            bench.now_nano += SECOND // 10
            bench.late.decide(bench.now_nano)
        kept.append(bench.late.on_their_way + len(bench.delivered) - before)
        bench.deliver()
    assert sum(kept[10:15]) < 80, kept
    assert sum(kept[17:20]) < 48, f"twice 30 is what two bounds would keep: {kept}"
    bench.late.close()


def test_traces_that_have_begun_stay_under_their_rules(bench: Bench) -> None:
    """Late spans too, in which the rules that decided are long gone."""
    seed = drawn_seed()
    source, samplers = np.random.default_rng(seed), (Sampler(RULES), Sampler(OTHERS))
    under: dict[bytes, int] = {}
    came: dict[int, bytes] = {}
    fates = []
    rings = [bench.ring(1), bench.ring(2)]
    for look in range(90):
        at = 0 if look < 30 or look >= 60 else 1  # with as much time between as the longest wait
        bench.late.renew((RULES, OTHERS)[at])
        bench.now_nano += int(source.integers(0, SECOND // 2))
        records = drawn(source, int(source.integers(1, 40)), 25, look)
        spans = seen(records, f"service {1 + look % 2}")
        came |= {id(span): bytes(record["span_id"]) for span, record in zip(spans, records, strict=True)}
        for span in spans:
            fates += list(samplers[under.setdefault(span.trace_id, at)].take(span, bench.now_nano))
        bench.late.read(rings[look % 2], 0, records, look * 100, look * 100 + len(records), 0)
        bench.late.decide(bench.now_nano)
        bench.deliver()
        bench.check_law()
    bench.now_nano += 10 * SECOND
    for sampler in samplers:
        fates += list(sampler.decide_due())
    while bench.late.waiting:
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.check_law()
    names = [rule.name for rule in RULES.rules]
    expected = {
        came[id(fate.span)]: (names[fate.decision.rule], fate.threshold)
        for fate in fates
        if fate.is_kept and fate.decision is not None
    }
    assert {span_id: name_and_threshold(span) for span_id, span in bench.delivered.items()} == expected, f"seed {seed}"
    status = bench.late.status()
    assert list(status.rules) == names
    assert sum(sum(rule.traces.values()) for rule in status.rules.values()) == len(under), f"seed {seed}"
    assert sum(rule.kept_spans for rule in status.rules.values()) == len(expected)
    assert sum(rule.sampled_out_spans for rule in status.rules.values()) == len(came) - len(expected)
    assert (status.waiting_spans, status.waiting_traces, status.oldest_wait_seconds) == (0, 0, 0.0)


def test_of_rules_that_come_one_after_the_other_the_last_are_taken_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Rules((Rule("first"), Rule(DEFAULT))))
    ring = bench.ring(1)
    bench.late.renew(Rules((ERRORS, Rule("second"))))
    first, _, third, last = (Rules((ERRORS, Rule(name))) for name in ("first", "second", "third", "fourth"))
    bench.late.read(ring, 0, span_of(1), 0, 1, 0)
    bench.late.decide(bench.now_nano)
    bench.late.renew(first)  # its trace began under the second
    bench.late.renew(third)
    bench.late.renew(last)
    bench.late.read(ring, 0, span_of(2), 1, 2, 0)
    assert bench.late.rule_names == ["errors", "first", "second"]
    bench.now_nano += 6 * SECOND
    bench.late.decide(bench.now_nano)
    assert bench.late.rule_names == ["errors", "fourth", "first"]
    bench.late.read(ring, 0, span_of(3), 2, 3, 0)
    bench.now_nano += 6 * SECOND
    for _ in range(2):
        bench.late.decide(bench.now_nano)
        bench.now_nano += SECOND
    bench.deliver()
    assert {span_id[0]: name_and_threshold(span)[0] for span_id, span in bench.delivered.items()} == {
        1: "second",
        2: "first",
        3: "fourth",
    }


def test_without_memory_for_other_rules_those_in_effect_stay(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RingBufferError("no trace table")

    monkeypatch.setattr("drain.service.late_sampling.Traces", fail)
    bench.late.renew(OTHERS)
    assert bench.late.not_renewed == 1
    monkeypatch.undo()
    bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
    assert bench.late.rule_names == ["errors", "half", DEFAULT]
    bench.late.renew(OTHERS)
    assert bench.late.not_renewed == 1


def test_a_thousand_reloads_in_a_second_put_no_trace_under_two_rules(tmp_path: Path) -> None:
    """One each millisecond, while spans of a trace come for three of them and are decided after five."""

    def rules(number: int) -> Rules:
        never, every = Rule("never", trace_spans_at_least=99), Rule(f"rule {number}", spans=("*",))
        return Rules((never, every, Rule(DEFAULT, ratio=0.0)), 5 * SECOND // 1000, 5 * SECOND // 1000, SECOND // 1000)

    bench = Bench(tmp_path, rules(0), capacity_bytes=8 << 16)
    ring, count = bench.ring(1), 0
    for number in range(1000):
        bench.late.renew(rules(number))
        traces = np.arange(max(0, number - 2), number + 1, dtype=np.uint64) + 1
        records = np.zeros(len(traces), LAYOUT.dtype)
        records["trace_id"][:, 8:] = traces.view(np.uint8).reshape(-1, 8)
        spans = np.arange(count + 1, count + 1 + len(traces), dtype=np.uint64)
        records["span_id"] = spans.view(np.uint8).reshape(-1, 8)
        records["parent_span_id"], records["kind"], records["flags"] = 1, 1, 0x101
        bench.late.read(ring, 0, records, count, count + len(records), 0)
        count += len(records)
        bench.now_nano += SECOND // 1000
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.late.decide_all(bench.now_nano)
    while bench.deliver():
        bench.late.decide_all(bench.now_nano)
    assert len(bench.delivered) == count
    names: dict[bytes, set[str]] = {}
    for span in bench.delivered.values():
        names.setdefault(span.trace_id, set()).add(name_and_threshold(span)[0])
    assert [len(said) for said in names.values()] == [1] * 1000
    assert len(set.union(*names.values())) > 100, "each reload is taken up when nothing waits under the one before it"
    bench.check_law()
    bench.late.close()
