"""Standard output and error are written at once or not at all."""

from __future__ import annotations

import os
import pty
import socket
from typing import TYPE_CHECKING

import pytest

from drain.standard_streams import StandardStream
from tests.python import output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stream_of() -> Iterator[list[StandardStream]]:
    opened: list[StandardStream] = []
    yield opened
    for one in opened:
        one.close()


def fill(stream: StandardStream) -> int:
    """Write until nothing more is taken; a stream that would wait instead hangs here, to the test's time-out."""
    for lines in range(1_000_000):
        try:
            stream.write("x" * 99 + "\n")
        except OSError:
            return lines
    raise AssertionError("it never fills")


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_reader_that_stands_still_costs_lines_and_no_time(kind: str, stream_of: list[StandardStream]) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "terminal":
        reader, writer = pty.openpty()
    else:
        reader, writer = (end.detach() for end in socket.socketpair())
    stream = StandardStream(writer)
    stream_of.append(stream)
    assert os.get_blocking(writer)
    assert fill(stream) > 10
    assert os.get_blocking(writer)  # whoever shares it with us goes on as he was
    seen = b""
    while b"behind" not in seen:
        seen += os.read(reader, 1 << 20)
        try:
            stream.write("behind\n")
        except OSError:
            continue
    lines = seen.replace(b"\r", b"").split(b"\n")
    assert b"behind" in lines  # on a line of its own, also behind one that was cut
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_cannot_be_opened_anew_does_not_wait_either(
    monkeypatch: pytest.MonkeyPatch, stream_of: list[StandardStream]
) -> None:
    reader, writer = os.pipe()

    def refuse(*_arguments: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        stream = StandardStream(writer)
    stream_of.append(stream)
    assert fill(stream) > 10
    stream.close()
    os.close(reader)
    os.close(writer)


def test_what_cannot_be_written_is_an_error_each_time(tmp_path: Path, stream_of: list[StandardStream]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    reader, broken = os.pipe()
    os.close(reader)
    closed = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(closed)
    for descriptor in (full, broken, closed):
        stream = StandardStream(descriptor)
        stream_of.append(stream)
        for _ in range(2):
            with pytest.raises(OSError, match=r"\[Errno"):
                stream.write("line\n")
    os.close(full)
    os.close(broken)


def test_a_file_is_written_behind_what_others_write(tmp_path: Path, stream_of: list[StandardStream]) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    stream = StandardStream(descriptor)
    stream_of.append(stream)
    os.write(descriptor, b"one\n")
    stream.write("two ☃\n")
    os.write(descriptor, b"three\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_text() == "one\ntwo ☃\nthree\n"


def test_what_this_process_starts_has_standard_streams_too() -> None:
    code = """
import os, subprocess
from drain.standard_streams import open_closed_streams
os.close(2)
open_closed_streams()
print(subprocess.run([sys.executable, "-c", "import os; os.fstat(2)"]).returncode)
"""
    assert output_of(code) == "0\n"


def test_a_file_without_a_name_is_not_opened_anew(tmp_path: Path, stream_of: list[StandardStream]) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    (tmp_path / "log").unlink()
    stream = StandardStream(descriptor)
    stream_of.append(stream)
    stream.reopen()
    stream.write("here\n")
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(descriptor).st_size == 5
    os.close(descriptor)
