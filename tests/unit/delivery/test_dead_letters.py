"""What the backend refused is kept in files that tell what they are, and in no more of them than allowed."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import structlog

from drain.delivery.dead_letters import SUFFIX, DeadLetters, parse_dead_letter
from drain.otlp.request import Request
from ringbuf.exceptions import RingBufferError

MEBIBYTE = 1 << 20
REASON = "HTTP 400: no"


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.capture = structlog.testing.LogCapture()
        self.now = 1_763_820_000_000_000_000

    def open(self, max_files: int = 100, max_bytes: int = MEBIBYTE) -> DeadLetters:
        log = structlog.wrap_logger(structlog.PrintLogger(), processors=[self.capture])
        return DeadLetters(self.path, max_files=max_files, max_bytes=max_bytes, log=log, unix_nano=self.tick)

    def tick(self) -> int:
        self.now += 1
        return self.now

    def files(self) -> list[Path]:
        return sorted(self.path.iterdir())

    def bodies(self) -> list[bytes]:
        return [parse_dead_letter(path.read_bytes()).request.body for path in self.files()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "state" / "dead-letters")


def request(body: bytes) -> Request:
    return Request(body, 3, "protobuf")


def test_a_batch_is_read_back_with_its_reason(folder: Folder) -> None:
    letters = folder.open()
    protobuf = Request(b"\x0a\x00\nbinary\r\n\0", 3, "protobuf")
    line = Request('{"resourceSpans":["\u00fc"]}\n'.encode(), 1, "json")
    assert letters.keep(protobuf, REASON, "http://127.0.0.1:1/v1/traces")
    assert letters.keep(line, "HTTP 404", "http://127.0.0.1:2/v1/traces")
    first, second = (parse_dead_letter(path.read_bytes()) for path in folder.files())
    assert (first.request, first.reason, first.endpoint) == (protobuf, REASON, "http://127.0.0.1:1/v1/traces")
    assert (second.request, second.reason, second.unix_nano) == (line, "HTTP 404", folder.now)
    header = json.loads(folder.files()[0].read_bytes().partition(b"\n")[0])
    assert header["format"] == "ringbuf-dead-letter"
    assert letters.kept == 2


def test_files_are_ours_alone(folder: Folder) -> None:
    before = os.umask(0)
    try:
        folder.open().keep(request(b"x"), REASON, "")
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.files()] == [0o600]
    folder.path.chmod(0o750)
    with pytest.raises(RingBufferError, match="0750"):
        folder.open()


def test_the_oldest_go_when_there_are_too_many(folder: Folder) -> None:
    letters = folder.open(max_files=3)
    for number in range(5):
        letters.keep(request(b"%d" % number), REASON, "")
    assert folder.bodies() == [b"2", b"3", b"4"]
    assert (letters.kept, letters.removed) == (5, 2)


def test_the_oldest_go_when_they_take_too_much_but_never_the_newest(folder: Folder) -> None:
    letters = folder.open(max_bytes=10_000)
    letters.keep(request(b"1" * 4000), REASON, "")
    letters.keep(request(b"2" * 4000), REASON, "")
    letters.keep(request(b"3" * 4000), REASON, "")
    assert folder.bodies() == [b"2" * 4000, b"3" * 4000]
    letters.keep(request(b"4" * 20_000), REASON, "")
    assert folder.bodies() == [b"4" * 20_000]
    assert letters.size()[0] == 1
    assert letters.size()[1] == folder.files()[0].stat().st_size


def test_the_bound_holds_over_restarts(folder: Folder) -> None:
    for number in range(3):
        folder.open(max_files=2).keep(request(b"%d" % number), REASON, "")
    assert folder.bodies() == [b"1", b"2"]


def test_what_somebody_took_away_makes_room(folder: Folder) -> None:
    letters = folder.open(max_files=2)
    letters.keep(request(b"1"), REASON, "")
    letters.keep(request(b"2"), REASON, "")
    folder.files()[0].unlink()
    letters.keep(request(b"3"), REASON, "")
    assert folder.bodies() == [b"2", b"3"]
    assert letters.removed == 0


def test_a_file_that_is_taken_away_while_they_are_counted_is_not_missed(folder: Folder) -> None:
    folder.open()
    (folder.path / f"00000000000000000001-00{SUFFIX}").symlink_to("gone")  # has a name, and nothing behind it
    letters = folder.open(max_files=1)
    assert letters.keep(request(b"1"), REASON, "")


def test_a_half_written_file_that_a_kill_left_is_removed(folder: Folder) -> None:
    folder.open()
    (folder.path / f"00000000000000000001-00{SUFFIX}.part").write_bytes(b"half")
    folder.open()
    assert folder.files() == []


def test_a_full_disk_is_counted_and_told_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = folder.open()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert not letters.keep(request(b"1"), REASON, "")
        assert not letters.keep(request(b"2"), REASON, "")
    assert folder.files() == []
    assert (letters.kept, letters.failed) == (0, 2)
    assert [entry["event"] for entry in folder.capture.entries] == ["dead letter cannot be kept"]
    assert letters.keep(request(b"3"), REASON, "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no newline",
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"format":"other"}\n',
        b'{"format":"ringbuf-dead-letter","version":2}\n',
        b'{"format":"ringbuf-dead-letter","version":1,"encoding":"xml","spans":1,"unix_nano":1}\n',
        b'{"format":"ringbuf-dead-letter","version":1,"encoding":"json","spans":"1","unix_nano":1}\n',
    ],
)
def test_what_is_no_dead_letter_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON, UTF-8 and we each say it in our own words
        parse_dead_letter(data)


def test_what_is_not_kept_for_good_leaves_no_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = folder.open()
    fsync = os.fsync

    def fails_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    assert not letters.keep(request(b"first"), REASON, "")
    assert folder.files() == []
    assert (letters.kept, letters.failed) == (0, 1)


def test_a_letter_is_kept_beside_old_ones_that_cannot_be_removed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = folder.open(max_files=1)
    assert letters.keep(request(b"first"), REASON, "")

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert letters.keep(request(b"second"), REASON, "")
    assert folder.bodies() == [b"first", b"second"]
    monkeypatch.undo()
    assert letters.keep(request(b"third"), REASON, "")
    assert folder.bodies() == [b"third"]


def test_a_folder_with_the_name_of_a_letter_is_none(folder: Folder) -> None:
    letters = folder.open(max_files=1)
    (folder.path / f"0{SUFFIX}").mkdir()
    assert letters.keep(request(b"first"), REASON, "")
    assert letters.keep(request(b"second"), REASON, "")
    assert letters.size()[0] == 1
