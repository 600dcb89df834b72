"""What the backend refused is kept in files that tell what they are, and in no more of them than allowed."""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

import drain.delivery.dead_letters as dead_letters_module
from drain.accounting.letter_sums import LetterSums
from drain.accounting.sums import OTHER_SERVICES
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.letter_file import SUFFIX, DeadLetter, LetterHeader, headers_of, read_letters, services_in
from drain.otlp.request import Request
from tests.waiting import SECONDS, until

MEBIBYTE = 1 << 20
REASON = "HTTP 400: no"
EACH_ITS_FILE = 16 * 300  # a sixteenth has room for one letter
HEADER = (
    b'{"format":"ringbuf-dead-letter","version":2,"encoding":"json","compression":"gzip","bytes":%b,"spans":1,'
    b'"unix_nano":1,"endpoint":"","reason":""}\n'
)


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

    def letters(self) -> list[DeadLetter]:
        return [letter for path in self.files() for letter in read_letters(io.BytesIO(path.read_bytes()))]

    def headers(self) -> list[LetterHeader]:
        return [header for path in self.files() for header in headers_of(io.BytesIO(path.read_bytes()))]

    def bodies(self) -> list[bytes]:
        return [letter.request.body for letter in self.letters()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    # A drain goes on without a disk that is late; here a busy machine is not to look like one.
    monkeypatch.setattr(dead_letters_module, "_LOOK_SECONDS", SECONDS)
    monkeypatch.setattr(dead_letters_module, "_KEEP_SECONDS", SECONDS)
    return Folder(tmp_path / "state" / "dead-letters")


def request(body: bytes) -> Request:
    return Request(body, 3, "protobuf")


def law_holds(letters: DeadLetters) -> bool:
    return all(sums.unaccounted == 0 for sums in letters.status().services.values())


def test_a_batch_is_read_back_with_its_reason(folder: Folder) -> None:
    letters = folder.open()
    protobuf = Request(b"\x0a\x00\nbinary\r\n\0", 3, "protobuf")
    line = Request('{"resourceSpans":["\u00fc"]}\n'.encode(), 1, "json")
    assert letters.keep(protobuf, REASON, "http://127.0.0.1:1/v1/traces")
    assert letters.keep(line, "HTTP 404", "http://127.0.0.1:2/v1/traces")
    (file,) = folder.files()
    first, second = folder.letters()
    assert (first.request, first.reason, first.endpoint) == (protobuf, REASON, "http://127.0.0.1:1/v1/traces")
    assert (second.request, second.reason, second.unix_nano) == (line, "HTTP 404", folder.now)
    header = json.loads(file.read_bytes().partition(b"\n")[0])
    assert (header["format"], header["version"]) == ("ringbuf-dead-letter", 2)
    assert letters.status().batches_kept == 2
    assert letters.status().sums == LetterSums(kept=4, waiting=4)


def of(number: int, **services: int) -> Request:
    """Return a batch of some services."""
    return Request(b"%d" % number, sum(services.values()), "protobuf", services=services)


def test_each_service_has_its_sums_also_in_letters_of_another_run(folder: Folder) -> None:
    letters = folder.open(max_files=3)
    letters.keep(of(1, shop=3, bank=1), REASON, "")
    letters.keep(of(2, bank=5), REASON, "")
    letters = folder.open(max_files=2, max_bytes=EACH_ITS_FILE)
    (first,) = folder.files()
    assert letters.status().services == {"shop": LetterSums(found=3, waiting=3), "bank": LetterSums(found=6, waiting=6)}
    for number in (3, 4):
        letters.keep(of(number, shop=10), REASON, "")
    assert not first.exists()
    assert letters.status().services == {
        "shop": LetterSums(found=3, kept=20, waiting=20, deleted=3),
        "bank": LetterSums(found=6, deleted=6),
    }
    folder.files()[0].unlink()
    assert letters.status().services["shop"] == LetterSums(found=3, kept=20, waiting=10, deleted=3, taken=10)
    assert law_holds(letters)
    (header,) = folder.headers()
    assert header.services == {"shop": 10}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'"services":{"shop":2},',
        b'"services":{"shop":-1,"bank":2},',
        b'"services":{"shop":"1"},',
        b'"services":[1],',
    ],
)
def test_a_letter_that_does_not_say_whose_spans_it_has_or_says_it_wrong_is_none_the_worse(
    folder: Folder, said: bytes
) -> None:
    folder.open()
    body = gzip.compress(b"{}")
    (folder.path / f"1{SUFFIX}").write_bytes(
        HEADER.replace(b'"spans"', said + b'"spans"') % b"%d" % len(body) + body + b"\n"
    )
    assert folder.open().status().services == {"": LetterSums(found=1, waiting=1)}
    (letter,) = folder.letters()
    assert letter.request.body == b"{}"


