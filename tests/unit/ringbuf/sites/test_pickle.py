"""What is handed to another process: emitters and sites bind anew, a parent goes along, a span says what to do."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf import shared
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, ResourceKind, site
from ringbuf.ring.process_ring import PROCESS_RINGS
from ringbuf.sites.span import Parent
from tests.consumer import Consumer, records_in, rings_in
from tests.unit.doors import Shared, emit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE = LeaseId(7)
LAYOUT = ringbuf.SpanLayout(
    span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64"), ringbuf.Attribute("hit", "bool")]
)


def loaded(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - our own


def pickled(value: object) -> Any:
    return loaded(pickle.dumps(value))


def emit_in_child(get: Any, read: Any, parent: Parent) -> None:
    assert get.emit(1, 2, 512)
    with read.span(LEASE) as span:
        span.nbytes = 5
    assert read.emit_under(parent, LEASE, 1, 2)


def services_in(ring_dir: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            found.setdefault(path.name.split("-")[0], []).extend(consumer.take_all())
    return found


def test_sites_go_to_a_spawned_process_and_bind_there(ring_dir: Path, process: Shared) -> None:
    ringbuf.configure("shared", ring_dir=ring_dir, capacity=16)
    own = ringbuf.Emitter("own", ring_dir=ring_dir, layout=LAYOUT, capacity=8)
    get = own.site("get", varying=["bytes"], constants={"hit": True})
    parent = Parent(bytes(range(16)), bytes(range(8)), 1)
    child = multiprocessing.get_context("spawn").Process(
        target=emit_in_child, args=(get, site(OpType.FBMU_READ), parent)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    written = services_in(ring_dir)
    (record,) = written["own"]
    assert LAYOUT.values(record) == {"bytes": 512, "hit": True}
    block, under = written["shared"]
    assert DATAPLANE_LAYOUT.values(block)["grafos.bytes"] == 5
    assert under["parent_span_id"].tobytes() == bytes(range(8))
    own.close()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_where_an_emitter_is_known_it_comes_back_as_it_is(ring_dir: Path, again: Callable[[Any], Any]) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=8) as emitter:
        assert again(emitter) is emitter
        get = again(emitter.site("get", varying=["bytes"]))
        assert get.emit(1, 2, 3)
        assert emitter.stats().published == 1
        assert len(records_in(ring_dir)) == 1
    assert again(emitter).closed


def test_the_same_emitter_elsewhere_is_one_and_makes_its_ring_at_its_first_span(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=8, resource_attributes={"a": 1})
    data = pickle.dumps([emitter.site("get", varying=["bytes"]), emitter.site("get"), emitter])
    emitter.close()
    assert rings_in(ring_dir) == []
    PROCESS_RINGS.pop(emitter._mark)  # as in a process that never had it
    with_bytes, bare, other = loaded(data)
    assert other is not emitter
    assert rings_in(ring_dir) == []
    assert with_bytes.emit(1, 2, 3)
    assert bare.emit(1, 2)
    assert len(rings_in(ring_dir)) == 1
    assert other.stats().published == 2
    assert len(records_in(ring_dir)) == 2
    other.close()


def test_a_closed_emitter_stays_closed_elsewhere(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=8)
    get = emitter.site("get")
    emitter.close()
    data = pickle.dumps(get)
    PROCESS_RINGS.pop(emitter._mark)
    assert not loaded(data).emit(1, 2)
    assert rings_in(ring_dir) == []


def test_the_shared_emitter_is_the_shared_one_elsewhere(ring_dir: Path, process: Shared) -> None:
    ringbuf.configure("shared", ring_dir=ring_dir, capacity=16)
    data = pickle.dumps(site(OpType.FBMU_READ, resource_kind=ResourceKind.BLOCK))
    ringbuf.get_emitter().close()
    shared.SHARED.clear()
    read = site(OpType.FBMU_WRITE)  # bound by the module that the child imports, before anything is unpickled
    again = loaded(data)
    assert again.emit(LEASE, 1, 2)
    assert read.emit(LEASE, 1, 2)
    assert emit()
    (path,) = rings_in(ring_dir)
    assert path.name.startswith("shared-")
    assert ringbuf.get_emitter().stats().capacity == 16


def test_a_shared_emitter_that_is_configured_elsewhere_stays_so(ring_dir: Path, process: Shared) -> None:
    ringbuf.configure("parent", ring_dir=ring_dir, capacity=16)
    data = pickle.dumps(site(OpType.FBMU_READ))
    ringbuf.get_emitter().close()
    shared.SHARED.clear()
    ringbuf.configure("child", ring_dir=ring_dir, capacity=32)
    assert loaded(data).emit(LEASE, 1, 2)
    assert ringbuf.get_emitter().stats().capacity == 32


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_parent_is_the_same_elsewhere(ring_dir: Path, again: Callable[[Any], Any]) -> None:
    trace_id, span_id = bytes(range(16)), bytes(range(8))
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=8) as emitter:
        assert emitter.site("get").emit_under(again(Parent(trace_id, span_id, 0x301)), 1, 2)
        (record,) = records_in(ring_dir)
    found = (record["trace_id"].tobytes(), record["parent_span_id"].tobytes(), record["flags"])
    assert found == (trace_id, span_id, 0x301)


@pytest.mark.parametrize("again", [copy.copy, pickle.dumps])
def test_a_span_says_what_to_hand_on(ring_dir: Path, again: Callable[[Any], Any]) -> None:
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=8) as emitter,
        emitter.site("get").span() as span,
        pytest.raises(TypeError, match="traceparent"),
    ):
        again(span)
    records_in(ring_dir)
