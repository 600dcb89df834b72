"""A span's place in its trace without the span: roots, children, the current one, and 32 bytes for binary wires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringbuf
from ringbuf import traceparent
from ringbuf.dataplane import DataplaneSpanKind, LeaseId, OpType, Outcome, ResourceKind, build_dataplane_span, site
from ringbuf.traceparent import TraceContext, decode, encode, parse_traceparent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
SPAN = bytes.fromhex("00f067aa0ba902b7")
CONTEXT = TraceContext(TRACE, SPAN, None, 1)


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test set OTEL_TRACES_SAMPLER, which is read once a process."""
    traceparent._root_sampler.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    traceparent._root_sampler.cache_clear()


def test_a_root_has_a_new_trace_and_no_parent() -> None:
    one, other = TraceContext.root(), TraceContext.root()
    assert one.parent_span_id is None
    assert (len(one.trace_id), len(one.span_id)) == (16, 8)
    assert one.trace_id != other.trace_id
    assert one.span_id != other.span_id


@pytest.mark.parametrize(("name", "sampled"), [("always_on", True), ("always_off", False)])
def test_a_root_is_sampled_as_the_environment_says(sampler: pytest.MonkeyPatch, name: str, sampled: bool) -> None:
    sampler.setenv("OTEL_TRACES_SAMPLER", name)
    assert TraceContext.root().sampled is sampled
    assert TraceContext.root(sampled=not sampled).sampled is not sampled


def test_a_child_has_the_trace_and_the_old_span_as_its_parent() -> None:
    child = CONTEXT.child()
    assert (child.trace_id, child.parent_span_id, child.trace_flags) == (TRACE, SPAN, 1)
    assert child.span_id not in (SPAN, CONTEXT.child().span_id)


@pytest.mark.parametrize(("flags", "of_child"), [(0, 0), (2, 2), (3, 3), (0xFF, 3)])
def test_a_child_repeats_the_flags_that_w3c_knows(flags: int, of_child: int) -> None:
    assert CONTEXT._replace(trace_flags=flags).child().trace_flags == of_child


def test_outside_of_any_span_there_is_no_current_context() -> None:
    assert TraceContext.current() is None


def test_the_current_context_is_the_enclosing_spans(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        with read.span(LeaseId(7)) as span:
            current = TraceContext.current()
            assert current is not None
            assert (current.trace_id, current.span_id, current.sampled) == (span.trace_id, span.span_id, True)
            assert current.traceparent == span.traceparent


def test_a_span_in_another_process_continues_a_context_that_came_in_32_bytes(ring_dir: Path) -> None:
    received = decode(encode(CONTEXT))
    with ringbuf.Emitter("service", ring_dir=ring_dir) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        with read.span(LeaseId(7), traceparent=received.traceparent) as span:
            assert span.trace_id == TRACE


def test_a_record_is_built_under_a_context_of_this_process() -> None:
    record = build_dataplane_span(
        DataplaneSpanKind.FBMU,
        lease_id=7,
        resource_kind=ResourceKind.MEM,
        operation=OpType.FBMU_READ,
        outcome=Outcome.OK,
        start_unix_nano=1,
        end_unix_nano=2,
        trace_id=CONTEXT.trace_id,
        parent_span_id=CONTEXT.span_id,
        trace_flags=CONTEXT.trace_flags,
    )
    assert record["trace_id"].tobytes() == TRACE
    assert record["parent_span_id"].tobytes() == SPAN
    assert record["flags"] == 0x101


def test_the_32_bytes_are_version_trace_span_flags_and_six_zeros() -> None:
    assert encode(CONTEXT._replace(parent_span_id=SPAN)) == b"\x01" + TRACE + SPAN + b"\x01" + bytes(6)


@given(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.integers(0, 255)
)
def test_what_was_encoded_is_decoded_and_names_the_same_span_as_its_header(
    trace_id: bytes, span_id: bytes, flags: int
) -> None:
    context = TraceContext(trace_id, span_id, None, flags)
    assert decode(encode(context)) == context
    assert parse_traceparent(context.traceparent) == (trace_id, span_id, flags)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_every_bytes_like_object_is_decoded(form: Any) -> None:
    assert decode(form(encode(CONTEXT))) == CONTEXT


def test_reserved_bytes_are_not_looked_at() -> None:
    assert decode(encode(CONTEXT)[:-6] + b"future") == CONTEXT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "32 bytes"),
        (encode(CONTEXT)[:-1], "32 bytes"),
        (encode(CONTEXT) + b"\0", "32 bytes"),
        (b"\0" + encode(CONTEXT)[1:], "version 0"),
        (b"\x02" + encode(CONTEXT)[1:], "version 2"),
        (b"\x01" + bytes(16) + SPAN + b"\x01" + bytes(6), "trace_id"),
        (b"\x01" + TRACE + bytes(8) + b"\x01" + bytes(6), "span_id"),
    ],
)
def test_what_is_no_context_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(data)


@pytest.mark.parametrize("data", [None, "00-x", 7, [1] * 32], ids=repr)
def test_what_is_no_bytes_is_a_type_error(data: Any) -> None:
    with pytest.raises(TypeError):
        decode(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trace_id": bytes(16)},
        {"trace_id": TRACE[:-1]},
        {"span_id": bytes(8)},
        {"trace_flags": 256},
        {"trace_flags": -1},
    ],
    ids=repr,
)
def test_a_context_that_cannot_be_is_not_encoded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        encode(CONTEXT._replace(**wrong))
