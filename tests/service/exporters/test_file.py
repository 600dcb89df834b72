"""The file exporter: whole lines only, whatever happens to the disk, the file or the drain."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from drain.exporters.file import FileExporter
from drain.exporters.file_options import FileOptions
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.exporters.rotation import rotated_files
from drain.otlp.json_lines import from_json_line
from drain.otlp.zstd_frame import zstd
from drain.settings.otlp_environment import OtlpSettings
from tests.clocks import Clock
from tests.examples import examples
from tests.waiting import until

from .batches import request, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE = request(2, "json").body


OpenFile: TypeAlias = "Callable[..., FileExporter]"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


@pytest.fixture
def open_file(path: Path) -> Iterator[Callable[..., FileExporter]]:
    opened = []

    def open_(options: FileOptions | None = None, clock: Clock | None = None) -> FileExporter:
        exporter = FileExporter(path, options, clock=clock or Clock(0.0))
        opened.append(exporter)
        return exporter

    yield open_
    for exporter in opened:
        exporter.close()


def lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return data.splitlines(keepends=True)


def test_each_batch_is_one_line_of_otlp_json(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    assert exporter.export(request(2, "json")) == Result(Verdict.DELIVERED)
    assert exporter.export(request(3, "protobuf")) == Result(Verdict.DELIVERED)
    first, second = lines(path)
    assert from_json_line(first) == traces(2)
    assert from_json_line(second) == traces(3)
    span = json.loads(first)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span["traceId"] == f"{1:032x}"
    assert span["kind"] == 1
    assert span["startTimeUnixNano"] == "1763820000000000001"


def test_the_file_is_the_users_own(path: Path, open_file: OpenFile) -> None:
    open_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_restart_appends(path: Path, open_file: OpenFile) -> None:
    for _ in range(3):
        exporter = open_file()
        exporter.export(request(2, "json"))
        exporter.close()
    assert lines(path) == [LINE] * 3


def test_a_closed_exporter_opens_the_file_again(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    exporter.close()
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert lines(path) == [LINE]


@pytest.mark.parametrize("kept", [1, 17, 18, 19, len(LINE) - 1])
@pytest.mark.parametrize("before", [b"", LINE, LINE * 300])
def test_an_incomplete_last_line_is_cut_at_the_next_start(
    path: Path, open_file: OpenFile, before: bytes, kept: int
) -> None:
    path.write_bytes(before + LINE[:kept])
    with capture_logs() as logs:
        exporter = open_file()
    assert path.read_bytes() == before
    assert [(entry["log_level"], entry["bytes"]) for entry in logs] == [("warning", kept)]
    exporter.export(request(2, "json"))
    assert path.read_bytes() == before + LINE


@pytest.mark.parametrize("tail", [bytes(100), LINE[:30] + bytes(70000)])
def test_zeros_that_a_loss_of_power_left_are_cut(path: Path, open_file: OpenFile, tail: bytes) -> None:
    path.write_bytes(LINE + tail)
    open_file()
    assert path.read_bytes() == LINE


@pytest.mark.parametrize(
    "content", [b"root:x:0:0\n", b"one line without an end", LINE + b"other text", b"\x7fELF\n", zstd(LINE)]
)
def test_a_file_that_holds_something_else_is_left_alone(path: Path, open_file: OpenFile, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds something else; name another file"):
        open_file()
    assert path.read_bytes() == content


def test_a_second_writer_is_refused(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    with pytest.raises(ValueError, match="being written by another process"):
        open_file()
    exporter.close()
    open_file()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_only_regular_files_are_written(path: Path, open_file: OpenFile, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(ValueError, match="not a regular file"):
        open_file()


def test_a_missing_folder_is_refused_when_the_exporter_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file or directory; name a file in a folder of yours"):
        FileExporter(tmp_path / "missing" / "spans.jsonl")


def test_a_write_that_the_disk_ends_midway_is_taken_back_and_tried_again(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    exporter.export(request(2, "json"))
    # The kernel writes what fits under the limit and refuses the rest, as it does on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINE) + 100, hard))
    try:
        result = exporter.export(request(2, "json"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result == Result(Verdict.RETRY, message=f"{path}: File too large")
    assert lines(path) == [LINE]
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert lines(path) == [LINE, LINE]


def test_a_torn_line_that_cannot_be_taken_back_is_cut_before_the_next_batch(
    path: Path, open_file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = open_file()

    def full(descriptor: int, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:20]) if len(data) == len(LINE) else full(fd))
    monkeypatch.setattr(os, "ftruncate", full)
    assert exporter.export(request(2, "json")).message == f"{path}: No space left on device"
    assert path.read_bytes() == LINE[:20]
    assert exporter.export(request(2, "json")).verdict is Verdict.RETRY
    monkeypatch.undo()
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert lines(path) == [LINE]


def test_sync_waits_for_the_disk_and_takes_back_what_the_disk_refused(
    path: Path, open_file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = open_file(FileOptions(sync=True))
    sizes = []

    def refuse_first(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        if len(sizes) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse_first)
    assert exporter.export(request(2, "json")).verdict is Verdict.RETRY
    assert lines(path) == []
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert sizes == [len(LINE), len(LINE)]


def test_with_sync_the_names_of_new_and_rotated_files_are_on_the_disk_before_a_batch_is_delivered(
    path: Path, open_file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, fails = os.fsync, [False, False, True]
    names: list[int] = []

    def note(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), path.parent.stat()):
            names.append(len(list(path.parent.iterdir())))
            if fails and fails.pop(0):
                raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    exporter = open_file(FileOptions(sync=True, rotate_bytes=len(LINE)))
    assert names == [1]
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert names == [1, 2], "of a file that was rotated, and of the new one"
    assert exporter.export(request(2, "json")).verdict is Verdict.RETRY
    assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert names == [1, 2, 3, 3], "what the disk refused is asked for again"


def test_without_sync_nothing_waits_for_the_disk(open_file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _: pytest.fail("fdatasync called"))
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("fsync called"))
    assert open_file().export(request(2, "json")).verdict is Verdict.DELIVERED


def test_a_file_that_was_renamed_or_removed_is_begun_anew(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    exporter.export(request(2, "json"))
    path.rename(path.with_name("taken.jsonl"))
    exporter.export(request(2, "json"))
    path.unlink()
    exporter.export(request(2, "json"))
    assert lines(path.with_name("taken.jsonl")) == [LINE]
    assert lines(path) == [LINE]


def test_a_file_that_was_emptied_in_place_goes_on(path: Path, open_file: OpenFile) -> None:
    exporter = open_file()
    exporter.export(request(2, "json"))
    os.truncate(path, 0)
    exporter.export(request(2, "json"))
    assert lines(path) == [LINE]


def test_rotation_by_size_keeps_every_line_and_no_file_beyond_the_size(path: Path, open_file: OpenFile) -> None:
    exporter = open_file(FileOptions(rotate_bytes=2 * len(LINE)))
    for _ in range(5):
        exporter.export(request(2, "json"))
    assert [lines(file) for file in (*rotated_files(path), path)] == [[LINE] * 2, [LINE] * 2, [LINE]]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in rotated_files(path))


def test_a_line_larger_than_the_size_has_a_file_of_its_own(path: Path, open_file: OpenFile) -> None:
    exporter = open_file(FileOptions(rotate_bytes=10))
    for _ in range(3):
        exporter.export(request(2, "json"))
    assert [lines(file) for file in (*rotated_files(path), path)] == [[LINE]] * 3


def test_rotation_by_age_counts_from_the_opening(path: Path, open_file: OpenFile) -> None:
    clock = Clock(0.0)
    exporter = open_file(FileOptions(rotate_seconds=60), clock)
    for clock.now in (0.0, 59.9, 60.0, 119.0, 120.0):
        exporter.export(request(2, "json"))
    assert [len(lines(file)) for file in (*rotated_files(path), path)] == [2, 2, 1]


def test_only_the_newest_rotated_files_are_kept_and_nobody_elses_removed(path: Path, open_file: OpenFile) -> None:
    others = [path.with_name(name) for name in ("spans-old.jsonl", "spans-20261122T150102.123456Z.txt", "other.jsonl")]
    for other in others:
        other.touch()
    exporter = open_file(FileOptions(rotate_bytes=1, keep=2))
    for count in range(1, 6):
        exporter.export(request(count, "json"))
    kept = [from_json_line(file.read_bytes()) for file in (*rotated_files(path), path)]
    assert kept == [traces(3), traces(4), traces(5)]
    assert all(other.exists() for other in others)


def test_a_rotation_that_fails_loses_nothing(path: Path, open_file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = open_file(FileOptions(rotate_bytes=1))
    exporter.export(request(2, "json"))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with capture_logs() as logs:
        assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    assert lines(path) == [LINE, LINE]
    assert [entry["reason"] for entry in logs] == ["Permission denied"]


def decompressed(path: Path) -> bytes:
    with path.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()


def test_zstd_files_are_frames_that_any_reader_joins(path: Path, open_file: OpenFile) -> None:
    exporter = open_file(FileOptions(compression="zstd"))
    for _ in range(3):
        exporter.export(request(2, "json"))
    exporter.close()
    open_file(FileOptions(compression="zstd")).export(request(2, "json"))
    assert decompressed(path) == LINE * 4


@settings(max_examples=examples(200))
@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=3), st.booleans(), st.data())
def test_an_incomplete_zstd_frame_is_cut_at_any_byte(sizes: list[int], random_bytes: bool, data: st.DataObject) -> None:
    bodies = [os.urandom(size) if random_bytes else bytes(size) for size in sizes]
    frames = [zstd(body) for body in bodies]
    cut = data.draw(st.integers(1, len(frames[-1]) - 1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spans.jsonl.zst"
        path.write_bytes(b"".join(frames)[:-cut])
        FileExporter(path, FileOptions(compression="zstd")).close()
        assert decompressed(path) == b"".join(bodies[:-1])


@pytest.mark.parametrize("content", [LINE, zstd(LINE) + b"text", b"\x28\xb5\x2f\xfe"])
def test_a_file_that_is_not_zstd_is_left_alone(path: Path, open_file: OpenFile, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds something else"):
        open_file(FileOptions(compression="zstd"))
    assert path.read_bytes() == content


def test_threads_never_mix_their_lines(path: Path, open_file: OpenFile) -> None:
    exporter = open_file(FileOptions(rotate_bytes=10 * len(LINE)))
    threads = [
        threading.Thread(target=lambda: [exporter.export(request(2, "json")) for _ in range(25)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [line for file in (*rotated_files(path), path) for line in lines(file)] == [LINE] * 100


WRITER = """
import sys
from pathlib import Path
from drain.otlp.request import Request
from drain.exporters.file import FileExporter
exporter = FileExporter(Path(sys.argv[1]))
line = b'{"resourceSpans":[' + b" " * (8 << 20) + b"]}\\n"
print("ready", flush=True)
while True:
    exporter.export(Request(line, 0, "json"))
    if Path(sys.argv[1]).stat().st_size > 1 << 28:
        Path(sys.argv[1]).unlink()
"""


def size_of(path: Path) -> int:
    """Return the size of a file, -1 where there is none: the writer removes it now and then."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def has_another_size(path: Path, size: int) -> bool:
    return size_of(path) != size


def test_a_kill_in_the_middle_of_writes_leaves_a_file_that_goes_on(path: Path, open_file: OpenFile) -> None:
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            until(partial(has_another_size, path, size_of(path)), lambda: None)
            writer.send_signal(signal.SIGKILL)
        exporter = open_file()
        assert exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
        exporter.close()
        assert all(json.loads(line)["resourceSpans"] is not None for line in lines(path))


def test_what_cannot_work_is_refused_when_the_exporter_is_made(tmp_path: Path) -> None:
    for options in ({"rotate_bytes": -1}, {"rotate_seconds": -1}, {"keep": -1}, {"keep": 3}, {"compression": "gzip"}):
        with pytest.raises(ValueError, match="file"):
            FileOptions(**options)
    with pytest.raises(ValueError, match="needs an output"):
        make_exporter("file", otlp=OtlpSettings())
    with pytest.raises(ValueError, match="standard output cannot be"):
        make_exporter("file", output=Path("-"), otlp=OtlpSettings(), file=FileOptions(sync=True))
