"""The emitter that a process shares: when it is made, and who may configure it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf import shared
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.log import wait_until_told
from tests.consumer import Consumer, records_in, rings_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEASE = LeaseId(7)


def service_of(ring_dir: Path) -> str:
    """Return the service name in the one ring's header."""
    (path,) = rings_in(ring_dir)
    with Consumer(path, observe=True) as consumer:
        return str(json.loads(consumer.json("resource"))["service.name"])


@pytest.fixture
def no_shared_emitter() -> Iterator[None]:
    shared.SHARED.clear()
    yield
    ringbuf.get_emitter().close()
    shared.SHARED.clear()


def test_there_is_one_shared_emitter(no_shared_emitter: None) -> None:
    found = {id(ringbuf.get_emitter()) for _ in range(3)}
    assert len(found) == 1


def test_the_shared_emitter_makes_its_ring_at_its_first_span(
    no_shared_emitter: None, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    read = site(OpType.FBMU_READ)
    assert ringbuf.get_emitter().stats().path is None
    assert rings_in(ring_dir) == []
    assert read.emit(LEASE, 1, 2)
    assert service_of(ring_dir) == "named"
    records_in(ring_dir)


def test_configuring_makes_the_shared_ring_at_once(no_shared_emitter: None, ring_dir: Path) -> None:
    emitter = ringbuf.configure("service", ring_dir=ring_dir, capacity=32)
    assert emitter is ringbuf.get_emitter()
    assert service_of(ring_dir) == "service"
    assert emitter.stats().capacity % 32 == 0


def test_a_site_bound_before_configuring_goes_on_with_it(no_shared_emitter: None, ring_dir: Path) -> None:
    read = site(OpType.FBMU_READ)
    ringbuf.configure("service", ring_dir=ring_dir)
    assert read.emit(LEASE, 1, 2)
    assert len(records_in(ring_dir)) == 1


def test_configuring_twice_in_the_same_way_changes_nothing(
    no_shared_emitter: None, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As factories of applications do, which tests call each time."""
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    layout = ringbuf.SpanLayout(span_names=["work"], attributes=[])
    first = ringbuf.configure("service", layout=layout, resource_attributes={"zone": "a"})
    same = ringbuf.SpanLayout.from_json(layout.to_json())
    assert ringbuf.configure("service", layout=same, resource_attributes={"zone": "a"}) is first
    assert first.site("work").emit(1, 2)
    assert len(rings_in(ring_dir)) == len(records_in(ring_dir)) == 1


@pytest.mark.parametrize(
    "others",
    [
        {"service_name": "other"},
        {"capacity": 16},
        {"resource_attributes": {"zone": "b"}},
        {"layout": ringbuf.SpanLayout(span_names=["other"], attributes=[])},
    ],
    ids=str,
)
def test_configuring_twice_in_another_way_is_refused(
    no_shared_emitter: None, ring_dir: Path, others: dict[str, Any]
) -> None:
    ringbuf.configure("service", ring_dir=ring_dir)
    with pytest.raises(RuntimeError, match="has a ring already, by other arguments"):
        ringbuf.configure(**{"service_name": "service", "ring_dir": ring_dir, **others})


def test_configuring_after_a_span_that_was_not_configured_is_refused(
    no_shared_emitter: None, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    assert site(OpType.FBMU_READ).emit(LEASE, 1, 2)
    with pytest.raises(RuntimeError, match="has a ring already"):
        ringbuf.configure("service")


def test_configuring_again_after_a_close_makes_another_emitter(no_shared_emitter: None, ring_dir: Path) -> None:
    first = ringbuf.configure("service", ring_dir=ring_dir)
    first.close()
    second = ringbuf.configure("service", ring_dir=ring_dir)
    assert second is ringbuf.get_emitter() is not first
    assert site(OpType.FBMU_READ).emit(LEASE, 1, 2)
    assert len(records_in(ring_dir)) == 1


def test_configuring_another_layout_under_bound_sites_is_refused(no_shared_emitter: None, ring_dir: Path) -> None:
    site(OpType.FBMU_READ)
    layout = ringbuf.SpanLayout(span_names=["other"], attributes=[])
    with pytest.raises(RuntimeError, match="layout"):
        ringbuf.configure("service", ring_dir=ring_dir, layout=layout)


def test_configuring_raises_at_once_what_is_wrong(no_shared_emitter: None, ring_dir: Path) -> None:
    with pytest.raises(ValueError, match="capacity"):
        ringbuf.configure("service", ring_dir=ring_dir, capacity=5)
    assert ringbuf.configure("service", ring_dir=ring_dir).stats().path is not None


def test_a_shared_emitter_without_a_ring_warns_once(
    no_shared_emitter: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", "/dev/null/rings")
    monkeypatch.setattr("ringbuf.ring.process_ring._RETRY_SECONDS", 0.0)
    read = site(OpType.FBMU_READ)
    assert [read.emit(LEASE, 1, 2) for _ in range(5)] == [False] * 5
    wait_until_told(60)
    (record,) = caplog.records
    assert "/dev/null/rings" in record.getMessage()
    assert ringbuf.get_emitter().stats().local == 5


def test_without_a_ring_another_is_tried_at_most_once_a_second(
    no_shared_emitter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise ringbuf.RingCreateError("not now")

    now = 100.0
    monkeypatch.setattr("ringbuf.ring.process_ring.time.monotonic", lambda: now)
    monkeypatch.setattr(ringbuf.get_emitter(), "open", fail)
    read = site(OpType.FBMU_READ)
    for _ in range(50):
        read.emit(LEASE, 1, 2)
    assert len(tries) == 1
    now += 1.01
    read.emit(LEASE, 1, 2)
    assert len(tries) == 2