def test_so_many_services_are_told_as_a_header_has_room_for(folder: Folder) -> None:
    services = {f"{number:04}" + "\u00fc" * 250: 1 for number in range(900)}
    letters = folder.open()
    assert letters.keep(of(1, **services), REASON, "")
    (header,) = folder.headers()
    assert header.spans == sum(header.services.values()) == 900
    assert header.services[OTHER_SERVICES] > 700
    assert folder.open().status().sums == LetterSums(found=900, waiting=900)


def test_the_services_of_a_letter_are_not_more_than_are_read(folder: Folder) -> None:
    """Their names are short: a header had room for 90 more, and whose spans they were was not believed."""
    services = {f"{number}": 1 for number in range(1090)}
    batch = of(1, **services)
    assert folder.open().keep(batch, REASON, "")
    (header,) = folder.headers()
    assert header.services == services_in(batch)
    assert header.services["0"] == 1
    assert sum(header.services.values()) == 1090


def test_the_services_of_all_letters_are_bounded(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drain.delivery.dead_letters.MAX_SERVICES", 2)
    letters = folder.open()
    for number, service in enumerate(["shop", "bank", "post", "shop", "mill"]):
        letters.keep(of(number, **{service: 1}), REASON, "")
    assert {name: sums.waiting for name, sums in letters.status().services.items()} == {
        "shop": 2,
        "bank": 1,
        OTHER_SERVICES: 2,
    }
    folder.files()[0].unlink()
    assert letters.status().sums == LetterSums(kept=5, taken=5)
    assert law_holds(letters)


def test_files_are_ours_alone(folder: Folder) -> None:
    before = os.umask(0)
    try:
        folder.open().keep(request(b"x"), REASON, "")
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.files()] == [0o600]
    folder.path.chmod(0o750)
    assert folder.open().status().sums == LetterSums(found=3, waiting=3)
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_the_oldest_go_when_there_are_too_many(folder: Folder) -> None:
    letters = folder.open(max_files=3, max_bytes=EACH_ITS_FILE)
    for number in range(5):
        letters.keep(request(b"%d" % number), REASON, "")
        assert law_holds(letters)
    assert folder.bodies() == [b"2", b"3", b"4"]
    assert letters.status().sums == LetterSums(kept=15, waiting=9, deleted=6)
    assert [entry["log_level"] for entry in folder.capture.entries] == ["error"]


def test_the_oldest_go_when_they_take_too_much_but_never_the_newest(folder: Folder) -> None:
    letters = folder.open(max_bytes=10_000)
    bodies = [os.urandom(4000) for _ in range(3)]
    for body in bodies:
        letters.keep(request(body), REASON, "")
    assert folder.bodies() == bodies[1:]
    large = os.urandom(20_000)
    letters.keep(request(large), REASON, "")
    assert folder.bodies() == [large]
    status = letters.status()
    assert (status.files, status.file_bytes) == (1, folder.files()[0].stat().st_size)
    assert status.sums == LetterSums(kept=12, waiting=3, deleted=9)


def test_the_bound_holds_over_restarts(folder: Folder) -> None:
    sums = []
    for number in range(3):
        letters = folder.open(max_files=2, max_bytes=EACH_ITS_FILE)
        letters.keep(request(b"%d" % number), REASON, "")
        sums.append(letters.status().sums)
    assert folder.bodies() == [b"1", b"2"]
    assert sums[1:] == [LetterSums(found=3, kept=3, waiting=6), LetterSums(found=6, kept=3, waiting=6, deleted=3)]


def test_what_somebody_took_away_makes_room(folder: Folder) -> None:
    letters = folder.open(max_files=2, max_bytes=EACH_ITS_FILE)
    letters.keep(request(b"1"), REASON, "")
    letters.keep(request(b"2"), REASON, "")
    folder.files()[0].unlink()
    letters.keep(request(b"3"), REASON, "")
    assert folder.bodies() == [b"2", b"3"]
    assert letters.status().sums == LetterSums(kept=9, waiting=6, taken=3)


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
    assert (letters.status().batches_kept, letters.status().batches_failed) == (0, 2)
    assert letters.status().sums == LetterSums()
    assert [entry["event"] for entry in folder.capture.entries] == ["dead letter cannot be kept, it waits"]
    assert letters.keep(request(b"3"), REASON, "")


