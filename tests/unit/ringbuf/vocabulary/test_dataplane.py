"""The doors of Phase 219: what each of them writes, and under which parent."""

from __future__ import annotations

import pickle
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

import ringbuf
from ringbuf import SpanKind, dataplane_site
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    site,
)
from tests.unit.doors import (
    OPERATIONS,
    PARENT,
    SAMPLED,
    TRACE,
    Shared,
    build,
    build_under,
    build_with_header,
    emit,
    emit_under,
    emit_with_header,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_built_record_has_every_value(process: Shared) -> None:
    record = build(nbytes=4096, outcome=Outcome.DENIED)
    assert (record["start_unix_nano"], record["end_unix_nano"]) == (1000, 2000)
    assert (record["kind"], record["status"], record["flags"], record["reserved"]) == (1, 2, 0x101, 0)
    assert values(record) == {
        "grafos.lease.id": f"{7:032x}",
        "grafos.resource.kind": "mem",
        "grafos.operation": "fbmu_read",
        "grafos.outcome": "denied",
        "grafos.bytes": 4096,
    }


@pytest.mark.parametrize("function", [emit, emit_with_header])
def test_a_status_that_is_given_is_stronger_than_the_outcomes(process: Shared, function: Callable[..., bool]) -> None:
    assert function(outcome=Outcome.MISS, status=ringbuf.Status.ERROR)
    assert function(outcome=Outcome.ERROR, status=ringbuf.Status.OK)
    assert function(outcome=Outcome.ERROR, status=None)
    assert [int(record["status"]) for record in process.written()] == [2, 1, 2]
    with pytest.raises(TypeError, match="status"):
        function(status="error")


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_is_written_with_the_name_of_its_family(process: Shared, op: OpType) -> None:
    assert emit(OPERATIONS[op], operation=op)
    assert site(op, resource_kind=ResourceKind.NET).emit(LeaseId(7), 1000, 2000)
    names = [DATAPLANE_LAYOUT.span_names[record["name"]] for record in (build(OPERATIONS[op], operation=op),)]
    written = process.written()
    assert [values(record)["grafos.operation"] for record in written] == [str(op)] * 2
    assert (
        [DATAPLANE_LAYOUT.span_names[record["name"]] for record in written] == names * 2 == [OPERATIONS[op].value] * 2
    )


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_written_with_its_status(process: Shared, outcome: Outcome) -> None:
    lease = LeaseId(7)
    read = site(OpType.FBMU_READ)
    assert emit(outcome=outcome)
    assert read.emit(lease, 1000, 2000, None, outcome)
    with read.span(lease) as span:
        span.outcome = outcome
    records = [build(outcome=outcome), *process.written()]
    assert [values(record)["grafos.outcome"] for record in records] == [str(outcome)] * 4
    assert [record["status"] for record in records] == [outcome.status] * 4


@pytest.mark.parametrize("kind", ResourceKind)
def test_every_kind_of_resource_is_written(process: Shared, kind: ResourceKind) -> None:
    assert emit(resource_kind=kind)
    assert site(OpType.FBMU_READ, resource_kind=kind).emit(LeaseId(7), 1000, 2000)
    records = [build(resource_kind=kind), *process.written()]
    assert [values(record)["grafos.resource.kind"] for record in records] == [str(kind)] * 3


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (OpType.FBMU_WRITE, "mem"),
        (OpType.FBBU_FLUSH, "block"),
        (OpType.GPU_SESSION_OPEN, "gpu"),
        (OpType.GPU_MEM_READ, "gpumem"),
        (OpType.GPU_SYNC, "gpu"),
    ],
)
def test_a_site_knows_what_its_operation_works_on(process: Shared, op: OpType, kind: str) -> None:
    assert site(op).emit(LeaseId(7), 1000, 2000)
    assert values(process.written()[0])["grafos.resource.kind"] == kind


@pytest.mark.parametrize("kind", [None, SpanKind.SERVER, trace.SpanKind.CLIENT])
def test_a_site_has_the_kind_that_it_is_given(process: Shared, kind: Any) -> None:
    read = site(OpType.FBMU_READ) if kind is None else site(OpType.FBMU_READ, kind=kind)
    assert read.emit(LeaseId(7), 1000, 2000)
    again = pickle.loads(pickle.dumps(read))  # noqa: S301 - what was pickled here
    with again.span(LeaseId(7)):
        pass
    expected = SpanKind.INTERNAL if kind is None else SpanKind[kind.name]
    assert [record["kind"] for record in process.written()] == [expected] * 2


def test_a_kind_that_there_is_not_is_refused_by_name() -> None:
    wrong: Any = "server"
    with pytest.raises(TypeError, match="kind: 'server' is none of SpanKind"):
        site(OpType.FBMU_READ, kind=wrong)


@pytest.mark.parametrize("nbytes", [None, 0, 1, 2**63, 2**64 - 1])
def test_absent_bytes_and_zero_bytes_differ_through_every_door(process: Shared, nbytes: int | None) -> None:
    lease = LeaseId(7)
    read = site(OpType.FBMU_READ)
    assert emit(nbytes=nbytes)
    assert emit_under(SAMPLED, nbytes=nbytes)
    assert read.emit(lease, 1000, 2000, nbytes)
    with read.span(lease) as span:
        span.nbytes = nbytes
    records = [build(nbytes=nbytes), build_under(SAMPLED, nbytes=nbytes), *process.written()]
    assert [values(record).get("grafos.bytes") for record in records] == [nbytes] * 6


