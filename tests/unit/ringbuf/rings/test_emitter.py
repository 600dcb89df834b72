"""The emitter's arguments, its numbers, and its doors for whole records."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, site
from tests.consumer import Consumer, records_in, rings_in
from tests.records import fresh_records
from tests.tools.test_observed_ring import word_at, write_word

LEASE = LeaseId(7)


def service_of(ring_dir: Path) -> str:
    """Return the service name in the one ring's header."""
    (path,) = rings_in(ring_dir)
    with Consumer(path, observe=True) as consumer:
        return str(json.loads(consumer.json("resource"))["service.name"])


def word_in(path: Path, word: str) -> int:
    """Return a word of the first lane."""
    return int(struct.unpack_from("<Q", path.read_bytes(), word_at(path, word))[0])


# ---- arguments and environment ----


def test_an_emitter_makes_one_ring_at_once(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    assert rings_in(ring_dir) == [emitter.stats().path]


def test_the_ring_says_who_made_it_and_how(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    with Consumer(rings_in(ring_dir)[0], observe=True) as consumer:
        assert consumer.layout == DATAPLANE_LAYOUT
        assert consumer.header.pid == os.getpid()
        assert (consumer.header.capacity_slots, consumer.header.lane_count) == (16, emitter.stats().capacity // 16)
        assert json.loads(consumer.json("resource"))["service.name"] == "service"


def test_the_ring_says_on_which_boot_and_when_it_was_made(ring_dir: Path) -> None:
    """A CLOCK_MONOTONIC time of the producer can be placed on the calendar, on another machine, too."""
    before = time.monotonic_ns(), time.time_ns()
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4):
        after = time.monotonic_ns(), time.time_ns()
        with Consumer(rings_in(ring_dir)[0], observe=True) as consumer:
            header = consumer.header
            boot_id = uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
            assert bytes(header.boot_id) == boot_id.bytes
            assert before[0] <= header.clock_monotonic_nano <= after[0]
            assert before[1] <= header.clock_realtime_nano <= after[1]
            assert before[1] <= header.created_unix_nano <= after[1]


def test_a_ring_has_8192_slots_unless_told_otherwise(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, lanes=1) as emitter:
        assert emitter.stats().capacity == 8192


def test_a_ring_has_as_many_lanes_as_asked_for(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, lanes=3, capacity=4) as emitter:
        assert emitter.stats().capacity == 12


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="free-threaded: lanes by processors")
def test_with_a_gil_a_ring_has_one_lane(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        assert emitter.stats().capacity == 4


def test_an_argument_beats_the_environment(ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("RINGBUF_MODE", "0660")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    with ringbuf.Emitter("service", ring_dir=ring_dir, mode=0o600) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert service_of(ring_dir) == "service"
        assert not (tmp_path / "other").exists()


def test_the_environment_is_used_where_there_is_no_argument(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    monkeypatch.setenv("RINGBUF_MODE", "0660")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    with ringbuf.Emitter() as emitter:
        path = emitter.stats().path
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert service_of(ring_dir) == "named"


@pytest.mark.parametrize(("mode", "expected"), [(0o3770, 0o660), (0o2700, 0o600), (0o1700, 0o600), (0o700, 0o600)])
def test_the_directory_decides_whether_a_group_may_read_a_ring(mode: int, expected: int, ring_dir: Path) -> None:
    ring_dir.chmod(mode)
    with ringbuf.Emitter("service", ring_dir=ring_dir) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == expected
    with ringbuf.Emitter("service", ring_dir=ring_dir, mode=0o600) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_resource_attributes_are_in_the_header(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, resource_attributes={"zone": "a", "ports": [1, 2]}):
        with Consumer(rings_in(ring_dir)[0], observe=True) as consumer:
            found = json.loads(consumer.json("resource"))
        assert (found["zone"], found["ports"]) == ("a", [1, 2])


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"capacity": 0}, ValueError, "capacity"),
        ({"capacity": 2}, ValueError, "capacity"),
        ({"capacity": 5}, ValueError, "capacity"),
        ({"capacity": 1 << 25}, ValueError, "capacity"),
        ({"capacity": 8.0}, TypeError, "capacity"),
        ({"capacity": "8"}, TypeError, "capacity"),
        ({"lanes": 0}, ValueError, "lanes"),
        ({"lanes": 65}, ValueError, "lanes"),
        ({"lanes": 1.5}, TypeError, "lanes"),
        ({"lanes": "2"}, TypeError, "lanes"),
        ({"mode": 0o644}, ValueError, "mode"),
        ({"mode": "600"}, TypeError, "mode"),
        ({"layout": "fbmu"}, TypeError, "layout"),
        ({"service_name": 5}, TypeError, "service.name"),
        ({"resource_attributes": {"zone": ...}}, TypeError, "zone"),
        ({"resource_attributes": ["zone"]}, TypeError, "resource_attributes"),
        ({"ring_dir": 5}, TypeError, "ring_dir: 5 is no path"),
        ({"ring_dir": b"rings"}, TypeError, "ring_dir"),
        ({"ring_dir": ""}, ValueError, "ring_dir: an empty path"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_by_name_and_no_ring_is_made(
    ring_dir: Path, arguments: dict[str, Any], error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=name):
        ringbuf.Emitter(**{"service_name": "service", "ring_dir": ring_dir, **arguments})
    assert rings_in(ring_dir) == []


@pytest.mark.parametrize(
    ("variable", "value"), [("RINGBUF_MODE", "rw"), ("RINGBUF_MODE", "0644"), ("RINGBUF_MAX_BYTES", "1G")]
)
def test_a_variable_that_cannot_be_read_is_refused_by_name(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        ringbuf.Emitter("service", ring_dir=ring_dir)


@pytest.mark.parametrize(("asked", "umask", "mode"), [(0o660, 0o077, 0o660), (None, 0, 0o600)])
def test_a_ring_is_for_its_user_unless_told_otherwise_whatever_the_umask(
    ring_dir: Path, asked: int | None, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        with ringbuf.Emitter("service", ring_dir=ring_dir, mode=asked) as emitter:
            path = emitter.stats().path
            assert path is not None
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_service_name_is_percent_encoded_in_the_path(ring_dir: Path) -> None:
    with ringbuf.Emitter("../a/ü", ring_dir=ring_dir) as emitter:
        path = emitter.stats().path
    assert path is not None
    assert path.parent == ring_dir
    assert path.name.startswith(f"%2E.%2Fa%2F%C3%BC-{os.getpid()}-")


def test_a_long_service_name_is_cut_in_the_path_alone(ring_dir: Path) -> None:
    with ringbuf.Emitter("ü" * 100, ring_dir=ring_dir) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert path.name.startswith("%C3%BC" * 10 + "%C3-")
        assert service_of(ring_dir) == "ü" * 100


def test_a_relative_directory_is_that_of_the_beginning(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ring_dir)
    with ringbuf.Emitter("service", ring_dir="rings") as emitter:
        (ring_dir / "elsewhere").mkdir()
        monkeypatch.chdir(ring_dir / "elsewhere")
        emitter.stats()
        (first,) = rings_in(ring_dir / "rings")
        first.unlink()
        emitter.stats()
        assert len(rings_in(ring_dir / "rings")) == 1
        assert list((ring_dir / "elsewhere").iterdir()) == []


# ---- the law ----


def test_attempts_are_the_sum_of_what_became_of_them(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8)
    read = site(OpType.FBMU_READ, emitter=emitter)
    assert emitter.emit_batch(fresh_records(emitter, 5)) == 5
    assert emitter.emit_batch(fresh_records(emitter, 3, flags=0)) == 3
    for _ in range(6):
        read.emit(LEASE, 1, 2)
    with read.span(LEASE):
        pass
    stats = emitter.stats()
    assert (stats.published, stats.unsampled, stats.full, stats.pending) == (8, 3, 4, 8)
    assert len(records_in(ring_dir)) == 8
    emitter.close()
    read.emit(LEASE, 1, 2)
    stats = emitter.stats()
    assert (stats.published, stats.unsampled, stats.full, stats.local, stats.pending) == (8, 3, 4, 1, 0)
    assert stats.attempts == 16


def test_what_the_drain_releases_is_pending_no_more(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 10))
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        consumer.copy()
        assert emitter.stats().pending == 10
        consumer.release(4)
        assert emitter.stats().pending == 6


def test_stats_say_whether_a_drain_is_attached(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    assert not emitter.stats().drain_attached
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        consumer.set_state(lib.RB_CONSUMER_ATTACHED)
        assert emitter.stats().drain_attached
        consumer.set_state(lib.RB_CONSUMER_NONE)
        assert not emitter.stats().drain_attached


def test_a_value_that_is_cut_is_counted(ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("key", "str", 3)])
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=layout) as emitter:
        get = emitter.site("get", varying=["key"])
        assert get.emit(1, 2, "four")
        assert get.emit(1, 2, "two")
        assert (emitter.stats().truncated, emitter.stats().published) == (1, 2)
        assert [layout.values(record)["key"] for record in records_in(ring_dir)] == ["fou", "two"]


# ---- records ----


def test_a_batch_writes_the_prefix_that_fits(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    many = fresh_records(emitter, 40)
    many["start_unix_nano"] = np.arange(40)
    assert emitter.emit_batch(many) == 16
    assert (emitter.stats().published, emitter.stats().full) == (16, 24)
    assert records_in(ring_dir)["start_unix_nano"].tolist() == list(range(16))


@pytest.mark.parametrize("head", [2**40, 2**63, 2**64 - 6])
def test_a_batch_stays_in_its_lane_whatever_head_reads(ring_dir: Path, head: int) -> None:
    """`head` is in a file that others may write: one that cannot be makes no room."""
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=8, lanes=1) as emitter:
        assert emitter.emit_batch(fresh_records(emitter, 3)) == 3
        (path,) = rings_in(ring_dir)
        write_word(path, "head", head)
        assert emitter.emit_batch(fresh_records(emitter, 30)) == 5
        assert word_in(path, "tail") == 8


def test_threads_begin_with_lanes_of_their_own(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4, lanes=4) as emitter:
        for _ in range(4):
            thread = threading.Thread(target=emitter.emit_batch, args=(fresh_records(emitter, 1),))
            thread.start()
            thread.join()
        with Consumer(rings_in(ring_dir)[0], observe=True) as consumer:
            assert [consumer.view(lane).tail for lane in range(4)] == [1, 1, 1, 1]


def test_a_batch_counts_its_unsampled_records_without_a_slot(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    many = fresh_records(emitter, 30)
    many["flags"][::2] = 0x100
    assert emitter.emit_batch(many) == 30
    assert (emitter.stats().published, emitter.stats().unsampled) == (15, 15)
    assert records_in(ring_dir)["flags"].tolist() == [0x101] * 15


def test_a_batch_of_every_second_record_is_taken(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    many = fresh_records(emitter, 10)
    many["start_unix_nano"] = np.arange(10)
    assert emitter.emit_batch(many[::2]) == 5
    assert records_in(ring_dir)["start_unix_nano"].tolist() == [0, 2, 4, 6, 8]


def test_an_empty_batch_is_no_attempt(emitter: ringbuf.Emitter) -> None:
    assert emitter.emit_batch(fresh_records(emitter, 0)) == 0
    assert emitter.stats().attempts == 0


def test_a_record_may_be_a_zero_dimensional_array(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    many = fresh_records(emitter, 1)
    assert emitter.emit(many.reshape(()))  # type: ignore[arg-type]  # that is the point
    assert records_in(ring_dir)[0].tobytes() == many[0].tobytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [("trace_id", 0), ("span_id", 0), ("name", 4), ("kind", 6), ("status", 3), ("reserved", 1)],
)
@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_record_out_of_bounds_is_refused_and_nothing_is_counted(
    ring_dir: Path, field: str, value: int, state: str
) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir)
    if state == "closed":
        emitter.close()
    many = fresh_records(emitter, 3)
    many[field][2] = value
    with pytest.raises(ValueError, match=r"id is zero|out of bounds"):
        emitter.emit(many[2])
    with pytest.raises(ValueError, match=r"id is zero|out of bounds"):
        emitter.emit_batch(many)
    assert emitter.stats().attempts == 0
    emitter.close()


@pytest.mark.parametrize(("field", "value"), [("trace_id", 0), ("span_id", 0), ("kind", 6), ("status", 3)])
def test_a_record_out_of_bounds_is_refused_without_a_ring_too(
    monkeypatch: pytest.MonkeyPatch, field: str, value: int
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", "/dev/null/rings")
    emitter = ringbuf.Emitter.unopened()
    many = fresh_records(emitter, 1)
    many[field] = value
    with pytest.raises(ValueError, match=r"id is zero|out of bounds"):
        emitter.emit(many[0])
    assert emitter.stats().attempts == 0


def test_a_disabled_emitter_counts_sound_records(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with ringbuf.Emitter("service", ring_dir=ring_dir) as emitter:
        assert not emitter.emit(fresh_records(emitter, 1)[0])
        assert emitter.emit_batch(fresh_records(emitter, 2)) == 0
        assert (emitter.stats().local, emitter.stats().attempts) == (3, 3)
    assert rings_in(ring_dir) == []


def test_records_of_another_dtype_are_refused(emitter: ringbuf.Emitter) -> None:
    other = np.zeros(2, np.dtype([("a", "u8")]))
    swapped = np.zeros(2, emitter.layout.dtype.newbyteorder())
    for wrong in (other, swapped, np.zeros(2, "V128"), None, b"x" * 128, [1, 2]):
        with pytest.raises(TypeError):
            emitter.emit_batch(wrong)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(TypeError):
            emitter.emit(wrong)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(TypeError):
            emitter.fill_ids(wrong)  # type: ignore[arg-type]  # that is the point
    assert emitter.stats().attempts == 0


def test_records_of_another_shape_are_refused(emitter: ringbuf.Emitter) -> None:
    many = fresh_records(emitter, 4)
    with pytest.raises(TypeError):
        emitter.emit(many)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError):
        emitter.emit_batch(many.reshape(2, 2))  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError):
        emitter.emit_batch(many[0])
    assert emitter.stats().attempts == 0


def test_ids_are_given_where_they_are_zero(emitter: ringbuf.Emitter) -> None:
    many = emitter.layout.empty(100)
    many["trace_id"][50:] = 7
    many["span_id"][90:] = 9
    emitter.fill_ids(many)
    assert len({record["trace_id"].tobytes() for record in many}) == 51
    assert len({record["span_id"].tobytes() for record in many}) == 91
    assert many["trace_id"].any(axis=1).all()
    assert many["span_id"].any(axis=1).all()


def test_ids_are_not_written_to_what_may_not_be_written(emitter: ringbuf.Emitter) -> None:
    many = emitter.layout.empty(2)
    many.flags.writeable = False
    with pytest.raises(TypeError):
        emitter.fill_ids(many)
    with pytest.raises(TypeError):
        emitter.fill_ids(emitter.layout.empty(4)[::2])
