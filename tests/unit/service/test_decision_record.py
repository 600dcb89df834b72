"""What the next drain finds on record of the last: decisions, rates, and how long a trace has waited."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drain.sampling.decision_words import packed_spans
from drain.sampling.hold.decisions import Decisions
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules
from tests.unit.service.deciding import ERRORS, SECOND, Bench, drawn, span_of

if TYPE_CHECKING:
    from pathlib import Path


def test_rates_go_on_with_the_next_drain(tmp_path: Path) -> None:
    rules = Rules((Rule("errors", statuses=frozenset({2}), traces_per_second=10.0), Rule(DEFAULT, ratio=0.0)))
    bench = Bench(tmp_path, rules)
    source, ring = np.random.default_rng(5), bench.ring(1)
    for second in range(3):
        records = drawn(source, 100, 10**9, 1000 * second)
        records["status"] = 2
        bench.late.read(ring, 0, records, 0, 100, 0)
        bench.now_nano += SECOND
        bench.late.tend()
    kept = bench.late.on_their_way
    bench.hold.close()  # a kill: nothing is said at the end
    bench.open()
    records = drawn(source, 100, 10**9, 9000)
    records["status"] = 2
    before = bench.late.on_their_way
    bench.late.read(bench.ring(1), 0, records, 0, 100, 0)
    assert before == kept  # taken up
    assert bench.late.on_their_way - before < 40  # about 10, where a drain that begins anew would keep all
    bench.late.close()


def test_a_downtime_is_no_part_of_a_wait(bench: Bench) -> None:
    ring, records = bench.ring(1), drawn(np.random.default_rng(6), 1, 1, 1)
    records["status"], records["parent_span_id"] = 0, 1
    bench.late.read(ring, 0, records, 0, 1, 0)
    bench.late.close()
    bench.now_nano += 3600 * SECOND
    bench.open()
    assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(5.0)
    bench.late.decide(bench.now_nano)
    assert bench.late.counts().waiting_traces == 1  # its other spans may be in rings still


def test_looks_that_came_together_are_taken_up_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source, ring = np.random.default_rng(9), bench.ring(1)
    for look in range(200):
        bench.late.read(ring, 0, drawn(source, 1, 10**6, 0), look, look + 1, 0)
        bench.now_nano += 10_000
    waiting = bench.late.waiting
    assert waiting > 100
    bench.late.close()
    calls = []
    records = Hold.records

    def counted(hold: Hold, places: Any) -> Any:
        calls.append(len(places))
        return records(hold, places)

    monkeypatch.setattr(Hold, "records", counted)
    bench.open()
    assert bench.late.waiting == waiting == sum(calls)
    assert len(calls) <= 2, "else a hundred thousand looks take minutes, in which no ring is read"
    bench.check_law()


def test_rates_that_are_ahead_of_what_is_looked_at_once_more(bench: Bench) -> None:
    rules = Rules((ERRORS, Rule("some", traces_per_second=5)), kept_spans_per_second=7)
    bench.late.close()
    bench.rules = rules
    bench.open()
    ring = bench.ring(1)
    bench.late.read(ring, 0, span_of(1), 0, 1, 0)  # waits, and is taken up as of now
    for second in range(1, 4):
        bench.now_nano += SECOND
        failed = drawn(np.random.default_rng(second), 20, 10**6, 100 * second)
        failed["status"] = 2
        bench.late.read(ring, 0, failed, 20 * second, 20 * second + 20, 0)
        bench.late.tend()  # the rates are on record
    bench.late.close()
    bench.open()
    states = bench.late._rules.current.traces.rates()
    assert [at for state in states.values() for at, _ in state["seconds"]]
    for state in states.values():
        times = [at for at, _ in state["seconds"]]
        assert times == sorted(set(times)), "the next drain would take it for no rate"


def test_decisions_that_could_not_be_put_on_record_are_once_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ring, records = bench.ring(1), drawn(np.random.default_rng(1), 20, 20, 0)
    records["status"] = 2  # is kept at once
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        bench.late.read(ring, 0, records, 0, 20, 0)
    bench.late.tend()
    again = Decisions(bench.hold.folder)  # after a kill
    assert len(again.found) == len({bytes(one) for one in records["trace_id"]})
    again.close()


def test_the_record_of_decisions_is_written_anew_only_when_half_of_it_is_old(tmp_path: Path) -> None:
    bench = Bench(tmp_path, capacity_bytes=1 << 18)
    decided = np.arange(8_000, dtype=np.uint64).reshape(-1, 2)
    bench.hold.decisions.append(np.concatenate([packed_spans(np.arange(4_000, dtype=np.uint64)), decided]))
    bench.late.close()
    bench.open()
    assert len(bench.hold.decisions.found) == 0, "it is in the tables now, and in the file"
    bench.late.tend()
    path, much = bench.hold.folder / "decisions", len(bench.hold.decisions)
    assert much < 4_000, "what is too old to matter is gone"
    before = path.stat().st_ino
    bench.hold.decisions.append(decided[:100])
    bench.late.tend()
    assert path.stat().st_ino == before
    bench.hold.decisions.append(decided[:much])
    bench.late.tend()
    assert len(bench.hold.decisions) == much
    bench.late.close()
