"""The example that adds up a topic: what came twice counts once, and what did not come is told."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")
A, B = "00f1e2d3c4b5a697", "a697000000000000"


def example(name: str = "kafka_audit") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for themselves there
    spec.loader.exec_module(module)
    return module


def message(drain: str, number: int, first: int, spans: int, of: int) -> dict[str, str]:
    numbers = {"batch": number, "first": first, "spans": spans, "of": of}
    return {"ringbuf.drain": drain} | {f"ringbuf.{name}": str(value) for name, value in numbers.items()}


def added_up(*messages: dict[str, str]) -> dict[str, Any]:
    sums: dict[str, Any] = example().add_up(messages)
    return sums


def test_each_span_counts_once() -> None:
    sums = added_up(
        message(A, 1, 0, 10, 10),
        message(A, 1, 0, 10, 10),  # sent twice
        message(A, 2, 5, 5, 10),  # in pieces, in any order
        message(A, 2, 0, 5, 10),
        message(A, 5, 0, 4, 10),  # cut in one way the first time, and in another the second
        message(A, 5, 0, 6, 10),
        message(A, 5, 7, 3, 10),
        message(B, 1, 0, 3, 3),
    )
    one = sums[A]
    assert (one.batches, one.absent_batches, one.spans, one.repeated, one.missing) == (3, 2, 29, 14, 1)
    other = sums[B]
    assert (other.batches, other.absent_batches, other.spans, other.repeated, other.missing) == (1, 0, 3, 0, 0)


def test_what_has_no_number_is_counted_by_itself() -> None:
    sums = added_up({"ringbuf.spans": "7"}, message(A, 1, 0, 2, 2), {})
    assert {drain: one.spans for drain, one in sums.items()} == {"": 7, A: 2}