@pytest.mark.parametrize(
    "data",
    [
        b"no newline",
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"format":"other"}\n',
        b'{"format":"ringbuf-dead-letter","version":3}\n',
        b'{"format":"ringbuf-dead-letter","version":2,"encoding":"json","spans":1,"unix_nano":1}\n',
        HEADER % b"-1" + b"\n",
        HEADER % b"5" + b"four\n",
        HEADER % b"4" + b"four",
        HEADER % b"4" + b"five5",
        b'{"format":"ringbuf-dead-letter","version":1,"encoding":"xml","spans":1,"unix_nano":1}\n',
        b'{"format":"ringbuf-dead-letter","version":1,"encoding":"json","spans":"1","unix_nano":1}\n',
    ],
)
def test_what_is_no_dead_letter_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON, UTF-8 and we each say it in our own words
        list(read_letters(io.BytesIO(data)))


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
    assert (letters.status().batches_kept, letters.status().batches_failed) == (0, 1)


def test_a_letter_is_kept_beside_old_ones_that_cannot_be_removed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = folder.open(max_files=1, max_bytes=EACH_ITS_FILE)
    assert letters.keep(request(b"first"), REASON, "")

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert letters.keep(request(b"second"), REASON, "")
    assert folder.bodies() == [b"first", b"second"]
    assert letters.status().sums == LetterSums(kept=6, waiting=6)
    monkeypatch.undo()
    assert letters.keep(request(b"third"), REASON, "")
    assert folder.bodies() == [b"third"]


def test_a_folder_with_the_name_of_a_letter_is_none(folder: Folder) -> None:
    letters = folder.open(max_files=1)
    (folder.path / f"0{SUFFIX}").mkdir()
    assert letters.keep(request(b"first"), REASON, "")
    assert letters.keep(request(b"second"), REASON, "")
    assert letters.status().files == 1


# ---- gathered in files ----


def test_many_letters_are_few_files_of_a_bounded_size(folder: Folder) -> None:
    letters = folder.open(max_files=5, max_bytes=MEBIBYTE)
    bodies = [os.urandom(1000) for _ in range(200)]
    for body in bodies:
        assert letters.keep(request(body), REASON, "")
    sizes = [path.stat().st_size for path in folder.files()]
    assert len(sizes) == 4
    assert max(sizes) <= MEBIBYTE // 16
    assert folder.bodies() == bodies
    assert letters.status().sums == LetterSums(kept=600, waiting=600)


def test_a_drain_goes_on_with_the_newest_file(folder: Folder) -> None:
    folder.open().keep(request(b"1"), REASON, "")
    folder.open().keep(request(b"2"), REASON, "")
    assert len(folder.files()) == 1
    assert folder.bodies() == [b"1", b"2"]


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_what_a_kill_cut_off_is_removed_at_the_next_start(folder: Folder, cut: int) -> None:
    letters = folder.open()
    letters.keep(request(b"1"), REASON, "")
    letters.keep(request(b"2"), REASON, "")
    (path,) = folder.files()
    os.truncate(path, path.stat().st_size - cut)
    letters = folder.open()
    assert letters.status().sums == LetterSums(found=3, waiting=3)
    letters.keep(request(b"3"), REASON, "")
    assert folder.bodies() == [b"1", b"3"]
    assert folder.files() == [path]


@pytest.mark.parametrize(
    "between",
    [
        b'{"format":"ringbuf-dead-letter","version":3}\nfour\n',
        HEADER % b"4" + b"five5\n",
        b"{{\n",
        b"[" * 60_000 + b"\n",
    ],
)
def test_what_stands_behind_a_letter_that_cannot_be_read_is_not_cut_off(folder: Folder, between: bytes) -> None:
    folder.open().keep(request(b"1"), REASON, "")
    (path,) = folder.files()
    content = path.read_bytes() + between + path.read_bytes()
    path.write_bytes(content)
    letters = folder.open()
    assert letters.status().sums == LetterSums(found=3, waiting=3)
    assert letters.keep(request(b"3"), REASON, "")
    assert path.read_bytes() == content
    assert len(folder.files()) == 2


