"""What importing costs a producer, and what is left when its interpreter exits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.consumer import Consumer, rings_in
from tests.python import output_of

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"drain", "numpy", "google.protobuf", "opentelemetry", "grpc", "uuid", "logging", "pathlib", "cffi"}
AT_FIRST_USE = {"drain", "numpy", "google.protobuf", "opentelemetry", "grpc", "uuid"}


def imported_by(code: str, *arguments: object) -> set[str]:
    # What the interpreter itself has loaded (the import hook of an editable install is one) does not count.
    lines = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before), sep='\\n')"
    return set(output_of(lines, *arguments).split("\n"))


def test_importing_ringbuf_loads_nothing_heavy() -> None:
    assert imported_by("import ringbuf") & HEAVY == set()


def test_importing_the_vocabulary_loads_neither_the_drain_nor_numpy() -> None:
    assert imported_by("import ringbuf.dataplane") & AT_FIRST_USE == set()


def test_emitting_loads_neither_the_drain_nor_numpy(ring_dir: Path) -> None:
    code = """
import ringbuf
from ringbuf.dataplane import *
with ringbuf.Emitter("service", ring_dir=sys.argv[1], mode=0o600) as emitter:
    read = site(OpType.FBMU_READ, emitter=emitter)
    assert read.emit(LeaseId(1), 1, 2)
    with read.span(LeaseId(1)) as span:
        assert span.traceparent
    emitter.stats()
"""
    loaded = imported_by(code, ring_dir)
    assert loaded & (AT_FIRST_USE - {"uuid"}) == set()


def test_every_public_name_can_be_loaded() -> None:
    output_of("import ringbuf\nfor name in ringbuf.__all__: getattr(ringbuf, name)")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    output_of(
        """
import ringbuf
try:
    ringbuf.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit(1)
"""
    )


ENDINGS = {
    "the end of the program": "",
    "sys.exit": "sys.exit(0)",
    "an unhandled exception": "raise SystemExit(0)",
    "a daemon thread that emits": """
import threading
def emit():
    while True:
        read.emit(LeaseId(1), 1, 2)
for _ in range(3):
    threading.Thread(target=emit, daemon=True).start()
""",
    "a thread that goes on": """
import threading, time
def emit():
    for _ in range(1000):
        read.emit(LeaseId(1), 1, 2)
threading.Thread(target=emit).start()
""",
    "a span that is open": "span = read.span(LeaseId(1)).__enter__()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreters_exit_closes_the_ring(ring_dir: Path, ending: str) -> None:
    code = """
import sys, ringbuf
from ringbuf.dataplane import *
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1])
read = site(OpType.FBMU_READ, emitter=emitter)
assert read.emit(LeaseId(1), 1, 2)
"""
    output_of(code + ENDINGS[ending], ring_dir)
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        assert consumer.view().closed == 1
        assert len(consumer.take()) >= 1


def test_an_exit_at_once_loses_nothing_that_was_emitted(ring_dir: Path) -> None:
    code = """
import os, sys, ringbuf
from ringbuf.dataplane import *
read = site(OpType.FBMU_READ, emitter=ringbuf.Emitter("service", ring_dir=sys.argv[1]))
for number in range(100):
    read.emit(LeaseId(1), number, 200)
os._exit(0)
"""
    output_of(code, ring_dir)
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        assert consumer.view().closed == 0
        assert consumer.take()["start_unix_nano"].tolist() == list(range(100))
