"""Links and strange files under the names that a drain writes to: it says so, and what they lead to is untouched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.rings.directory import RingDirectory
from ringbuf.exceptions import RingBufferError
from tests.service.draining import LAYOUT, DrainProcess, emit

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"spans of somebody else" * 10


def strange_file(kind: str, path: Path, victim: Path) -> None:
    """Put something under a name; victim is a file of ours that it may lead to."""
    victim.write_bytes(SECRET)
    victim.chmod(0o600)
    match kind:
        case "symbolic link":
            path.symlink_to(victim)
        case "hard link":
            os.link(victim, path)
        case "folder":
            path.mkdir()
        case _:
            assert kind == "pipe"
            os.mkfifo(path, 0o600)


@pytest.mark.parametrize("name", ["drain.lock", "doorbell"])
@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "folder", "pipe"])
def test_a_drain_does_not_write_through_what_has_the_name_of_its_files(
    kind: str, name: str, ring_dir: Path, tmp_path: Path
) -> None:
    victim = ring_dir / "victim"
    strange_file(kind, ring_dir / name, victim)
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64) as emitter:
        assert emit(emitter, range(10)) == 10  # producers do without a doorbell
        with DrainProcess(tmp_path / "log", ring_dir, "--exporter", "file", "--output", tmp_path / "spans") as drain:
            assert drain.wait() == 2
        said = (tmp_path / "log").read_text()
        assert said.splitlines()[-1].startswith("ringbuf-drain: ")
        assert name in said
        assert emitter.stats().pending == 10
    assert victim.read_bytes() == SECRET
    assert victim.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_lock_of_another_user_is_not_taken(ring_dir: Path) -> None:
    """In the group form anybody may put one there, and hold it."""
    lock = ring_dir / "drain.lock"
    lock.touch(0o666)
    os.chown(lock, 12345, -1)
    with pytest.raises(RingBufferError, match=r"drain\.lock: not a file of ours"):
        RingDirectory(ring_dir)


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "folder", "pipe"])
def test_a_producer_does_without_a_doorbell_that_is_none(kind: str, ring_dir: Path) -> None:
    strange_file(kind, ring_dir / "doorbell", ring_dir / "victim")
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=16) as emitter:
        assert emit(emitter, range(16)) == 16
        assert emit(emitter, range(1)) == 0
        assert emitter.stats().full == 1
    assert (ring_dir / "victim").read_bytes() == SECRET
