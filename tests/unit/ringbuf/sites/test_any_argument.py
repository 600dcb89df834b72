"""Whatever is passed to a door: a span, or TypeError or ValueError and no count; never a stray read."""

from __future__ import annotations

import functools
import shutil
import tempfile
import types
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringbuf
from ringbuf._ringbuf import ffi
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, Outcome, site
from tests.conftest import SESSION, SHM
from tests.consumer import Consumer, rings_in
from tests.examples import examples
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEASE = LeaseId(7)
LAYOUT = ringbuf.SpanLayout(
    span_names=["get"],
    attributes=[
        ringbuf.Attribute("flag", "bool"),
        ringbuf.Attribute("small", "i8"),
        ringbuf.Attribute("ratio", "f64"),
        ringbuf.Attribute("tier", "label", labels=("ram", "disk")),
        ringbuf.Attribute("id", "hex", 16),
        ringbuf.Attribute("text", "str", 8),
        ringbuf.Attribute("raw", "bytes", 8),
    ],
)
KEYS = [attribute.key for attribute in LAYOUT.attributes]


class Liar(bytes):
    """Says that it is a record, and is as long as it is."""

    dtype = DATAPLANE_LAYOUT.dtype
    shape = ()
    ndim = 1
    size = 1000
    flags = types.SimpleNamespace(c_contiguous=True, writeable=True)


class LongArray(np.ndarray[Any, Any]):
    """Says that it has more records than it has."""

    size = 1000

    def __len__(self) -> int:
        return 1000

    def __repr__(self) -> str:
        return "LongArray"


pointers = [ffi.NULL, [], [[]], ffi.new("uint8_t[0]"), ffi.new("char[1]"), b"", b"abc", None, 0, 1]
anything: st.SearchStrategy[Any] = st.one_of(
    st.none() | st.booleans() | st.floats() | st.complex_numbers() | st.decimals() | st.fractions() | st.uuids(),
    st.integers() | st.integers(-(2**64), 2**65) | st.sampled_from([-1, 0, 2**63, 2**64 - 1, 2**64, 2**200]),
    st.text(max_size=40) | st.binary(max_size=40) | st.binary(max_size=40).map(bytearray),
    st.binary(max_size=40).map(lambda data: memoryview(data)),  # noqa: PLW0108 - mypy cannot type the class as a function
    st.lists(st.integers(0, 255), max_size=20) | st.tuples(st.integers()) | st.dictionaries(st.text(), st.none()),
    st.sampled_from([*Outcome, *OpType, Outcome, object(), int, LEASE, LeaseId, print, ..., NotImplemented]),
    st.sampled_from(pointers).map(lambda pointer: types.SimpleNamespace(pointer=pointer)),
    st.sampled_from([ffi.new("uint8_t[0]"), ffi.new("uint64_t *"), ffi.new("rb_record *"), ffi.NULL, ffi.new("int *")]),
    st.sampled_from([np.zeros(0), np.zeros(3), np.float32(1.5), np.int64(-1), np.uint8(3), np.zeros((), "V16")]),
    st.integers(0, 300).map(lambda size: Liar(bytes(size))),
    st.integers(0, 2).map(lambda count: DATAPLANE_LAYOUT.empty(count).view(LongArray)),
)
moments = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def emitters() -> Iterator[dict[str, ringbuf.Emitter]]:
    """Return an emitter for each of two layouts, over all examples."""
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    made = {
        "dataplane": ringbuf.Emitter("service", ring_dir=folder / "dataplane", capacity=64),
        "other": ringbuf.Emitter("service", ring_dir=folder / "other", layout=LAYOUT, capacity=64),
    }
    yield made
    for emitter in made.values():
        drain(emitter)
        emitter.close()
    shutil.rmtree(folder)


def drain(emitter: ringbuf.Emitter) -> None:
    path = emitter.stats().path
    assert path is not None
    for ring in rings_in(path.parent):
        with Consumer(ring) as consumer:
            consumer.take_all()


def written_or_refused(emitter: ringbuf.Emitter, attempts: int, call: Callable[..., Any], *arguments: Any) -> None:
    """Call a door: it counts its attempts, or raises TypeError or ValueError and counts nothing."""
    before = emitter.stats()
    if before.pending > 32:
        drain(emitter)
    try:
        call(*arguments)
    except (TypeError, ValueError):
        assert emitter.stats().attempts == before.attempts
    else:
        assert emitter.stats().attempts == before.attempts + attempts


@settings(max_examples=examples(300))
@given(st.data(), st.integers(0, 4))
def test_emit_of_a_phase_219_site(emitters: dict[str, ringbuf.Emitter], data: st.DataObject, wrong: int) -> None:
    emitter = emitters["dataplane"]
    arguments: list[Any] = [LEASE, data.draw(moments), data.draw(moments), data.draw(st.none() | moments), Outcome.OK]
    arguments[wrong] = data.draw(anything)
    written_or_refused(emitter, 1, site(OpType.FBMU_READ, emitter=emitter).emit, *arguments)


