"""The ring directory: made privately, and refused where somebody else could put or take rings."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.ring.directory import default_ring_dir
from tests.consumer import rings_in
from tests.nursery import output_of

if TYPE_CHECKING:
    from pathlib import Path

SOMEBODY = 12345
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_that_is_not_there_is_made_for_us_alone(ring_dir: Path) -> None:
    before = os.umask(0)
    try:
        with ringbuf.Emitter("service", ring_dir=ring_dir / "new"):
            pass
    finally:
        os.umask(before)
    assert mode_of(ring_dir / "new") == 0o700


def test_a_directory_has_a_name_of_this_user_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(default_ring_dir()) == f"/dev/shm/ringbuf-{os.getuid()}"  # noqa: S108 - the promise itself
    monkeypatch.setenv("RINGBUF_DIR", "")
    assert str(default_ring_dir()) == f"/dev/shm/ringbuf-{os.getuid()}"  # noqa: S108 - the promise itself


@pytest.mark.parametrize("mode", [0o722, 0o770, 0o707, 0o777, 0o1777, 0o2770, 0o2777])
def test_a_directory_that_others_may_write_is_refused(ring_dir: Path, mode: int) -> None:
    ring_dir.chmod(mode)
    with pytest.raises(ringbuf.RingCreateError, match=r"others may write it.*chmod 0700"):
        ringbuf.Emitter("service", ring_dir=ring_dir)
    assert rings_in(ring_dir) == []


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_directory_that_others_may_read_is_accepted(ring_dir: Path, mode: int) -> None:
    ring_dir.chmod(mode)
    with ringbuf.Emitter("service", ring_dir=ring_dir):
        assert len(rings_in(ring_dir)) == 1


def test_the_group_form_is_accepted(ring_dir: Path) -> None:
    ring_dir.chmod(0o3733)
    with ringbuf.Emitter("service", ring_dir=ring_dir, mode=0o660):
        assert [mode_of(path) for path in rings_in(ring_dir)] == [0o660]


@as_root
def test_a_ring_of_the_group_form_belongs_to_the_directorys_group(ring_dir: Path) -> None:
    os.chown(ring_dir, 0, SOMEBODY)
    ring_dir.chmod(0o3733)
    with ringbuf.Emitter("service", ring_dir=ring_dir, mode=0o660):
        assert [path.stat().st_gid for path in rings_in(ring_dir)] == [SOMEBODY]


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o3733, 0o3777])
def test_a_directory_of_somebody_else_is_refused(ring_dir: Path, mode: int) -> None:
    os.chown(ring_dir, SOMEBODY, SOMEBODY)
    ring_dir.chmod(mode)
    with pytest.raises(ringbuf.RingCreateError, match=f"belongs to uid {SOMEBODY}"):
        ringbuf.Emitter("service", ring_dir=ring_dir)
    assert rings_in(ring_dir) == []


@as_root
def test_another_user_may_emit_into_the_group_form(ring_dir: Path) -> None:
    ring_dir.chmod(0o3733)
    code = (
        "import os, sys, ringbuf, ringbuf.dataplane\n"
        f"os.setgroups([]); os.setgid({SOMEBODY}); os.setuid({SOMEBODY})\n"
        "emitter = ringbuf.Emitter('service', ring_dir=sys.argv[1], mode=0o660)\n"
        "print(emitter.stats().path, flush=True)\n"
        "os._exit(0)\n"  # an empty ring would be removed
    )
    made = output_of(code, ring_dir).strip()
    (path,) = rings_in(ring_dir)
    assert made == str(path)
    assert path.stat().st_uid == SOMEBODY


def test_a_symbolic_link_is_not_followed(ring_dir: Path) -> None:
    (ring_dir / "real").mkdir(mode=0o700)
    (ring_dir / "link").symlink_to("real")
    with pytest.raises(ringbuf.RingCreateError, match="symbolic links are not followed"):
        ringbuf.Emitter("service", ring_dir=ring_dir / "link")
    assert list((ring_dir / "real").iterdir()) == []


def test_a_link_to_nothing_is_refused(ring_dir: Path) -> None:
    (ring_dir / "link").symlink_to("nothing")
    with pytest.raises(ringbuf.RingCreateError, match="RINGBUF_DIR"):
        ringbuf.Emitter("service", ring_dir=ring_dir / "link")
    assert not (ring_dir / "nothing").exists()


def test_a_file_is_no_directory(ring_dir: Path) -> None:
    (ring_dir / "file").write_bytes(b"")
    for name, why in (("file", "file: not a directory.*"), ("file/below", "cannot be made .*")):
        with pytest.raises(ringbuf.RingCreateError, match=f"{why}set RINGBUF_DIR"):
            ringbuf.Emitter("service", ring_dir=ring_dir / name)


def test_a_path_without_room_for_a_rings_name_is_refused(ring_dir: Path) -> None:
    deep = ring_dir
    while len(str(deep)) < 4000:
        deep = deep / ("d" * 50)
    deep = deep / ("d" * (4090 - len(str(deep))))
    deep.mkdir(parents=True)
    with pytest.raises(ValueError, match="too long"):
        ringbuf.Emitter("service", ring_dir=deep)
