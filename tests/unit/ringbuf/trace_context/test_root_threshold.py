"""RB_PRESENT_ROOT_THRESHOLD: a child beside its root says that the ring's threshold is its trace's; no other does."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import pytest

import ringbuf
from drain.otlp.encoder import Encoder, to_resource_spans
from ringbuf import Attribute, SpanLayout
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.sites.span import Parent
from tests.consumer import Consumer, records_in, rings_in
from tests.unit.doors import PARENT, SAMPLED, TRACE, Shared, build, emit, emit_under

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BIT: int = lib.RB_PRESENT_ROOT_THRESHOLD
READ = OpType.FBMU_READ
LEASE = LeaseId(7)


def child() -> bool:
    return site(READ).emit(LEASE, 1, 2)


def in_a_block() -> None:
    with site(READ).span(LEASE):
        child()


def in_blocks() -> None:
    with site(READ).span(LEASE), site(READ).span(LEASE), site(READ).span(LEASE):
        child()


def in_a_block_of(header: Any) -> None:
    with site(READ).span(LEASE, traceparent=header):
        child()


def under_the_span() -> None:
    with site(READ).span(LEASE) as span:
        pass
    site(READ).emit_under(span, LEASE, 1, 2)


def in_a_block_under_the_span() -> None:
    with site(READ).span(LEASE) as span:
        pass
    in_a_block_of(span)


def by_its_header() -> None:
    with site(READ).span(LEASE) as span:
        site(READ).emit_under(span.traceparent, LEASE, 1, 2)
        emit_under(span.traceparent)
        emit(trace_id=span.trace_id, parent_span_id=span.span_id)


def in_a_task() -> None:
    async def work() -> None:
        async def later() -> None:
            await asyncio.sleep(0)
            child()

        with site(READ).span(LEASE):
            await asyncio.gather(later(), later())

    asyncio.run(work())


def in_a_thread() -> None:
    with site(READ).span(LEASE), ThreadPoolExecutor(1) as executor:
        assert executor.submit(ringbuf.bind_context(child)).result()
        executor.submit(child).result()  # which has no context: a root


def in_a_function() -> None:
    @site(READ).wrap(LEASE)
    def traced() -> None:
        child()

    traced()


def with_use_span() -> None:
    with site(READ).span(LEASE) as span:
        pass
    with ringbuf.use_span(span):
        child()


DOORS: dict[str, tuple[Callable[[], object], list[bool]]] = {
    "emit": (emit, [False]),
    "emit with a trace": (lambda: emit(trace_id=TRACE), [False]),
    "emit with a parent": (lambda: emit(trace_id=TRACE, parent_span_id=PARENT), [False]),
    "emit with a header": (lambda: emit_under(SAMPLED), [False]),
    "a whole record": (lambda: ringbuf.get_emitter().emit(build()), [False]),
    "a whole record with a parent": (
        lambda: ringbuf.get_emitter().emit(build(trace_id=TRACE, parent_span_id=PARENT)),
        [False],
    ),
    "site": (child, [False]),
    "site with a header": (lambda: site(READ).emit_under(SAMPLED, LEASE, 1, 2), [False]),
    "site with a Parent that says all": (
        lambda: site(READ).emit_under(Parent(TRACE, PARENT, 0xFFFFFD01), LEASE, 1, 2),
        [False],
    ),
    "inside a block": (in_a_block, [True, False]),
    "blocks in blocks": (in_blocks, [True, True, True, False]),
    "inside a block of a header": (lambda: in_a_block_of(SAMPLED), [False, False]),
    "inside a block of a Parent that says all": (
        lambda: in_a_block_of(Parent(TRACE, PARENT, 0xFFFFFD01)),
        [False, False],
    ),
    "under a span that has ended": (under_the_span, [False, True]),
    "in a block under a span that has ended": (in_a_block_under_the_span, [False, True, True]),
    "by the span's header, which may be another's": (by_its_header, [False, False, False, False]),
    "in tasks": (in_a_task, [True, True, False]),
    "in a thread": (in_a_thread, [True, False, False]),
    "in a function": (in_a_function, [True, False]),
    "with use_span": (with_use_span, [False, True]),
}


@pytest.mark.parametrize("door", DOORS)
def test_only_children_beside_their_root_say_it(process: Shared, door: str) -> None:
    call, expected = DOORS[door]
    call()  # the first span of the process, whose ring is made by it
    call()
    assert [bool(record["present"] & BIT) for record in process.written()] == 2 * expected


@pytest.mark.parametrize(
    ("sampler", "says"),
    [("always_on", True), ("parentbased_probability", True), ("traceidratio", False), ("always_off", False)],
)
def test_only_where_the_sampler_has_a_threshold(
    process: Shared, monkeypatch: pytest.MonkeyPatch, sampler: str, says: bool
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    ringbuf.configure("service", emit_unsampled=True)
    in_a_block()
    written = process.written()
    assert [bool(record["present"] & BIT) for record in written] == [says, False]
    assert all(record["flags"] <= 0x3FF for record in written)


def layout_of(attributes: int) -> SpanLayout:
    return SpanLayout(span_names=["work"], attributes=[Attribute(f"a{at}", "bool") for at in range(attributes)])


@pytest.mark.parametrize(("attributes", "says"), [(0, True), (30, True), (31, False), (32, False)])
def test_where_bit_30_is_an_attribute_it_says_nothing_else(ring_dir: Path, attributes: int, says: bool) -> None:
    with ringbuf.Emitter("shop", layout=layout_of(attributes), ring_dir=ring_dir) as emitter:
        with emitter.site("work").span():
            emitter.site("work").emit(1, 2)
        records = records_in(ring_dir)
        assert [bool(record["present"] & BIT) for record in records] == [says, False]
        assert [emitter.layout.values(record) for record in records] == [{}, {}]
    states = [span.trace_state for span in to_resource_spans(records, emitter.layout, {}, 1).scope_spans[0].spans]
    assert states == ["ot=th:0" if says else "", "ot=th:0"]


class TwoEmitters:
    """Two rings in one process, whose samplers may differ."""

    def __init__(self, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, ratios: tuple[str, str]) -> None:
        self.emitters, self.folders = [], [ring_dir / "0", ring_dir / "1"]
        for folder, ratio in zip(self.folders, ratios, strict=True):
            folder.mkdir(mode=0o700)
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", "probability")
            monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
            self.emitters.append(ringbuf.Emitter("shop", layout=layout_of(1), ring_dir=folder))
        self.sites = [emitter.site("work") for emitter in self.emitters]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for emitter in self.emitters:
            emitter.close()

    def bits(self) -> list[list[bool]]:
        return [[bool(one["present"] & BIT) for one in records_in(folder)] for folder in self.folders]


@pytest.mark.parametrize(("ratios", "says"), [(("1", "1"), True), (("1", "0.5"), False), (("1", "0.9999"), False)])
def test_a_span_in_another_ring_says_it_where_both_have_one_threshold(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, ratios: tuple[str, str], says: bool
) -> None:
    with TwoEmitters(ring_dir, monkeypatch, ratios) as two:
        first, second = two.sites
        with first.span(), second.span():
            first.emit(1, 2)
            second.emit(1, 2)
        assert two.bits() == [[True, False], [says, says]]


@pytest.mark.parametrize("ratio", ["1", "0.5"])
def test_a_forked_child_goes_by_its_own_ring(process: Shared, monkeypatch: pytest.MonkeyPatch, ratio: str) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "probability")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    with site(READ).span(LEASE):
        child()
        pid = os.fork()
        if pid == 0:
            os.environ["OTEL_TRACES_SAMPLER_ARG"] = ratio
            os._exit(not child())
        assert os.waitpid(pid, 0)[1] == 0
    by_ring = {}
    for path in rings_in(process.ring_dir):
        with Consumer(path) as consumer:
            by_ring[int(consumer.header.pid)] = [bool(one["present"] & BIT) for one in consumer.take_all()]
    assert by_ring == {os.getpid(): [True, False], pid: [ratio == "1"]}


def test_what_a_trace_says_is_the_same_on_all_its_spans(process: Shared) -> None:
    in_blocks()
    (path,) = rings_in(process.ring_dir)
    with Consumer(path) as consumer:
        layout, stated = consumer.layout, consumer.header.root_threshold
        records = consumer.copy()
    body = Encoder(layout, {}, stated).encode(records).body
    assert body.count(b"ot=th:0") == len(records) == 4
