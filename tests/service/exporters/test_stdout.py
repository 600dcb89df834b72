"""The file exporter on standard output, where nothing that was written can be taken back."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from drain.exporters.protocol import Result, Verdict
from drain.exporters.stdout import StdoutExporter
from drain.otlp.request import Request

from .batches import request

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = request(2, "json").body

STDOUT = """
import sys
from pathlib import Path
from drain.exporters.make import make_exporter
from drain.otlp.request import Request
from drain.settings.otlp_environment import OtlpSettings
exporter = make_exporter("file", output=Path("-"), otlp=OtlpSettings())
for _ in range(2):
    result = exporter.export(Request(sys.argv[1].encode() + b"\\n", 1, "json"))
    print(result.verdict.name, result.message, file=sys.stderr)
exporter.close()
print("stdout still works")
"""


def test_a_dash_is_standard_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STDOUT, '{"resourceSpans":[]}'], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b'{"resourceSpans":[]}\n' * 2 + b"stdout still works\n"
    assert done.stderr == b"DELIVERED \nDELIVERED \n"


@dataclass
class Pipe:
    reader: int
    writer: int
    exporter: StdoutExporter

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and select.select([self.reader], [], [], 10)[0]:
            data += os.read(self.reader, count - len(data))
        return data


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Return a pipe, and an exporter whose standard output it is."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        with monkeypatch.context() as replaced:
            replaced.setattr(sys, "stdout", out)
            exporter = StdoutExporter()
        yield Pipe(reader, writer, exporter)
        exporter.close()
    os.close(reader)


def test_a_closed_exporter_leaves_the_process_its_standard_output(pipe: Pipe) -> None:
    pipe.exporter.close()
    pipe.exporter.close()
    os.write(pipe.writer, b"still here\n")
    assert pipe.read(11) == b"still here\n"
    assert pipe.exporter.export(request(2, "json")).verdict is Verdict.RETRY


def test_a_non_blocking_pipe_that_is_full_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    line = b"{" + b" " * (1 << 20) + b"}\n"
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(pipe.exporter.export(Request(line, 0, "json"))))
    thread.start()
    received = pipe.read(len(line))
    thread.join(120)
    assert received == line
    assert results == [Result(Verdict.DELIVERED)]


def test_a_torn_line_does_not_swallow_the_next(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write

    def tear(descriptor: int, data: bytes) -> int:
        if len(data) < len(LINE):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[:20])

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", tear)
        assert pipe.exporter.export(request(2, "json")).verdict is Verdict.RETRY
    for _ in range(2):
        assert pipe.exporter.export(request(2, "json")).verdict is Verdict.DELIVERED
    expected = LINE[:20] + b"\n" + LINE + LINE
    assert pipe.read(len(expected)) == expected


def test_a_pipe_whose_reader_is_gone_is_retried() -> None:
    script = STDOUT.replace('print("stdout still works")', "")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, "{}"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=True
        )
    finally:
        os.close(writer)
    assert done.stderr == b"RETRY standard output: Broken pipe\n" * 2
