"""The Phase 219 vocabulary: names, order, labels and the mapping of operations to families."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import textwrap
import tracemalloc
import uuid
from typing import TYPE_CHECKING

import pytest

from ringbuf import phase219
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    PHASE_219_SPAN_NAMES,
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    dataplane_operation_label,
    dataplane_span_kind_for_op_type,
)

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = [
    "fbmu_read",
    "fbmu_write",
    "fbbu_read",
    "fbbu_write",
    "fbbu_flush",
    "gpu_session_open",
    "gpu_session_submit",
    "gpu_session_close",
    "capability_lookup",
    "capability_refresh",
    "capability_invalidate",
    "tasklet_submit",
    "gpu_mem_alloc",
    "gpu_mem_write",
    "gpu_mem_read",
    "gpu_module_load",
    "gpu_launch",
    "gpu_sync",
]
FAMILY = {
    "fbmu": DataplaneSpanKind.FBMU,
    "fbbu": DataplaneSpanKind.FBBU,
    "gpu": DataplaneSpanKind.GPU_SESSION,
    "capability": DataplaneSpanKind.CAPABILITY_CACHE,
    "tasklet": None,
}
RAW = bytes(range(16))


def test_the_span_names_stand_in_their_order() -> None:
    assert PHASE_219_SPAN_NAMES == (
        "grafos.dataplane.fbmu",
        "grafos.dataplane.fbbu",
        "grafos.dataplane.gpu_session",
        "grafos.dataplane.capability_cache",
    )


def test_the_families_stand_in_their_order() -> None:
    assert [kind.name for kind in DataplaneSpanKind] == ["FBMU", "FBBU", "GPU_SESSION", "CAPABILITY_CACHE"]


def test_every_family_has_one_span_name_of_its_own() -> None:
    assert tuple(kind.span_name for kind in DataplaneSpanKind) == PHASE_219_SPAN_NAMES


def test_the_operations_stand_in_their_order() -> None:
    assert [op.name.lower() for op in OpType] == OPERATIONS


def test_an_operation_prints_as_its_label() -> None:
    assert [str(op) for op in OpType] == OPERATIONS
    assert [f"{op}" for op in OpType] == OPERATIONS


@pytest.mark.parametrize("op", OpType)
def test_the_label_of_an_operation_is_one_interned_string(op: OpType) -> None:
    assert dataplane_operation_label(op) is str(op)
    assert dataplane_operation_label(op) is sys.intern(op.name.lower())


def test_the_label_of_an_operation_is_returned_without_an_allocation() -> None:
    operations = list(OpType)
    labels = [dataplane_operation_label(op) for op in operations]

    def allocated() -> int:
        size = 0
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for op in operations:
                dataplane_operation_label(op)
            size = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        return size

    # The loop's iterator and what tracemalloc itself keeps; eighteen strings would be 1,000 bytes, each time. What
    # another thread takes meanwhile, as that of the test runner does, is there but once.
    assert min(allocated() for _ in range(5)) < 200
    assert labels == OPERATIONS


@pytest.mark.parametrize("op", OpType)
def test_every_operation_belongs_to_the_family_that_its_name_says(op: OpType) -> None:
    assert dataplane_span_kind_for_op_type(op) is FAMILY[str(op).partition("_")[0]]


def test_the_control_planes_submission_has_no_family() -> None:
    assert dataplane_span_kind_for_op_type(OpType.TASKLET_SUBMIT) is None


@pytest.mark.prove
def test_an_operation_without_a_family_fails_the_type_check(tmp_path: Path) -> None:
    source = textwrap.dedent("\n".join(phase219_source("ResourceKind", "OpType", "dataplane_span_kind_for_op_type")))
    assert mypy(source, tmp_path) == 0
    assert mypy(source.replace("GPU_SYNC = 17", "GPU_SYNC = 17\n    NEW = 18", 1), tmp_path) != 0


def test_an_operation_without_a_family_fails_when_it_is_mapped() -> None:
    with pytest.raises(AssertionError):
        dataplane_span_kind_for_op_type(len(OpType))  # type: ignore[arg-type]  # that is the point


def test_the_kinds_of_resources_stand_in_their_order() -> None:
    assert [str(kind) for kind in ResourceKind] == ["mem", "block", "net", "cpu", "gpu", "gpumem", "tasklet"]
    assert [kind.value for kind in ResourceKind] == [*range(7)]


def test_an_operation_knows_what_its_leases_are_for_unless_they_may_be_for_anything() -> None:
    kinds = {str(op): op.resource_kind for op in OpType}
    assert kinds["fbmu_read"] is kinds["fbmu_write"] is ResourceKind.MEM
    assert kinds["fbbu_read"] is kinds["fbbu_write"] is kinds["fbbu_flush"] is ResourceKind.BLOCK
    on_memory = {"gpu_mem_alloc", "gpu_mem_write", "gpu_mem_read"}
    assert {op: kind for op, kind in kinds.items() if op.startswith("gpu")} == {
        op: ResourceKind.GPU_MEM if op in on_memory else ResourceKind.GPU for op in kinds if op.startswith("gpu")
    }
    anything = ["capability_lookup", "capability_refresh", "capability_invalidate", "tasklet_submit"]
    assert [op for op, kind in kinds.items() if kind is None] == anything


def test_the_outcomes_stand_in_their_order() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "ok",
        "hit",
        "miss",
        "error",
        "timeout",
        "denied",
        "expired",
        "cancelled",
        "revoked",
        "fenced",
    ]


def test_only_failures_give_a_span_the_status_error() -> None:
    failures = {Outcome.ERROR, Outcome.TIMEOUT, Outcome.DENIED, Outcome.EXPIRED, Outcome.REVOKED, Outcome.FENCED}
    assert {outcome: outcome.status for outcome in Outcome} == {
        outcome: 2 if outcome in failures else 0 for outcome in Outcome
    }


def test_the_scope_is_phase_219_of_the_data_plane() -> None:
    assert (DATAPLANE_LAYOUT.scope_name, DATAPLANE_LAYOUT.scope_version) == ("grafos.dataplane", "219")


def test_the_attribute_keys_and_types_are_the_stable_ones() -> None:
    assert {attribute.key: attribute.type for attribute in DATAPLANE_LAYOUT.attributes} == {
        "grafos.lease.id": "hex",
        "grafos.resource.kind": "label",
        "grafos.operation": "label",
        "grafos.outcome": "label",
        "grafos.bytes": "u64",
    }


def test_the_labels_in_the_layout_are_those_of_the_enumerations() -> None:
    labels = {attribute.key: attribute.labels for attribute in DATAPLANE_LAYOUT.attributes if attribute.labels}
    assert labels == {
        "grafos.resource.kind": tuple(map(str, ResourceKind)),
        "grafos.operation": tuple(map(str, OpType)),
        "grafos.outcome": tuple(map(str, Outcome)),
    }


def test_a_lease_never_becomes_a_metric_label() -> None:
    assert {a.key for a in DATAPLANE_LAYOUT.attributes if a.metric_label} == {"grafos.operation", "grafos.outcome"}


def test_a_record_of_the_data_plane_takes_two_cache_lines() -> None:
    assert DATAPLANE_LAYOUT.slot_bytes == 128


@pytest.mark.parametrize(
    "form",
    [
        RAW,
        bytearray(RAW),
        memoryview(RAW),
        RAW.hex(),
        RAW.hex().upper(),
        int.from_bytes(RAW, "big"),
        uuid.UUID(bytes=RAW),
        LeaseId(RAW),
    ],
    ids=lambda form: type(form).__name__,
)
def test_a_lease_id_is_taken_in_every_form(form: object) -> None:
    assert LeaseId(form).raw == RAW


@pytest.mark.parametrize(("form", "raw"), [(0, bytes(16)), (2**128 - 1, b"\xff" * 16)])
def test_a_lease_id_may_be_the_least_and_the_greatest_int(form: int, raw: bytes) -> None:
    assert LeaseId(form).raw == raw


@pytest.mark.parametrize(
    "form",
    [
        b"",
        RAW[:15],
        RAW + b"\0",
        -1,
        2**128,
        "",
        RAW.hex()[:-1],
        RAW.hex() + "0",
        str(uuid.UUID(bytes=RAW)),
        "0x" + RAW.hex()[2:],
        RAW.hex()[:-1] + "g",
        " " + RAW.hex()[1:],
        RAW.hex()[:-2] + "  ",
        "  " + RAW.hex()[2:],
        RAW.hex()[:-2] + "_0",
        "٠" * 32,  # noqa: RUF001 - Arabic zeros are digits to int()
        "\ud800" * 32,
    ],
    ids=repr,
)
def test_a_lease_id_of_another_length_range_or_character_is_a_value_error(form: object) -> None:
    with pytest.raises(ValueError, match="lease id"):
        LeaseId(form)


@pytest.mark.parametrize("form", [None, 1.0, True, False, [], list(RAW), ..., (RAW,)], ids=repr)
def test_a_lease_id_of_another_type_is_a_type_error(form: object) -> None:
    with pytest.raises(TypeError, match="lease id"):
        LeaseId(form)


def test_lease_ids_are_equal_and_hash_by_their_bytes() -> None:
    assert len({LeaseId(RAW), LeaseId(RAW.hex()), LeaseId(1)}) == 2
    assert LeaseId(RAW) == RAW


def test_a_lease_id_goes_to_another_process_and_back() -> None:
    assert pickle.loads(pickle.dumps(LeaseId(RAW))) == LeaseId(RAW)  # noqa: S301 - our own
    assert copy.deepcopy(LeaseId(RAW)).raw == RAW


def phase219_source(*names: str) -> list[str]:
    """Return a module with these definitions of phase219.py as they stand there, and what they need."""
    head = ["from __future__ import annotations", "from enum import Enum, IntEnum", "from typing import assert_never"]
    parts = ["DataplaneSpanKind", "_Labelled", *names]
    return [*head, "import sys", *(inspect.getsource(getattr(phase219, name)) for name in parts)]


def mypy(source: str, folder: Path) -> int:
    """Return the exit status of mypy on a module."""
    pytest.importorskip("mypy", reason="needs mypy (extra [dev])")
    path = folder / "snippet.py"
    path.write_text(source)
    command: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={folder / 'cache'}", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0 or "assert_never" in done.stdout, done.stdout + done.stderr
    return done.returncode
