"""Which spans of Phase 219 are not written: unsampled parents, samplers, and a disabled SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    LeaseId,
    OpType,
    site,
)
from tests.consumer import Consumer
from tests.unit.doors import (
    PARENT,
    SAMPLED,
    TRACE,
    UNSAMPLED,
    Shared,
    build,
    build_under,
    emit,
    emit_under,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_unsampled_parent_is_honoured_and_counted(process: Shared) -> None:
    assert not emit_under(UNSAMPLED)
    assert not emit(trace_id=TRACE, parent_span_id=PARENT, trace_flags=0)
    assert not emit(trace_flags=0)
    with site(OpType.FBMU_READ).span(LeaseId(7), traceparent=UNSAMPLED):
        pass
    assert (process.written(), process.stats().unsampled, process.stats().attempts) == ([], 4, 4)


def test_the_children_of_an_unsampled_span_are_not_written_either(process: Shared) -> None:
    read = site(OpType.FBMU_READ)
    with read.span(LeaseId(7), traceparent=UNSAMPLED) as span:
        assert not read.emit(LeaseId(7), 1, 2)
        with read.span(LeaseId(7)):
            pass
        assert span.traceparent.endswith("-00")
    assert (process.written(), process.stats().unsampled) == ([], 3)


def test_an_unsampled_record_is_counted_and_not_written(process: Shared) -> None:
    assert not ringbuf.get_emitter().emit(build_under(UNSAMPLED))
    assert (process.written(), process.stats().unsampled) == ([], 1)


def test_unsampled_spans_are_written_where_that_is_wanted(process: Shared) -> None:
    ringbuf.configure("service", emit_unsampled=True)
    assert emit_under(UNSAMPLED)
    assert emit(trace_flags=0)
    assert ringbuf.get_emitter().emit(build_under(UNSAMPLED))
    with site(OpType.FBMU_READ).span(LeaseId(7), traceparent=UNSAMPLED):
        assert site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2)
    assert [record["flags"] for record in process.written()] == [0x300, 0x100, 0x300, 0x100, 0x300]
    assert process.stats().unsampled == 0


def roots(process: Shared) -> None:
    read = site(OpType.FBMU_READ)
    for number in range(1, 101):
        emit()
        emit(trace_id=number.to_bytes(16, "big"))  # low: any ratio wants these
        emit(trace_id=(2**128 - number).to_bytes(16, "big"))  # high: only a ratio of 1 does
        emit_under(None)
        read.emit(LeaseId(7), 1, 2)
        with read.span(LeaseId(7)):
            pass


@pytest.mark.parametrize("sampler", ["always_off", "parentbased_always_off"])
def test_no_root_is_written_where_the_sampler_wants_none(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    roots(process)
    assert (process.written(), process.stats().unsampled) == ([], 600)


def a_span_with_a_child() -> None:
    with site(OpType.FBMU_READ).span(LeaseId(7)) as span:
        assert span.traceparent.endswith("-02")
        assert not site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2)


FIRST_SPANS: dict[str, Callable[[], object]] = {
    "emit": emit,
    "emit with a trace": lambda: emit(trace_id=TRACE),
    "emit without a header": lambda: emit_under(None),
    "site": lambda: site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2),
    "span": lambda: site(OpType.FBMU_READ).span(LeaseId(7)).__enter__().__exit__(None, None, None),
    "span with a child": a_span_with_a_child,
}


@pytest.mark.parametrize("door", FIRST_SPANS)
def test_the_sampler_decides_the_very_first_span_too(
    process: Shared, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert not FIRST_SPANS[door]()
    assert (process.written(), process.stats().unsampled) == ([], 2 if "child" in door else 1)


def test_what_a_span_says_to_the_next_hop_is_what_becomes_of_it(
    process: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    said = []
    for number in range(200):
        with site(OpType.FBMU_READ).span(LeaseId(7)) as span:
            if number % 2:
                said.append(span.traceparent)
        if not number % 2:
            said.append(span.traceparent)
    sampled = [header.split("-")[1:3] for header in said if header.endswith("-03")]
    written = [[record["trace_id"].tobytes().hex(), record["span_id"].tobytes().hex()] for record in process.written()]
    assert written == sampled
    assert 40 < len(written) < 160


@pytest.mark.parametrize("sampler", ["", "always_on", "parentbased_always_on"])
def test_every_root_is_written_where_the_sampler_wants_all(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    roots(process)
    assert (len(process.written()), process.stats().unsampled) == (600, 0)


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_ratio_decides_roots_by_the_low_half_of_the_trace_id(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    roots(process)
    written = process.written()
    assert all(record["trace_id"].tobytes()[8] < 0x40 for record in written)
    given = [record for record in written if not record["trace_id"].tobytes()[:8].strip(b"\0\xff")]
    assert len(given) == 100
    assert 20 < len(written) - len(given) < 240  # 100 of 400 are expected, 16 standard deviations are 139
    assert process.stats().attempts == 600


@pytest.mark.parametrize("sampler", ["probability", "parentbased_probability"])
def test_a_probability_decides_roots_by_the_low_56_bits_of_the_trace_id(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    for number in range(1, 101):
        assert not emit(trace_id=(2**128 - 2**56 + number).to_bytes(16, "big"))
        assert emit(trace_id=(2**56 - number).to_bytes(16, "big"))
    read = site(OpType.FBMU_READ)
    for _ in range(400):
        read.emit(LeaseId(7), 1, 2)
    written = process.written()
    assert all(record["trace_id"].tobytes()[9] >= 0xC0 for record in written)
    assert [record["flags"] for record in written[:100]] == [0x101] * 100  # ids that were given may not be random
    assert {record["flags"] for record in written[100:]} == {0x103}
    assert 20 < len(written) - 100 < 240  # 100 of 400 are expected, 16 standard deviations are 139


@pytest.mark.parametrize(
    ("sampler", "stated"),
    [
        ("always_on", 1),
        ("always_off", 0),
        ("traceidratio", 0),
        ("probability", 1 + (0xE666 << 40)),
        ("parentbased_probability", 1 + (0xE666 << 40)),
    ],
)
def test_a_ring_states_the_threshold_of_its_sampler(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str, stated: int
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    emit()
    (path,) = process.ring_dir.glob("*.ring")
    with Consumer(path, observe=True) as consumer:
        assert consumer.header.root_threshold == stated


def test_the_sampler_does_not_decide_spans_with_a_parent(process: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert emit_under(SAMPLED)
    assert emit(trace_id=TRACE, parent_span_id=PARENT)
    with site(OpType.FBMU_READ).span(LeaseId(7), traceparent=SAMPLED):
        assert site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2)
    assert len(process.written()) == 4


def test_a_disabled_sdk_makes_no_ring_and_counts_every_span(process: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    records = DATAPLANE_LAYOUT.empty(3)
    ringbuf.get_emitter().fill_ids(records)
    assert not emit()
    assert not emit_under(SAMPLED)
    assert not site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2)
    with site(OpType.FBMU_READ).span(LeaseId(7)):
        pass
    assert not ringbuf.get_emitter().emit(build())
    assert ringbuf.get_emitter().emit_batch(records) == 0
    assert (process.stats().local, process.stats().attempts) == (8, 8)
    assert list(process.ring_dir.iterdir()) == []