def test_a_write_that_fails_leaves_the_file_as_it_was(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = folder.open()
    letters.keep(request(b"1"), REASON, "")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", no_space)
        patch.setattr(os, "fsync", no_space)
        assert not letters.keep(request(b"2"), REASON, "")
        assert not letters.keep(request(b"3"), REASON, "")
    assert folder.bodies() == [b"1"]
    assert letters.keep(request(b"4"), REASON, "")
    assert folder.bodies() == [b"1", b"4"]
    assert letters.status().sums == LetterSums(kept=6, waiting=6)


def test_to_a_file_that_is_being_read_or_was_taken_away_nothing_is_added(folder: Folder) -> None:
    letters = folder.open()
    letters.keep(request(b"1"), REASON, "")
    (path,) = folder.files()
    with path.open("rb") as reading:
        fcntl.flock(reading, fcntl.LOCK_SH)
        letters.keep(request(b"2"), REASON, "")
        assert list(read_letters(reading))[-1].request.body == b"1"
        path.unlink()
    letters.keep(request(b"3"), REASON, "")
    folder.files()[0].unlink()
    letters.keep(request(b"4"), REASON, "")
    assert folder.bodies() == [b"4"]
    assert letters.status().sums == LetterSums(kept=12, waiting=3, taken=9)


def test_letters_of_version_1_are_read_counted_and_left_as_they_are(folder: Folder) -> None:
    folder.open()
    old = b'{"format":"ringbuf-dead-letter","version":1,"encoding":"protobuf","spans":2,"unix_nano":1}\n\x0a\x00\nbody'
    (folder.path / f"1{SUFFIX}").write_bytes(old)
    letters = folder.open()
    letters.keep(request(b"new"), REASON, "")
    assert folder.bodies() == [b"\x0a\x00\nbody", b"new"] or folder.bodies() == [b"new", b"\x0a\x00\nbody"]
    assert letters.status().sums == LetterSums(found=2, kept=3, waiting=5)


def test_what_somebody_puts_into_the_folder_is_found(folder: Folder) -> None:
    letters = folder.open()
    letters.keep(request(b"1"), REASON, "")
    (path,) = folder.files()
    (folder.path / f"2{SUFFIX}").write_bytes(path.read_bytes() * 2)
    assert letters.status().sums == LetterSums(found=6, kept=3, waiting=9)


def test_a_folder_that_hangs_keeps_nobody_waiting_who_asks(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = folder.open()
    letters.keep(request(b"1"), REASON, "")
    goes_on, scandir, before = threading.Event(), os.scandir, set(threading.enumerate())

    def hangs(path: Path) -> object:
        assert goes_on.wait(SECONDS)
        return scandir(path)

    def lookers() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "dead-letters" and one not in before]

    monkeypatch.setattr(os, "scandir", hangs)
    monkeypatch.setattr(dead_letters_module, "_LOOK_SECONDS", 0.05)
    assert letters.status().sums == LetterSums(kept=3, waiting=3)
    assert letters.status().sums == LetterSums(kept=3, waiting=3)
    assert len(lookers()) == 1
    goes_on.set()
    until(lambda: not lookers())


def test_the_oldest_go_first_though_the_clock_was_set_back(folder: Folder) -> None:
    letters = folder.open(max_files=2, max_bytes=EACH_ITS_FILE)
    letters.keep(request(b"1"), REASON, "")
    folder.now = 1000  # a machine without a clock has started again
    letters = folder.open(max_files=2, max_bytes=EACH_ITS_FILE)
    letters.keep(request(b"2"), REASON, "")
    letters.keep(request(b"3"), REASON, "")
    assert folder.bodies() == [b"2", b"3"]
    assert [letter.unix_nano for letter in folder.letters()] == [1001, 1002]


def test_a_file_that_cannot_be_read_keeps_no_drain_from_its_start(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.open().keep(request(b"1"), REASON, "")
    foreign = folder.path / f"2{SUFFIX}"
    foreign.write_bytes(b"of root")
    real = Path.open

    def denied(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == foreign:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    letters = folder.open()
    assert letters.keep(request(b"3"), REASON, "")
    assert letters.status().sums == LetterSums(found=3, kept=3, waiting=6)
    assert letters.status().files == 2


def test_a_disk_that_hangs_holds_one_thread_and_lets_the_others_go_on(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a tenant that is refused would take one delivery thread after the other, and nothing were sent any more."""
    hangs, answers = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        hangs.set()
        assert answers.wait(SECONDS)
        real(descriptor)

    letters = folder.open()
    for seconds in ("_KEEP_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(dead_letters_module, seconds, 0.05)
    monkeypatch.setattr(os, "fsync", fsync)
    kept = []
    holder = threading.Thread(target=lambda: kept.append(letters.keep(Request(b"a", 1, "json"), REASON, "")))
    holder.start()
    assert hangs.wait(SECONDS)
    others = [
        threading.Thread(target=lambda: kept.append(letters.keep(Request(b"b", 1, "json"), REASON, "")))
        for _ in range(3)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join(SECONDS)
    assert kept == [False] * 3
    assert letters.status().batches_failed == 3
    for seconds in ("_KEEP_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(dead_letters_module, seconds, SECONDS)  # the look of before may have the lock yet
    answers.set()
    holder.join(SECONDS)
    assert kept == [False] * 3 + [True]
    assert letters.keep(Request(b"b", 1, "json"), REASON, "")
    assert folder.bodies() == [b"a", b"b"]
    assert letters.status().sums == LetterSums(kept=2, waiting=2)
