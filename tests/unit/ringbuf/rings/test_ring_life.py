"""A ring from its making to its end: replaced, closed, or never made for want of room."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import Consumer, records_in, rings_in
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASE = LeaseId(7)


# ---- the ring's life ----


def test_a_closed_ring_is_marked_in_every_lane(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, lanes=3)
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        assert [consumer.view(lane).closed for lane in range(3)] == [0, 0, 0]
        emitter.close()
        assert [consumer.view(lane).closed for lane in range(3)] == [1, 1, 1]


def test_closing_twice_is_closing(emitter: ringbuf.Emitter) -> None:
    emitter.close()
    emitter.close()
    assert emitter.closed


def test_leaving_the_block_closes(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir) as emitter:
        pass
    assert emitter.closed


def test_a_ring_lives_as_long_as_its_emitter(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir)
    fd = os.open(rings_in(ring_dir)[0], os.O_RDWR)
    try:
        assert lib.rb_producer_alive(fd) == 1
        del emitter
        assert lib.rb_producer_alive(fd) == 0
    finally:
        os.close(fd)


def test_a_site_keeps_its_emitter(ring_dir: Path) -> None:
    emit = site(OpType.FBMU_READ, emitter=ringbuf.Emitter("service", ring_dir=ring_dir)).emit
    assert emit(LEASE, 1, 2)
    assert len(records_in(ring_dir)) == 1


def test_a_removed_ring_is_replaced_when_somebody_looks(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 3))
    (first,) = rings_in(ring_dir)
    first.unlink()
    assert emitter.stats().path != first
    emitter.emit_batch(fresh_records(emitter, 2))
    stats = emitter.stats()
    assert rings_in(ring_dir) == [stats.path]
    assert (stats.published, stats.pending, stats.attempts) == (5, 2, 5)


def test_a_ring_whose_name_another_file_took_is_replaced(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    (first,) = rings_in(ring_dir)
    (ring_dir / "other").write_bytes(b"")
    (ring_dir / "other").rename(first)
    assert emitter.stats().path != first
    first.unlink()


@pytest.mark.parametrize("door", ["emit", "emit_batch", "site", "full site", "span"])
def test_a_ring_that_was_set_aside_is_replaced_by_any_door(ring_dir: Path, door: str) -> None:
    # A capacity of four: every span crosses a quarter, which is where the doors look.
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4)
    read = site(OpType.FBMU_READ, emitter=emitter)
    (first,) = rings_in(ring_dir)
    if door == "full site":
        emitter.emit_batch(fresh_records(emitter, 4))
    with Consumer(first) as consumer:
        consumer.set_state(lib.RB_CONSUMER_DETACHED)
        if door == "emit":
            assert emitter.emit(fresh_records(emitter, 1)[0])
        elif door == "emit_batch":
            assert emitter.emit_batch(fresh_records(emitter, 1)) == 1
        elif door == "span":
            with read.span(LEASE):
                pass
        else:
            assert read.emit(LEASE, 1, 2) == (door == "site")
        assert len(consumer.take()) == (4 if door == "full site" else 1)
    stats = emitter.stats()
    assert stats.path != first
    assert (stats.pending, stats.attempts) == (0, 5 if door == "full site" else 1)
    assert read.emit(LEASE, 1, 2)
    assert emitter.stats().pending == 1
    records_in(ring_dir)
    emitter.close()


def test_the_replaced_ring_looks_dead_to_the_drain(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    fd = os.open(rings_in(ring_dir)[0], os.O_RDWR)
    try:
        rings_in(ring_dir)[0].unlink()
        emitter.stats()
        assert lib.rb_producer_alive(fd) == 0
    finally:
        os.close(fd)


def test_waiting_ends_when_the_drain_has_taken_all(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    emitter.emit_batch(fresh_records(emitter, 5))
    assert not emitter.wait_drained(0)
    thread = threading.Thread(target=records_in, args=(ring_dir,))
    thread.start()
    assert emitter.wait_drained(30)
    thread.join()


def test_waiting_for_nothing_ends_at_once(emitter: ringbuf.Emitter) -> None:
    assert emitter.wait_drained(0)


def test_no_more_bytes_of_rings_are_made_than_the_directory_may_hold(
    emitter: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = rings_in(ring_dir)[0].stat().st_size
    monkeypatch.setenv("RINGBUF_MAX_BYTES", str(2 * size))
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, capacity=emitter.stats().capacity),
        pytest.raises(ringbuf.RingCreateError, match="RINGBUF_MAX_BYTES"),
    ):
        ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4)
    for path in rings_in(ring_dir):
        path.unlink()
    with pytest.raises(ringbuf.RingCreateError, match="smaller capacity"):  # the first, and larger than all that may be
        ringbuf.Emitter("service", ring_dir=ring_dir)
    assert rings_in(ring_dir) == []


@pytest.mark.parametrize(
    ("allowed", "bound"),
    [(None, 1 << 30), (1 << 40, 1 << 30), (2 << 30, 1 << 30), (512 << 20, 256 << 20), (9, 4)],
    ids=["no limit", "more", "twice", "less", "nothing"],
)
def test_a_directory_holds_a_gibibyte_of_rings_or_half_of_what_the_control_group_allows(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, allowed: int | None, bound: int
) -> None:
    monkeypatch.delenv("RINGBUF_MAX_BYTES", raising=False)
    monkeypatch.setattr("ringbuf.ring.settings.memory_limit", lambda: None)
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        path = emitter.stats().path
        assert path is not None
        size = path.stat().st_size
    monkeypatch.setattr("ringbuf.ring.settings.memory_limit", lambda: allowed)
    other = ring_dir / "other.ring"
    for left, is_room in ((size, True), (size - 1, False)):
        with other.open("wb") as file:
            file.truncate(max(bound - left, 0))
        if is_room and bound >= size:
            ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4).close()
        else:
            with pytest.raises(ringbuf.RingCreateError, match=f"the limit is {bound};"):
                ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4)


def test_two_emitters_of_a_process_have_two_rings(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    with ringbuf.Emitter("other", ring_dir=ring_dir) as other:
        assert rings_in(ring_dir) == sorted(path for e in (emitter, other) if (path := e.stats().path))


# ---- closing with spans that nobody took ----


@pytest.mark.parametrize(("count", "words"), [(1, "with 1 span"), (3, "with 3 spans")])
def test_a_close_without_any_drain_warns_of_the_spans_that_are_left(
    ring_dir: Path, caplog: pytest.LogCaptureFixture, count: int, words: str
) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir)
    emitter.emit_batch(fresh_records(emitter, count))
    emitter.close()
    emitter.close()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ringbuf", logging.WARNING)
    assert f"{words} that no drain has taken: start one (ringbuf-drain --ring-dir {ring_dir})" in record.getMessage()


@pytest.mark.parametrize("pending", [0, 3])
def test_a_close_beside_a_drain_or_with_nothing_left_is_silent(
    ring_dir: Path, caplog: pytest.LogCaptureFixture, pending: int
) -> None:
    emitter = ringbuf.Emitter("service", ring_dir=ring_dir)
    emitter.emit_batch(fresh_records(emitter, pending))
    if pending:
        with Consumer(rings_in(ring_dir)[0]) as consumer:
            consumer.set_state(lib.RB_CONSUMER_ATTACHED)
    emitter.close()
    assert caplog.records == []


# ---- what the machine may lack ----


def test_a_limit_on_file_sizes_is_an_error_with_advice(ring_dir: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(ringbuf.RingCreateError, match="RLIMIT_FSIZE"):
            ringbuf.Emitter("service", ring_dir=ring_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert rings_in(ring_dir) == []


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of 256 KiB, where that is allowed."""
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("no mount program")
    arguments: list[str | Path] = [mount, "-t", "tmpfs", "-o", "size=256k,mode=0700", "ringbuf-test", folder]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"may not mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run([umount, folder], check=True)


def test_a_full_file_system_is_an_error_at_once_and_leaves_nothing(small_tmpfs: Path) -> None:
    for _ in range(3):
        with pytest.raises(ringbuf.RingCreateError, match=r"No space left on device.*smaller capacity"):
            ringbuf.Emitter("service", ring_dir=small_tmpfs)
    assert list(small_tmpfs.iterdir()) == []
    with ringbuf.Emitter("service", ring_dir=small_tmpfs, capacity=1024) as emitter:
        assert emitter.emit_batch(fresh_records(emitter, 1024)) == 1024
        records_in(small_tmpfs)


def test_a_failed_ring_leaves_no_descriptor(ring_dir: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        for _ in range(5):
            with pytest.raises(ringbuf.RingCreateError):
                ringbuf.Emitter("service", ring_dir=ring_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert descriptors_in(ring_dir) == []


def test_an_open_ring_keeps_no_descriptor(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir):
        assert descriptors_in(ring_dir) == []


def descriptors_in(folder: Path) -> list[str]:
    """Return where our descriptors of a folder lead, of what is in it, and of what was: those of others come and go."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.append(str(descriptor.readlink()))
    return [target for target in found if target.startswith(str(folder))]
