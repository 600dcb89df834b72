"""A folder for other people's spans is the drain's alone, whoever opened it before, and outlives a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drain.private_folder import ensure_private_folder
from ringbuf.exceptions import RingBufferError

SOMEBODY = 12_345


def test_it_is_made_private_with_all_folders_above_it_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folder = tmp_path / "a" / "b" / "c"
    before = os.umask(0)
    try:
        ensure_private_folder(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    synced.clear()
    ensure_private_folder(folder)
    assert synced == []


@pytest.mark.parametrize("mode", [0o2770, 0o755, 0o750, 0o777, 0o707])
def test_one_that_others_may_enter_is_closed_to_them(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "ours").touch()
    folder.chmod(mode)
    ensure_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_one_in_which_others_have_put_something_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "spool.db").touch()
    os.chown(folder / "spool.db", SOMEBODY, SOMEBODY)
    folder.chmod(0o777)
    with pytest.raises(RingBufferError, match=f"spool.db in it belongs to uid {SOMEBODY}"):
        ensure_private_folder(folder)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to(tmp_path)
    with pytest.raises(RingBufferError, match="not a folder"):
        ensure_private_folder(tmp_path / "state")
