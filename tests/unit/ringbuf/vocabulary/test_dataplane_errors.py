"""Wrong types raise and count nothing; what does not fit is left out; conditions return False and are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    site,
)
from tests.unit.doors import (
    EVERY_FUNCTION,
    PARENT,
    SAMPLED,
    TRACE,
    Shared,
    build,
    build_with_header,
    emit,
    emit_under,
    emit_with_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ERRORS: list[tuple[str, object, type[Exception]]] = [
    ("operation", OpType.TASKLET_SUBMIT, ValueError),
    ("operation", OpType.FBBU_READ, ValueError),
    ("operation", "fbmu_read", TypeError),
    ("operation", 0, TypeError),
    ("outcome", 0, TypeError),
    ("outcome", "ok", TypeError),
    ("resource_kind", 0, TypeError),
    ("resource_kind", None, TypeError),
    ("start_unix_nano", 2001, ValueError),
    ("start_unix_nano", -1, ValueError),
    ("start_unix_nano", 1.0, TypeError),
    ("start_unix_nano", True, TypeError),
    ("start_unix_nano", None, TypeError),
    ("end_unix_nano", 999, ValueError),
    ("end_unix_nano", 2**64, ValueError),
    ("end_unix_nano", "2000", TypeError),
    ("nbytes", -1, ValueError),
    ("nbytes", 2**64, ValueError),
    ("nbytes", 1.0, TypeError),
    ("nbytes", False, TypeError),
    ("lease_id", b"short", ValueError),
    ("lease_id", 2**128, ValueError),
    ("lease_id", "x" * 32, ValueError),
    ("lease_id", None, TypeError),
    ("lease_id", 1.5, TypeError),
]
ID_ERRORS: list[tuple[dict[str, object], type[Exception]]] = [
    ({"trace_id": TRACE[:15]}, ValueError),
    ({"trace_id": TRACE + b"\0"}, ValueError),
    ({"trace_id": bytes(16)}, ValueError),
    ({"trace_id": TRACE.hex()}, TypeError),
    ({"trace_id": bytearray(TRACE)}, TypeError),
    ({"trace_id": TRACE, "parent_span_id": PARENT[:7]}, ValueError),
    ({"trace_id": TRACE, "parent_span_id": PARENT + b"\0"}, ValueError),
    ({"trace_id": TRACE, "parent_span_id": bytes(8)}, ValueError),
    ({"trace_id": TRACE, "parent_span_id": 5}, TypeError),
    ({"parent_span_id": PARENT}, ValueError),
    ({"trace_flags": -1}, ValueError),
    ({"trace_flags": 256}, ValueError),
    ({"trace_flags": "01"}, TypeError),
    ({"trace_flags": True}, TypeError),
]


UNFIT = [(name, value) for name, value, error in ERRORS if error is ValueError and name != "operation"]
UNFIT_IDS: list[dict[str, Any]] = [arguments for arguments, error in ID_ERRORS if error is ValueError]


def refuses(function: Callable[..., Any], name: str, error: type[Exception]) -> bool:
    """Whether a function raises: a builder for all, a door for what is of another type or vocabulary."""
    return function in (build, build_with_header) or error is TypeError or name == "operation"


REFUSED = [
    (function, strict, *row)
    for function in EVERY_FUNCTION
    for strict in (False, True)
    for row in ERRORS
    if strict or refuses(function, row[0], row[2])
]


@pytest.mark.parametrize(
    ("function", "strict", "name", "value", "error"),
    REFUSED,
    ids=lambda value: value.__name__ if callable(value) else str(value)[:20],
)
def test_a_wrong_argument_raises_and_nothing_is_counted(
    process: Shared,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    strict: bool,
    name: str,
    value: object,
    error: type[Exception],
) -> None:
    if strict:
        monkeypatch.setenv("RINGBUF_STRICT", "1")
    with pytest.raises(error, match=name.replace("lease_id", "lease id").replace("start", "(start|end)")):
        function(**{name: value})
    assert process.stats().attempts == 0


@pytest.mark.parametrize(("name", "value"), UNFIT, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("function", [emit, emit_with_header])
def test_an_argument_that_does_not_fit_is_left_out(
    process: Shared, function: Callable[..., Any], name: str, value: object
) -> None:
    assert function(**{"nbytes": 1, name: value})
    (record,) = process.written()
    values = DATAPLANE_LAYOUT.values(record)
    key = {"nbytes": "grafos.bytes", "lease_id": "grafos.lease.id"}.get(name)
    assert set(DATAPLANE_LAYOUT.offsets) - set(values) == ({key} if key else set())
    assert record["start_unix_nano"] > 0
    assert record["end_unix_nano"] > 0
    assert (process.stats().published, process.stats().invalid_values) == (1, 1)


@pytest.mark.parametrize("arguments", UNFIT_IDS, ids=lambda value: str(value)[:40])
def test_ids_that_cannot_be_start_a_trace(process: Shared, arguments: dict[str, Any]) -> None:
    assert emit(**arguments)
    (record,) = process.written()
    assert record["trace_id"].tobytes() not in (TRACE, bytes(16))
    assert not record["parent_span_id"].any()
    assert (process.stats().published, process.stats().invalid_values) == (1, 1)


@pytest.mark.parametrize(("arguments", "error"), ID_ERRORS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("function", [build, emit])
def test_a_wrong_id_raises_and_nothing_is_counted(
    process: Shared,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    arguments: dict[str, object],
    error: type[Exception],
) -> None:
    if function is emit and error is ValueError:
        monkeypatch.setenv("RINGBUF_STRICT", "1")
    with pytest.raises(error, match=r"trace_id|parent_span_id|trace_flags"):
        function(**arguments)
    assert process.stats().attempts == 0


@pytest.mark.parametrize("kind", ["FBMU", 0, None, "grafos.dataplane.fbmu"])
@pytest.mark.parametrize("function", EVERY_FUNCTION)
def test_a_kind_of_another_type_raises(process: Shared, function: Callable[..., Any], kind: object) -> None:
    with pytest.raises(TypeError, match="kind"):
        function(kind)
    assert process.stats().attempts == 0


@pytest.mark.parametrize("function", EVERY_FUNCTION)
def test_a_control_plane_submission_is_refused_with_the_reason(process: Shared, function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="control-plane submission"):
        function(operation=OpType.TASKLET_SUBMIT)


def test_there_is_no_site_for_a_control_plane_submission(process: Shared) -> None:
    with pytest.raises(ValueError, match="control-plane submission"):
        site(OpType.TASKLET_SUBMIT, resource_kind=ResourceKind.MEM)
    with pytest.raises((TypeError, ValueError)):
        site(OpType.TASKLET_SUBMIT)


def test_a_site_of_the_capability_cache_asks_for_the_kind_of_its_leases(process: Shared) -> None:
    with pytest.raises(ValueError, match="capability_lookup needs the kind of the lease"):
        site(OpType.CAPABILITY_LOOKUP)


@pytest.mark.parametrize(("op", "kind"), [("fbmu_read", None), (0, None), (OpType.FBMU_READ, "memory")])
def test_a_site_of_another_type_is_refused(process: Shared, op: Any, kind: Any) -> None:
    with pytest.raises(TypeError):
        site(op, resource_kind=kind)


def test_a_site_on_an_emitter_of_another_layout_is_refused(ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["other"], attributes=[])
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, layout=layout) as emitter,
        pytest.raises(ValueError, match="another layout"),
    ):
        site(OpType.FBMU_READ, emitter=emitter)


# ---- conditions return False and are counted ----


def test_a_full_ring_returns_false_through_every_door(process: Shared) -> None:
    ringbuf.configure("service", capacity=4)
    read = site(OpType.FBMU_READ)
    assert [emit() for _ in range(5)] == [True] * 4 + [False]
    assert not emit_under(SAMPLED)
    assert not read.emit(LeaseId(7), 1, 2)
    assert not read.emit(LeaseId(7), 1, 2, 5, Outcome.ERROR)
    with read.span(LeaseId(7)):
        pass
    assert not ringbuf.get_emitter().emit(build())
    assert (process.stats().full, process.stats().attempts) == (6, 10)


def test_a_closed_emitter_returns_false_through_every_door(process: Shared) -> None:
    ringbuf.configure("service")
    read = site(OpType.FBMU_READ)
    assert emit()
    ringbuf.get_emitter().close()
    assert not emit()
    assert not emit_under(SAMPLED)
    assert not read.emit(LeaseId(7), 1, 2, 5)
    with read.span(LeaseId(7)):
        pass
    assert not ringbuf.get_emitter().emit(build())
    assert (process.stats().local, process.stats().attempts) == (5, 6)
    assert len(process.written()) == 1


def test_without_a_ring_every_door_returns_false(process: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", "/dev/null/rings")
    read = site(OpType.FBMU_READ)
    assert not emit()
    assert not emit_under(SAMPLED)
    assert not read.emit(LeaseId(7), 1, 2)
    with read.span(LeaseId(7)):
        pass
    assert not ringbuf.get_emitter().emit(build())
    records = DATAPLANE_LAYOUT.empty(3)
    ringbuf.get_emitter().fill_ids(records)
    assert ringbuf.get_emitter().emit_batch(records) == 0
    assert (process.stats().local, process.stats().attempts) == (8, 8)