@settings(max_examples=examples(300))
@given(anything, anything, anything, anything)
def test_a_span_of_a_phase_219_site(
    emitters: dict[str, ringbuf.Emitter], lease: Any, traceparent: Any, outcome: Any, nbytes: Any
) -> None:
    read = site(OpType.FBMU_READ, emitter=emitters["dataplane"])

    def run(lease: Any, traceparent: Any, outcome: Any, nbytes: Any) -> None:
        with read.span(lease, traceparent=traceparent) as span:
            span.outcome = outcome
            span.nbytes = nbytes

    for arguments in (
        (lease, None, Outcome.OK, None),
        (LEASE, traceparent, Outcome.OK, None),
        (LEASE, None, outcome, None),
        (LEASE, None, Outcome.OK, nbytes),
    ):
        written_or_refused(emitters["dataplane"], 1, run, *arguments)


@settings(max_examples=examples(300))
@given(anything)
def test_emit_of_a_record(emitters: dict[str, ringbuf.Emitter], record: Any) -> None:
    written_or_refused(emitters["dataplane"], 1, emitters["dataplane"].emit, record)


@settings(max_examples=examples(300))
@given(anything.filter(lambda records: not (isinstance(records, np.ndarray) and records.nbytes == 0)))
def test_emit_batch_and_fill_ids(emitters: dict[str, ringbuf.Emitter], records: Any) -> None:
    emitter = emitters["dataplane"]
    count = getattr(records, "nbytes", 0) // 128 if isinstance(records, np.ndarray) else 0
    written_or_refused(emitter, count, emitter.emit_batch, records)
    written_or_refused(emitter, 0, emitter.fill_ids, records)


def test_a_record_that_lies_about_its_length_is_refused(emitters: dict[str, ringbuf.Emitter]) -> None:
    emitter = emitters["dataplane"]
    (record,) = fresh_records(emitter, 1)
    before = emitter.stats().attempts
    with pytest.raises((TypeError, ValueError)):
        emitter.emit(Liar(record.tobytes()[:64]))  # type: ignore[arg-type]  # that is the point
    assert emitter.stats().attempts == before


def test_an_array_that_lies_about_its_length_is_taken_as_it_is(emitters: dict[str, ringbuf.Emitter]) -> None:
    emitter = emitters["dataplane"]
    drain(emitter)
    assert emitter.emit_batch(fresh_records(emitter, 2).view(LongArray)) == 2


@pytest.mark.parametrize("pointer", pointers, ids=str)
def test_a_lease_that_only_looks_like_one_is_refused(emitters: dict[str, ringbuf.Emitter], pointer: object) -> None:
    emitter = emitters["dataplane"]
    lease: Any = types.SimpleNamespace(pointer=pointer)
    with pytest.raises((TypeError, ValueError)):
        site(OpType.FBMU_READ, emitter=emitter).emit(lease, 1, 2)
    with pytest.raises((TypeError, ValueError)):
        site(OpType.FBMU_READ, emitter=emitter).span(lease)


def test_a_lease_id_cannot_be_bent(emitters: dict[str, ringbuf.Emitter]) -> None:
    class Bent(LeaseId):
        pass

    lease: Any = LeaseId(uuid.UUID(int=7))
    with pytest.raises(AttributeError):
        lease.raw = b""
    with pytest.raises(TypeError):
        site(OpType.FBMU_READ, emitter=emitters["dataplane"]).emit(Bent(7), 1, 2)


@settings(max_examples=examples(300))
@given(st.data(), st.integers(0, len(KEYS) + 1))
def test_emit_of_any_site(emitters: dict[str, ringbuf.Emitter], data: st.DataObject, wrong: int) -> None:
    arguments: list[Any] = [1, 2, True, -1, 0.5, "ram", bytes(16), "text", b"raw"]
    arguments[wrong] = data.draw(anything)
    written_or_refused(emitters["other"], 1, site_of(emitters["other"]).emit, *arguments)


@settings(max_examples=examples(300))
@given(st.data(), st.sampled_from(KEYS), anything)
def test_a_span_of_any_site(
    emitters: dict[str, ringbuf.Emitter], data: st.DataObject, key: str, traceparent: Any
) -> None:
    get = site_of(emitters["other"])

    def run(value: Any) -> None:
        with get.span(traceparent=traceparent) as span:
            span[key] = value

    written_or_refused(emitters["other"], 1, run, data.draw(anything))


@functools.cache
def site_of(emitter: ringbuf.Emitter) -> Any:
    return emitter.site("get", varying=KEYS)
