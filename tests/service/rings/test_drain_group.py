"""The group form: producers of several users, one drain, and a directory in which none can touch another's ring."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.rings.admission import Admission
from ringbuf._ringbuf import lib
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain, emit, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")

ALICE, BOB, DRAIN_GROUP = 12345, 12346, 4242


def as_user(uid: int, act: Callable[[], object]) -> int:
    """Do something in a forked child that is this user, in no group but one of its own; return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            act()
            code = 0
        except PermissionError:
            code = 13
        except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def group_dir(ring_dir: Path) -> Path:
    os.chown(ring_dir, 0, DRAIN_GROUP)
    ring_dir.chmod(0o3733)
    return ring_dir


def produce(directory: Path, numbers: range) -> None:
    with ringbuf.Emitter("shop", ring_dir=directory, layout=LAYOUT, mode=0o660) as emitter:
        assert emit(emitter, numbers) == len(numbers)


def the_ring(directory: Path) -> Path:
    (ring,) = directory.glob("*.ring")
    return ring


def test_rings_of_two_users_are_delivered_and_removed(group_dir: Path) -> None:
    assert as_user(ALICE, lambda: produce(group_dir, range(10))) == 0
    assert as_user(BOB, lambda: produce(group_dir, range(10, 20))) == 0
    admission = Admission(frozenset(), frozenset({DRAIN_GROUP}), 1 << 30)
    backend = MemoryBackend()
    with SteppedDrain(group_dir, backend, admission=admission) as drain:
        drain.until(lambda: not list(group_dir.glob("*.ring")))
        assert sorted(backend.numbers) == list(range(20))
        assert drain.sums().delivered == 20


def test_a_ring_of_another_group_is_left_alone(group_dir: Path) -> None:
    assert as_user(ALICE, lambda: produce(group_dir, range(10))) == 0
    with SteppedDrain(group_dir, MemoryBackend(), admission=Admission(frozenset(), frozenset(), 1 << 30)) as drain:
        drain.step()
        assert drain.service._reader.left_alone == 1
    assert the_ring(group_dir).stat().st_uid == ALICE


@pytest.mark.parametrize(
    "act",
    [
        lambda directory, _ring: list(directory.iterdir()),
        lambda _directory, ring: ring.read_bytes(),
        lambda _directory, ring: ring.open("r+b").close(),
        lambda _directory, ring: ring.unlink(),
        lambda directory, ring: ring.rename(directory / "mine.ring"),
    ],
    ids=["list", "read", "write", "remove", "rename"],
)
def test_one_user_cannot_touch_what_is_anothers(group_dir: Path, act: Callable[[Path, Path], object]) -> None:
    assert as_user(ALICE, lambda: produce(group_dir, range(1))) == 0
    ring = the_ring(group_dir)
    assert as_user(BOB, lambda: act(group_dir, ring)) == 13
    assert as_user(ALICE, ring.unlink) == 0  # its owner may: it is the other user who may not


def test_a_producer_that_may_not_list_the_directory_finds_the_doorbell(group_dir: Path) -> None:
    admission = Admission(frozenset(), frozenset({DRAIN_GROUP}), 1 << 30)
    with SteppedDrain(group_dir, MemoryBackend(), admission=admission) as drain:
        is_asleep, fall_asleep = os.pipe()

        def act() -> None:
            with ringbuf.Emitter("shop", ring_dir=group_dir, layout=LAYOUT, mode=0o660, capacity=16) as emitter:
                path = emitter.stats().path
                assert path is not None
                assert os.read(is_asleep, 1)
                until(lambda: emit(emitter, range(4)) == 0)

        pid = os.fork()
        if pid == 0:
            os._exit(as_user(ALICE, act))
        drain.until(lambda: any(ring.name for ring in drain.service._reader.rings))
        before = drain.service._doorbell.value()
        for ring in drain.service._reader.rings:
            lib.rb_set_sleeping(ring.consumer, 1)  # and nobody reads until the lane is full
        os.write(fall_asleep, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(is_asleep)
        os.close(fall_asleep)
        assert drain.service._doorbell.value() != before
