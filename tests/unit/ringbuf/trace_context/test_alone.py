"""RB_PRESENT_ALONE: a root whose ids nobody was given says that it is its whole trace; no other span does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.tools.recorded import Recorded
from ringbuf import Attribute, SpanLayout
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.sites.span import Parent
from tests.consumer import records_in, rings_in
from tests.unit.doors import PARENT, SAMPLED, TRACE, Shared, emit, emit_under

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALONE: int = lib.RB_PRESENT_ALONE


def layout_of(attributes: int) -> SpanLayout:
    return SpanLayout(span_names=["work"], attributes=[Attribute(f"a{at}", "bool") for at in range(attributes)])


def in_a_span() -> None:
    with site(OpType.FBMU_READ).span(LeaseId(7)):
        site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2)


DOORS: dict[str, tuple[Callable[[], object], list[bool]]] = {
    "emit": (emit, [True]),
    "emit without a header": (lambda: emit_under(None), [True]),
    "site": (lambda: site(OpType.FBMU_READ).emit(LeaseId(7), 1, 2), [True]),
    "site without a parent": (lambda: site(OpType.FBMU_READ).emit_under(None, LeaseId(7), 1, 2), [True]),
    "site of an invalid header": (lambda: site(OpType.FBMU_READ).emit_under("x", LeaseId(7), 1, 2), [True]),
    "emit with a trace": (lambda: emit(trace_id=TRACE), [False]),
    "emit with a parent": (lambda: emit(trace_id=TRACE, parent_span_id=PARENT), [False]),
    "emit with a header": (lambda: emit_under(SAMPLED), [False]),
    "site with a header": (lambda: site(OpType.FBMU_READ).emit_under(SAMPLED, LeaseId(7), 1, 2), [False]),
    "site of a trace without spans": (
        lambda: site(OpType.FBMU_READ).emit_under(Parent(TRACE, bytes(8), 0x101), LeaseId(7), 1, 2),
        [False],
    ),
    "span, and one inside it": (in_a_span, [False, False]),
}


@pytest.mark.parametrize("door", DOORS)
def test_only_roots_whose_ids_are_given_to_nobody_are_alone(process: Shared, door: str) -> None:
    call, expected = DOORS[door]
    call()  # the first span of the process, whose ring is made by it
    call()
    assert [bool(record["present"] & ALONE) for record in process.written()] == 2 * expected


@pytest.mark.parametrize(("attributes", "is_alone"), [(0, True), (31, True), (32, False)])
def test_where_bit_31_is_an_attribute_it_says_nothing_else(ring_dir: Path, attributes: int, is_alone: bool) -> None:
    with ringbuf.Emitter("shop", layout=layout_of(attributes), ring_dir=ring_dir) as emitter:
        assert emitter.site("work").emit(1, 2)
        (span,) = Recorded(rings_in(ring_dir)).spans()
        assert (span.is_alone, dict(span.attributes)) == (is_alone, {})
        (record,) = records_in(ring_dir)  # which releases it
        assert bool(record["present"] & ALONE) == is_alone
        assert emitter.layout.values(record) == {}


def test_of_a_ring_the_rules_see_which_spans_are_alone(ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", layout=layout_of(1), ring_dir=ring_dir) as emitter:
        work = emitter.site("work")
        work.emit(1, 2)
        with work.span():
            work.emit(1, 2)
        work.emit(1, 2)
        assert [span.is_alone for span in Recorded(rings_in(ring_dir)).spans()] == [True, False, False, True]
