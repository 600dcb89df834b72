"""The doorbell's file is removed, cut or replaced: who has the old one and who finds the new one are both heard."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.rings.directory import RingDirectory
from drain.rings.doorbell import Doorbell
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError
from tests.consumer import Consumer
from tests.records import fresh_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 120
DOORBELLS = 8  # that are waited on at once
FUTEX_WAITV = 449


def kernel_waits_for_several() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(FUTEX_WAITV, None, 0, 0, None, 0)
    return ctypes.get_errno() == errno.EINVAL


needs_several = pytest.mark.skipif(not kernel_waits_for_several(), reason="needs futex_waitv (Linux 5.16)")


@pytest.fixture
def directory(ring_dir: Path) -> Iterator[RingDirectory]:
    directory = RingDirectory(ring_dir)
    yield directory
    directory.close()


@pytest.fixture
def bell(directory: RingDirectory) -> Iterator[Doorbell]:
    bell = Doorbell(directory.path, directory.doorbell_mode)
    yield bell
    bell.close()


@contextlib.contextmanager
def a_ring(directory: RingDirectory) -> Iterator[Callable[[], None]]:
    """Make a ring of eight slots; what is returned crosses a quarter of it while its drain sleeps."""
    with ringbuf.Emitter("service", ring_dir=directory.path, capacity=8, lanes=1) as emitter:
        path = emitter.stats().path
        assert path is not None
        with Consumer(path) as consumer:

            def cross() -> None:
                assert consumer.set_sleeping(1) == 0
                assert emitter.emit_batch(fresh_records(emitter, 2)) == 2
                consumer.set_sleeping(0)
                consumer.take()

            yield cross


def wakes(bell: Doorbell, ring: Callable[[], None]) -> bool:
    """Return whether a wait that has begun, or is about to, is ended by it before its time is over."""
    woken: list[int] = []
    value = bell.value()
    thread = threading.Thread(
        target=lambda: woken.append(lib.rb_doorbell_wait(bell.pointer, value, PATIENCE_SECONDS * 10**9))
    )
    thread.start()
    ring()
    thread.join()
    return woken == [1]


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"\xff" * lib.RB_PAGE_BYTES)


def cut(path: Path) -> None:
    os.truncate(path, 0)


@needs_several
@pytest.mark.parametrize("way", [remove, replace, cut])
def test_rings_of_the_old_doorbell_and_of_the_new_one_wake_the_drain(
    directory: RingDirectory, bell: Doorbell, way: Callable[[Path], None]
) -> None:
    path = directory.path / "doorbell"
    with a_ring(directory) as old:
        assert not bell.renew(directory)
        way(path)
        assert bell.renew(directory)
        assert path.stat().st_size == lib.RB_PAGE_BYTES
        assert not bell.renew(directory)
        with a_ring(directory) as new:
            for ring in (new, old, new, bell.ring, old):
                assert wakes(bell, ring)


def test_a_ring_before_the_wait_ends_it_whichever_doorbell_it_was(directory: RingDirectory, bell: Doorbell) -> None:
    with a_ring(directory) as old:
        (directory.path / "doorbell").unlink()
        assert bell.renew(directory)
        value = bell.value()
        old()
        assert bell.value() == value + 1
        assert lib.rb_doorbell_wait(bell.pointer, value, PATIENCE_SECONDS * 10**9) == 1
        assert lib.rb_doorbell_wait(bell.pointer, value + 1, 1000) == 0


def test_an_old_doorbell_that_is_cut_leaves_the_new_one_as_it_is(directory: RingDirectory, bell: Doorbell) -> None:
    """The kernel then waits for none of them at once, as one that knows no such wait."""
    path = directory.path / "doorbell"
    bell.ring()
    path.unlink()
    assert bell.renew(directory)
    with path.open("r+b") as old:
        path.unlink()
        assert bell.renew(directory)
        old.truncate(0)
        assert bell.value() == 1
        assert wakes(bell, bell.ring)
        assert lib.rb_doorbell_wait(bell.pointer, bell.value(), 1000) == 0


def test_doorbells_that_are_removed_again_and_again_are_let_go(directory: RingDirectory, bell: Doorbell) -> None:
    path = directory.path / "doorbell"
    before = len(descriptors_of(path))
    for _ in range(3 * DOORBELLS):
        path.unlink()
        assert bell.renew(directory)
    assert before == 1
    assert len(descriptors_of(path)) == DOORBELLS
    assert wakes(bell, bell.ring)


def test_what_cannot_be_a_doorbell_leaves_the_old_one_in_use(directory: RingDirectory, bell: Doorbell) -> None:
    path = directory.path / "doorbell"
    path.unlink()
    path.mkdir()
    with pytest.raises(RingBufferError, match="doorbell"):
        bell.renew(directory)
    assert wakes(bell, bell.ring)


def descriptors_of(path: Path) -> list[str]:
    """Return where our descriptors of files of this name lead, removed ones among them."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(str(descriptor.readlink()))
    return [target for target in found if target.startswith(str(path))]