@pytest.mark.parametrize("form", [7, (7).to_bytes(16, "big"), f"{7:032x}", uuid.UUID(int=7), LeaseId(7)])
def test_every_function_takes_a_lease_in_every_form(process: Shared, form: object) -> None:
    assert emit(lease_id=form)
    assert emit_under(SAMPLED, lease_id=form)
    records = [build(lease_id=form), build_under(SAMPLED, lease_id=form), *process.written()]
    assert [values(record)["grafos.lease.id"] for record in records] == [f"{7:032x}"] * 4


NUMBERS = [0, 1, 2**30, 2**63, 2**64 - 1, 2**64, 2**64 + 5, 2**127, 2**128 - 1, 0x0123456789ABCDEFFEDCBA9876543210]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_usual_forms_of_a_lease_are_read_without_python(
    process: Shared, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(dataplane_site, "_convert_any", refuse)
    data = number.to_bytes(16, "big")
    for form in (number, data, data.hex(), data.hex().upper(), uuid.UUID(int=number), LeaseId(number)):
        assert emit(lease_id=form)
    assert {record["grafos.lease.id"].tobytes() for record in process.written()} == {data}


class Text(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Id(uuid.UUID):
    """Of another type than the one that is known."""


@pytest.mark.parametrize(
    "form",
    [
        *(-1, 2**128, 2**200, -(2**64), True, Number(7)),
        *(bytes(15), bytes(17), bytearray(16), memoryview(bytes(16))),
        *("", "0" * 31, "0" * 33, "g" * 32, "0" * 31 + "/", "0" * 31 + ":", "0" * 31 + "@", "0" * 31 + "`"),
        *("0" * 31 + " ", "0" * 31 + "\0", "\uff11" * 32, "0" * 31 + "\ud800", "0" * 30 + "\xe9", Text("0" * 32)),
        *(Id(int=7), 1.5, None, object(), [7]),
    ],
    ids=lambda form: type(form).__name__,
)
def test_other_forms_of_a_lease_are_what_lease_id_makes_of_them(process: Shared, form: Any) -> None:
    try:
        expected = LeaseId(form)
    except ValueError:
        assert emit(lease_id=form)
        assert "grafos.lease.id" not in values(process.written()[0])
    except TypeError:
        with pytest.raises(TypeError, match="lease id"):
            emit(lease_id=form)
    else:
        assert emit(lease_id=form)
        assert values(process.written()[0])["grafos.lease.id"] == expected.hex()


def test_an_emitted_span_is_the_built_record(process: Shared) -> None:
    arguments: dict[str, Any] = {"trace_id": TRACE, "parent_span_id": PARENT, "nbytes": 5, "trace_flags": 3}
    record = build(**arguments)
    assert emit(**arguments)
    (written,) = process.written()
    record["span_id"] = written["span_id"]
    assert written.tobytes() == record.tobytes()


def test_a_span_emitted_under_a_header_is_the_built_record(process: Shared) -> None:
    record = build_under(SAMPLED, nbytes=5)
    assert emit_under(SAMPLED, nbytes=5)
    (written,) = process.written()
    record["span_id"] = written["span_id"]
    assert written.tobytes() == record.tobytes()


# ---- parents, flags and ids ----


def test_a_span_without_a_trace_starts_one(process: Shared) -> None:
    assert emit()
    assert emit()
    records = [build(), build(), *process.written()]
    assert all(record["parent_span_id"].tobytes() == bytes(8) for record in records)
    assert len({record["trace_id"].tobytes() for record in records} - {bytes(16)}) == 4
    assert len({record["span_id"].tobytes() for record in records} - {bytes(8)}) == 4


def test_given_ids_are_written(process: Shared) -> None:
    assert emit(trace_id=TRACE, parent_span_id=PARENT)
    for record in (build(trace_id=TRACE, parent_span_id=PARENT), *process.written()):
        assert record["trace_id"].tobytes() == TRACE
        assert record["parent_span_id"].tobytes() == PARENT
        assert record["flags"] == 0x101


def test_a_trace_without_a_parent_has_this_span_as_its_root(process: Shared) -> None:
    assert emit(trace_id=TRACE)
    for record in (build(trace_id=TRACE), *process.written()):
        assert record["trace_id"].tobytes() == TRACE
        assert record["parent_span_id"].tobytes() == bytes(8)


def test_a_header_names_the_parent_in_another_process(process: Shared) -> None:
    assert emit_under(SAMPLED)
    with site(OpType.FBMU_READ).span(LeaseId(7), traceparent=SAMPLED):
        pass
    for record in (build_under(SAMPLED), *process.written()):
        assert record["trace_id"].tobytes() == TRACE
        assert record["parent_span_id"].tobytes() == PARENT
        assert record["flags"] == 0x301


@pytest.mark.parametrize("header", [None, "", "garbage", SAMPLED.upper(), SAMPLED + "-", f"ff{SAMPLED[2:]}", 5, b"x"])
def test_no_header_or_an_invalid_one_starts_a_new_trace(process: Shared, header: object) -> None:
    assert emit_under(header)
    for record in (build_under(header), *process.written()):
        assert record["trace_id"].tobytes() not in (TRACE, bytes(16))
        assert record["parent_span_id"].tobytes() == bytes(8)
        assert record["flags"] | 2 == 0x103  # a record that is only built was not sampled here


@pytest.mark.parametrize("name", ["trace_id", "parent_span_id", "trace_flags"])
@pytest.mark.parametrize("function", [build_with_header, emit_with_header])
def test_the_form_with_a_header_takes_no_ids(function: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=name):
        function(**{name: 1})


def test_the_flags_of_a_trace_are_kept(process: Shared) -> None:
    assert emit(trace_id=TRACE, parent_span_id=PARENT, trace_flags=3)
    assert [record["flags"] for record in process.written()] == [0x103]
    assert build(trace_flags=0)["flags"] == 0x100
