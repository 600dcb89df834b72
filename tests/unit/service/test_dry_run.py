"""A dry run: all is delivered at once and as without rules, which count what they would have kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from drain.otlp.encoder import to_resource_spans
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.service.held_batches import GATHERING_SECONDS
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT as LAYOUT
from tests.seeds import drawn_seed
from tests.unit.service.deciding import ERRORS, RULES, SECOND, Bench, drawn, span_of

if TYPE_CHECKING:
    from pathlib import Path

DRY: Final = replace(RULES, is_dry_run=True)
UNSAMPLED: Final = 0x100  # flags: the head knows of sampling, and did not want it
RESOURCE: Final = {"service.name": "shop"}


def looks(seed: int) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Return what comes, each a while after the one before."""
    source = np.random.default_rng(seed)
    return [
        (int(source.integers(0, SECOND // 2)), drawn(source, int(source.integers(1, 40)), 20, number))
        for number in range(40)
    ]


def run(bench: Bench, every: list[tuple[int, np.ndarray[Any, Any]]]) -> set[bytes]:
    """Let all of it come, and be decided; return the ids of the spans."""
    rings = [bench.ring(1), bench.ring(2)]
    for number, (after, records) in enumerate(every):
        bench.now_nano += after
        bench.late.read(rings[number % 2], 0, records, number * 100, number * 100 + len(records), 0)
        bench.late.decide(bench.now_nano)
        bench.deliver()
        bench.check_law()
    for _ in range(100):
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    assert bench.late.waiting == 0
    bench.check_law()
    return {bytes(span_id) for _, records in every for span_id in records["span_id"]}


def test_all_is_delivered_as_it_is_and_the_counts_are_those_of_the_rules(tmp_path: Path) -> None:
    seed = drawn_seed()
    folders = tmp_path / "dry", tmp_path / "real"
    for folder in folders:
        folder.mkdir()
    dry, real = Bench(folders[0], DRY), Bench(folders[1], RULES)
    came = run(dry, looks(seed))
    assert run(real, looks(seed)) == came
    assert dry.delivered.keys() == came, f"seed {seed}"
    assert not {item.key for span in dry.delivered.values() for item in span.attributes}
    assert {span.trace_state for span in dry.delivered.values()} == {""}
    assert dry.late.status() == replace(real.late.status(), is_dry_run=True), f"seed {seed}"
    assert 0 < len(real.delivered) < len(came)
    dry.late.close()
    real.late.close()


@pytest.mark.parametrize("kills", [False, True])
@pytest.mark.parametrize("root_threshold", [0, 1, 1 + (1 << 55)])
def test_what_is_delivered_is_what_a_drain_without_rules_would_deliver(
    tmp_path: Path, root_threshold: int, *, kills: bool
) -> None:
    """Also what the head says that its spans stand for: all that it kept are delivered."""
    seed = drawn_seed()
    records = drawn(np.random.default_rng(seed), 60, 20, 0)
    records["flags"][::2] |= lib.RB_SPAN_RANDOM  # the ring's sampler decided, where it is the root's
    records["present"] |= np.where(np.arange(60) % 3, 0, np.uint32(lib.RB_PRESENT_ROOT_THRESHOLD))
    bench = Bench(tmp_path, DRY)
    ring = bench.ring(1)
    bench.late.leave(ring)
    ring.resource, ring.root_threshold = RESOURCE, root_threshold
    bench.late.join(ring)
    bench.late.read(ring, 0, records, 0, 60, 0)
    if kills:
        bench.hold.close()
        bench.open()
    bench.late.decide_all(bench.now_nano)
    bench.deliver()
    (expected,) = to_resource_spans(records, LAYOUT, RESOURCE, root_threshold).scope_spans
    assert bench.delivered == {span.span_id: span for span in expected.spans}, f"seed {seed}"
    assert {bool(span.trace_state) for span in expected.spans} == ({True, False} if root_threshold else {False})
    bench.late.close()


def test_nothing_waits_for_a_decision(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DRY)
    bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
    assert (bench.late.waiting, bench.late.status().waiting_spans) == (1, 1)
    assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(GATHERING_SECONDS)
    bench.now_nano += round(GATHERING_SECONDS * SECOND)
    bench.late.decide(bench.now_nano)
    bench.deliver()
    assert len(bench.delivered) == 1
    assert (bench.late.waiting, bench.late.status().waiting_spans) == (0, 1)
    bench.late.close()


@pytest.mark.parametrize("counts", [False, True])
def test_unsampled_spans_are_delivered_unless_they_are_to_be_counted(tmp_path: Path, *, counts: bool) -> None:
    bench = Bench(tmp_path, DRY, counts_unsampled=counts)
    records = drawn(np.random.default_rng(1), 10, 5, 0)
    records["flags"][:4] = UNSAMPLED
    assert bench.late.read(bench.ring(1), 0, records, 0, 10, 0) == ((6, 4) if counts else (10, 0))
    bench.late.decide_all(bench.now_nano)
    bench.deliver()
    assert len(bench.delivered) == (6 if counts else 10)
    assert bench.late.status().unsampled == 4
    bench.late.close()


def test_a_full_hold_decides_nothing_early(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DRY, capacity_bytes=1 << 18)
    ring, count = bench.ring(1), 0
    while bench.late.has_room(ring, 100):
        records = drawn(np.random.default_rng(count), 100, 10**6, count)
        records["status"], records["kind"] = 0, 1
        bench.late.read(ring, 0, records, count, count + 100, 0)
        count += 100
    status = bench.late.status()
    assert sum(rule.traces["hold"] for rule in status.rules.values()) == 0
    assert status.waiting_spans > 0
    bench.late.close()


@pytest.mark.parametrize("kills", [False, True])
def test_what_has_begun_in_a_dry_run_is_delivered_whole_when_the_rules_decide(tmp_path: Path, *, kills: bool) -> None:
    """Spans that come after the change too, and late ones after all of its traces are decided."""
    drop_all = Rules((ERRORS, Rule(DEFAULT, ratio=0.0)))
    bench = Bench(tmp_path, replace(drop_all, is_dry_run=True))
    ring = bench.ring(1)

    def come(position: int, trace: int, parent: int) -> None:
        bench.late.read(ring, 0, span_of(trace, parent), position, position + 1, 0)
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()

    come(0, 1, 1)
    bench.late.renew(drop_all)
    come(1, 1, 2)
    come(2, 2, 1)
    bench.now_nano += 10 * SECOND
    bench.late.decide(bench.now_nano)
    come(3, 1, 3)
    if kills:
        bench.late.tend()
        bench.hold.close()
        bench.rules = drop_all
        bench.open()
        ring = bench.ring(1)
    come(4, 1, 4)
    bench.now_nano += 10 * SECOND
    bench.late.decide(bench.now_nano)
    bench.deliver()
    assert Counter(span_id[0] for span_id in bench.delivered) == {1: 4}
    bench.check_law()
    bench.late.close()


def test_what_was_only_counted_is_no_part_of_what_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DRY)
    ring = bench.ring(1)

    def decide(trace: int) -> int:
        """Let a trace come and be decided; return how many the status counts."""
        bench.late.read(ring, 0, span_of(trace), trace, trace + 1, 0)
        bench.now_nano += 10 * SECOND
        for _ in range(2):
            bench.late.decide(bench.now_nano)
        return sum(sum(rule.traces.values()) for rule in bench.late.status().rules.values())

    assert [decide(1), decide(2)] == [1, 2]
    bench.late.read(ring, 0, span_of(3), 3, 4, 0)
    bench.late.renew(RULES)
    status = bench.late.status()
    assert (status.is_dry_run, status.waiting_traces) == (False, 1)
    assert [decide(4), decide(5)] == [1, 2]
    bench.late.renew(DRY)
    assert decide(6) == 1
    bench.late.close()


def test_what_waits_when_a_dry_run_begins_is_delivered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RULES)
    bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
    bench.hold.close()  # a kill
    bench.rules = DRY
    bench.open()
    bench.now_nano += round(GATHERING_SECONDS * SECOND)
    bench.late.decide(bench.now_nano)
    bench.deliver()
    assert len(bench.delivered) == 1
    assert bench.late.waiting == 0
    bench.late.close()


def test_what_was_decided_in_a_dry_run_is_not_on_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DRY)
    run(bench, looks(1))
    assert len(bench.hold.decisions) == 0
    (tmp_path / "hold" / "decisions").unlink()
    bench.late.tend()  # makes the file anew
    bench.late.close()
    bench.open()
    assert len(bench.hold.decisions.found) == 0
    bench.late.close()
