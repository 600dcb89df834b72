"""The drain's side of the ring directory: one drain, the right names, and nothing removed by mistake."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from drain.rings.directory import LOCK_NAME, DirectoryLockedError, FileId, RingDirectory, file_id
from drain.rings.quarantine import Quarantine
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(ring_dir: Path) -> Iterator[RingDirectory]:
    directory = RingDirectory(ring_dir)
    yield directory
    directory.close()


@pytest.fixture
def quarantine(directory: RingDirectory) -> Iterator[Quarantine]:
    quarantine = Quarantine(directory, max_files=3, max_bytes=5 * 4096)
    yield quarantine
    quarantine.close()


def write(path: Path, data: bytes = b"x") -> FileId:
    path.write_bytes(data)
    status = path.stat()
    return FileId(status.st_dev, status.st_ino)


def settle_clock(directory: RingDirectory) -> None:
    """Make the last change look old, so that a look at the directory is trusted."""
    old = time.time_ns() - 10_000_000_000
    os.utime(directory.path, ns=(old, old))


def test_a_second_drain_is_refused_and_told_who_the_first_is(directory: RingDirectory) -> None:
    with pytest.raises(DirectoryLockedError, match=f"pid {os.getpid()}"):
        RingDirectory(directory.path)


def test_a_drain_that_has_closed_lets_the_next_one_in_by_the_same_lock_file(ring_dir: Path) -> None:
    RingDirectory(ring_dir).close()
    inode = (ring_dir / "drain.lock").stat().st_ino
    RingDirectory(ring_dir).close()
    assert (ring_dir / "drain.lock").stat().st_ino == inode


def test_a_link_in_place_of_the_lock_is_not_followed(ring_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("keep")
    (ring_dir / "drain.lock").symlink_to(target)
    with pytest.raises(OSError, match=r"drain\.lock"):
        RingDirectory(ring_dir)
    assert target.read_text() == "keep"


def test_a_directory_that_others_may_write_is_refused(ring_dir: Path) -> None:
    ring_dir.chmod(0o777)
    with pytest.raises(RingBufferError, match="others may write"):
        RingDirectory(ring_dir)


def test_only_names_that_end_in_ring_are_ring_files(directory: RingDirectory) -> None:
    ring = write(directory.path / "a.ring")
    for name in ("a.ring.tmp", "doorbell", "ring"):
        write(directory.path / name)
    assert directory.ring_files() == {"a.ring": ring.inode}


def test_a_look_that_is_not_older_than_the_last_change_is_not_trusted(
    directory: RingDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory.path / "a.ring")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: directory.path.stat().st_mtime_ns)
        directory.ring_files()
    assert directory.changed(), "another file may be linked within the same tick of the clock"
    settle_clock(directory)
    directory.ring_files()
    assert not directory.changed()
    write(directory.path / "b.ring")
    assert directory.changed()


def test_a_name_is_removed_only_while_it_stands_for_the_same_file(directory: RingDirectory) -> None:
    path = directory.path / "a.ring"
    old = write(path)
    path.unlink()
    write(directory.path / "other")  # takes the number, where numbers are used again
    new = write(path)
    assert not directory.remove("a.ring", old)
    assert path.exists()
    assert directory.remove("a.ring", new)
    assert not path.exists()
    assert not directory.remove("a.ring", new)


def test_a_second_drain_is_refused_also_when_the_lock_was_removed(directory: RingDirectory) -> None:
    (directory.path / LOCK_NAME).unlink()
    with pytest.raises(DirectoryLockedError, match="another drain serves"):
        RingDirectory(directory.path)
    assert not (directory.path / LOCK_NAME).exists(), "whoever is refused leaves nothing"


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_lock_whose_name_is_gone_or_another_s_is_made_anew(directory: RingDirectory, way: str) -> None:
    lock = directory.path / LOCK_NAME
    assert not directory.lock_again()
    if way == "replaced":
        write(directory.path / "other")
        (directory.path / "other").rename(lock)
    else:
        lock.unlink()
    assert directory.lock_again()
    assert lock.read_text() == f"{os.getpid()}\n"
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not directory.lock_again()


def test_a_lock_in_its_place_that_somebody_holds_is_another_drain_s(directory: RingDirectory) -> None:
    with (directory.path / "other").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (directory.path / "other").rename(directory.path / LOCK_NAME)
        with pytest.raises(DirectoryLockedError):
            directory.lock_again()
    assert directory.lock_again(), "it is gone"


def test_where_directories_cannot_be_locked_the_file_does(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    first = RingDirectory(ring_dir)
    try:
        with pytest.raises(DirectoryLockedError, match=f"pid {os.getpid()}"):
            RingDirectory(ring_dir)
    finally:
        first.close()
    RingDirectory(ring_dir).close()


def test_a_directory_that_another_took_the_place_of_is_noticed(ring_dir: Path) -> None:
    path = ring_dir / "rings"
    directory = RingDirectory(path)
    try:
        assert not directory.is_elsewhere()
        path.rename(ring_dir / "old")
        assert directory.is_elsewhere()
        path.mkdir(mode=0o700)
        assert directory.is_elsewhere()
    finally:
        directory.close()


@pytest.mark.parametrize(("mode", "doorbell"), [(0o700, 0o600), (0o3733, 0o666), (0o3730, 0o660)])
def test_whoever_may_make_a_ring_may_ring_the_doorbell(ring_dir: Path, mode: int, doorbell: int) -> None:
    ring_dir.chmod(mode)
    directory = RingDirectory(ring_dir)
    try:
        assert directory.doorbell_mode == doorbell
    finally:
        directory.close()


def test_a_quarantined_ring_lies_beside_its_reason(directory: RingDirectory, quarantine: Quarantine) -> None:
    file = write(directory.path / "shop-1.ring")
    assert quarantine.take("shop-1.ring", file, {"reason": "torn"})
    kept = directory.path / "quarantine" / f"shop-1-{file.inode:x}.ring"
    assert kept.stat().st_ino == file.inode
    assert json.loads(kept.with_name(kept.name + ".reason").read_text()) == {"ring": "shop-1.ring", "reason": "torn"}
    assert directory.ring_files() == {}


def test_a_name_that_stands_for_another_file_is_not_quarantined(
    directory: RingDirectory, quarantine: Quarantine
) -> None:
    file = write(directory.path / "a.ring")
    (directory.path / "a.ring").rename(directory.path / "b.ring")
    write(directory.path / "a.ring")
    assert not quarantine.take("a.ring", file, {})
    assert (directory.path / "a.ring").exists()


def names_kept(directory: RingDirectory) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (directory.path / "quarantine").glob("*.ring"))


def test_the_quarantine_keeps_the_newest_by_number(directory: RingDirectory, quarantine: Quarantine) -> None:
    for name in "abcde":
        file = write(directory.path / f"{name}.ring", b"")
        quarantine.take(f"{name}.ring", file, {})
    assert names_kept(directory) == ["c", "d", "e"]


def test_the_quarantine_keeps_the_newest_by_bytes_and_always_the_last(
    directory: RingDirectory, quarantine: Quarantine
) -> None:
    for name, pages in (("a", 2), ("b", 3), ("c", 2)):
        quarantine.take(f"{name}.ring", write(directory.path / f"{name}.ring", b"x" * 4096 * pages), {})
    assert names_kept(directory) == ["b", "c"]
    quarantine.take("d.ring", write(directory.path / "d.ring", b"x" * 4096 * 9), {})
    assert names_kept(directory) == ["d"]


def test_a_name_of_the_greatest_length_can_be_quarantined(directory: RingDirectory, quarantine: Quarantine) -> None:
    name = "\xe4" * 125 + ".ring"
    assert quarantine.take(name, write(directory.path / name), {"reason": "torn"})
    assert len(list((directory.path / "quarantine").iterdir())) == 2


@pytest.mark.parametrize("make", ["link", "open folder"])
def test_a_quarantine_that_is_not_ours_is_refused(directory: RingDirectory, tmp_path: Path, make: str) -> None:
    folder = directory.path / "quarantine"
    if make == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o770)
    with pytest.raises(RingBufferError, match="quarantine"):
        Quarantine(directory)


def test_file_id_is_of_the_file_not_of_the_name(ring_dir: Path) -> None:
    expected = write(ring_dir / "a")
    with (ring_dir / "a").open("rb") as file:
        (ring_dir / "a").rename(ring_dir / "b")
        assert file_id(file.fileno()) == expected
