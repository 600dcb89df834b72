"""Late sampling over a real hold: what is delivered is what the plain sampler keeps, and the hold's law is exact."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.accounting.outcome import Outcome
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.picture import read_picture
from drain.sampling.rules import DEFAULT, of_ratio
from drain.sampling.sampler import Sampler
from drain.sampling.seen_records import RecordLooker
from drain.sampling.trace_state import stated
from drain.service.held_batches import GATHERING_SECONDS, HeldSegment
from tests.seeds import drawn_seed
from tests.unit.service.deciding import RULES, SECOND, Bench, drawn, seen, span_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("restarts", [False, True])
def test_what_is_delivered_is_what_the_sampler_keeps(bench: Bench, *, restarts: bool) -> None:
    seed = drawn_seed()
    source, sampler = np.random.default_rng(seed), Sampler(RULES)
    expected: dict[bytes, tuple[str, int | None]] = {}
    came: dict[int, bytes] = {}
    fates = []
    rings: dict[int, Any] = {}
    for look in range(60):
        if restarts and look in (20, 40):  # as a kill leaves it: nothing was said to the hold but what is in it
            bench.late.close()
            bench.open()
            rings.clear()
        ring = rings.get(look % 2) or rings.setdefault(look % 2, bench.ring(1 + look % 2))
        bench.now_nano += int(source.integers(0, SECOND // 2))
        records = drawn(source, int(source.integers(1, 40)), 8, look)
        records["trace_id"][0], records["status"][0] = 1 + look, 0  # waits, so that it says when the last look was
        spans = seen(records, ring.resource["service.name"])
        came |= {id(span): bytes(record["span_id"]) for span, record in zip(spans, records, strict=True)}
        for span in spans:
            fates += list(sampler.take(span, bench.now_nano))
        assert bench.late.has_room(ring, len(records))
        taken = bench.late.read(ring, 0, records, look * 100, look * 100 + len(records), 0)
        assert sum(taken) == len(records)
        bench.check_law()
        bench.late.decide(bench.now_nano)
        if not restarts or look % 20 != 19:
            bench.deliver()
        bench.check_law()
    bench.now_nano += 10 * SECOND
    fates += list(sampler.decide_due())
    while bench.late.waiting:
        bench.now_nano += SECOND // 10
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.check_law()
    assert bench.late.waiting == 0
    names = [rule.name for rule in RULES.rules]
    expected = {
        came[id(fate.span)]: (names[fate.decision.rule], fate.threshold)
        for fate in fates
        if fate.is_kept and fate.decision is not None
    }
    found = {
        span_id: (
            next(item.value.string_value for item in span.attributes if item.key == "ringbuf.sampling.rule"),
            stated(span.trace_state).threshold,
        )
        for span_id, span in bench.delivered.items()
    }
    assert found == expected, f"seed {seed}"


def test_what_became_of_a_batch_is_said_in_the_hold(bench: Bench) -> None:
    source = np.random.default_rng(1)
    ring = bench.ring(1)
    for outcome in ("delivered", "spooled", "rejected", "dead_lettered"):
        records = drawn(source, 20, 5, 10)
        records["status"] = 2
        bench.late.read(ring, 0, records, 0, 20, 0)
        assert bench.late.seconds_until_due(bench.now_nano) == pytest.approx(GATHERING_SECONDS)  # more may come
        assert not bench.late.decide(bench.now_nano)
        bench.now_nano += int(2 * GATHERING_SECONDS * SECOND)
        assert bench.late.decide(bench.now_nano)
        assert bench.late.on_their_way == 20
        assert bench.deliver(outcome) == 20
        sums = bench.hold.sums()["service 1"]
        assert getattr(sums, outcome) == 20
        bench.check_law()
    assert (bench.late.on_their_way, bench.late.not_delivered) == (0, 40)


def test_records_that_rules_cannot_look_at_meet_no_condition_and_stop_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = bench.ring(1)
    look = RecordLooker.look

    def planted(self: RecordLooker, records: Any) -> Any:
        if (records["span_id"][:, 0] == 7).any():
            raise ValueError("planted")
        return look(self, records)

    monkeypatch.setattr(RecordLooker, "look", planted)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["span_id"] = 1 + np.arange(40)[:, None]
    records["status"], records["parent_span_id"] = 2, 1
    bench.late.read(ring, 0, records, 0, 40, 0)
    assert bench.late.on_their_way == 39, "errors are kept at once"
    assert bench.late.waiting == 40, "of the one nobody knows that it is an error"
    bench.check_law()
    bench.late.close()
    bench.open()  # what waits is looked at again
    assert bench.late.waiting == 40
    bench.check_law()


def test_a_layout_that_rules_cannot_look_at_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("drain.service.rules_in_effect.RecordLooker", fail)
        ring = bench.ring(1)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["status"], records["parent_span_id"] = 2, 1
    bench.late.read(ring, 0, records, 0, 40, 0)
    assert bench.late.waiting == 40
    records["trace_id"] += 1
    bench.late.read(bench.ring(2), 0, records, 0, 40, 0)
    assert bench.late.on_their_way == 40
    bench.check_law()


def test_a_record_that_has_no_destination_holds_up_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, of_ratio(1.0))

    def assign(records: Any, _: str) -> Any:
        if (records["span_id"][:, 0] == 7).any():
            raise ValueError("planted")
        return np.zeros(len(records), np.uint16)

    bench.partitioner = SimpleNamespace(names=("a",), assign=assign)
    records = drawn(np.random.default_rng(6), 40, 10**6, 0)
    records["span_id"] = 1 + np.arange(40)[:, None]
    bench.late.read(bench.ring(1), 0, records, 0, 40, 0)
    bench.late.decide_all(bench.now_nano)
    assert bench.late.on_their_way == 39
    assert bench.hold.sums()["service 1"].invalid == 1
    assert bench.deliver() == 39
    bench.check_law()
    bench.late.close()


def test_while_a_batch_is_full_there_is_nothing_to_do(bench: Bench) -> None:
    ring = bench.ring(1)
    records = drawn(np.random.default_rng(7), 300, 50, 10)
    records["status"] = 2
    bench.late.read(ring, 0, records, 0, 300, 0)
    bench.now_nano += SECOND
    assert bench.late.decide(bench.now_nano)  # the first hundred fill a batch, which nobody takes: an outage
    for _ in range(3):  # a loop that were told otherwise would not sleep
        bench.now_nano += SECOND
        assert not bench.late.decide(bench.now_nano)
        assert bench.late.seconds_until_due(bench.now_nano) != 0.0
    while bench.late.waiting:
        assert bench.deliver() > 0
        bench.late.decide(bench.now_nano)
    assert len(bench.delivered) == 300


def test_no_ring_waits_for_what_is_held() -> None:
    assert not HeldSegment("shop", np.zeros(1, np.uint64), 1).is_pressing


def test_it_says_when_it_is_to_be_asked_next(bench: Bench) -> None:
    assert bench.late.seconds_until_due(bench.now_nano) is None
    ring, records = bench.ring(1), drawn(np.random.default_rng(4), 1, 1, 1)
    records["status"], records["parent_span_id"] = 0, 1
    bench.late.read(ring, 0, records, 0, 1, 0)
    assert bench.late.seconds_until_due(bench.now_nano + SECOND) == pytest.approx(4.0)
    assert bench.late.seconds_until_due(bench.now_nano + 9 * SECOND) == 0.0
    bench.late.leave(ring)
    assert bench.late.waiting == 1
    assert bench.late.rule_names == ["errors", "half", DEFAULT]
    bench.late.tend()


def test_it_says_how_long_the_oldest_trace_waits_and_what_each_rule_keeps_now(bench: Bench) -> None:
    assert [rule.probability for rule in bench.late.status().rules.values()] == [1.0, 0.5, 0.1]  # before any look
    for _ in range(2):
        bench.late.read(bench.ring(1), 0, span_of(1), 0, 1, 0)
        bench.now_nano += SECOND
    status = bench.late.status()
    assert (status.waiting_spans, status.waiting_traces, status.oldest_wait_seconds) == (2, 1, 2.0)
    assert [round(rule.probability, 4) for rule in status.rules.values()] == [1.0, 0.5, 0.1]


def test_what_it_does_is_shown_to_those_who_look_at_the_directory(bench: Bench) -> None:
    source, ring = np.random.default_rng(11), bench.ring(1)
    for look in range(5):
        bench.late.read(ring, 0, drawn(source, 100, 100, 0), 100 * look, 100 * look + 100, 0)
    bench.now_nano += SECOND
    for _ in range(3):
        bench.late.decide(bench.now_nano)
        bench.deliver()
    bench.late.tend()
    picture = read_picture(bench.hold.folder)
    assert picture is not None
    of_service = picture.services["service 1"]
    assert picture.rings == {RingKey(1, 1): of_service.waiting}
    assert of_service.waiting == bench.late.waiting > 0
    assert of_service.kept == len(bench.delivered) > 0
    assert sum((of_service.waiting, of_service.kept, of_service.sampled_out, of_service.lost)) == 500
    assert picture.decided_spans + picture.waiting_spans == 500
    assert list(picture.rules) == bench.late.rule_names
    assert (picture.drain_pid, picture.waiting_traces) == (os.getpid(), bench.late.status().waiting_traces)


def test_what_is_kept_goes_where_its_trace_has_its_home(tmp_path: Path) -> None:
    bench = Bench(tmp_path, of_ratio(1.0))
    gateways = ("a", "b", "c")
    bench.partitioner = SimpleNamespace(
        names=gateways, assign=lambda records, _: (records["trace_id"][:, 15] % 3).astype(np.uint16)
    )
    ring, count = bench.ring(1), 90
    bench.late.read(ring, 0, drawn(np.random.default_rng(8), count, 40, 0), 0, count, 0)
    bench.late.decide_all(bench.now_nano)
    bench.batcher.close()
    sent = 0
    for batch in bench.batcher.full:
        for number, part in enumerate(batch.parts):
            for message in TracesData.FromString(part.body).resource_spans:
                homes = {gateways[span.trace_id[15] % 3] for span in message.scope_spans[0].spans}
                assert homes == {part.destination}
            batch.decide(number, Outcome(delivered=part.spans))
            sent += part.spans
    bench.late.settle(bench.batcher.full)
    assert (sent, bench.late.on_their_way) == (count, 0)
    bench.check_law()
    bench.late.close()
