"""Whatever standard output and error are, spans are delivered and the drain stops when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.sampled import every
from tests.service.draining import LAYOUT, SECONDS, emit, numbers_in_file
from tests.service.exporters.batches import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


KINDS = ["a full disk", "a pipe that nobody has", "a pipe that nobody reads", "a socket that nobody has", "closed"]


# In `make test` the one that fails in every way; the one that makes its writer wait has the test of audits.
EACH = [pytest.param(kind, marks=[] if kind == "closed" else [pytest.mark.prove]) for kind in KINDS]


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1) as opened:
        yield opened


@contextlib.contextmanager
def stream(kind: str) -> Iterator[int]:
    """Return a descriptor of this kind, full where it can be."""
    with contextlib.ExitStack() as stack:
        match kind:
            case "a full disk":
                writer = os.open("/dev/full", os.O_WRONLY)
            case "a pipe that nobody has" | "a pipe that nobody reads":
                reader, writer = os.pipe()
                if kind == "a pipe that nobody has":
                    os.close(reader)
                else:
                    stack.callback(os.close, reader)
                    os.set_blocking(writer, False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            os.write(writer, b"x" * 4096)
                    os.set_blocking(writer, True)
            case _:
                ours, theirs = socket.socketpair()
                ours.close()
                writer = theirs.detach()
        stack.callback(os.close, writer)
        yield writer


@contextlib.contextmanager
def drain(kind: str, ring_dir: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-Im", "drain", "--ring-dir", str(ring_dir), *map(str, arguments)]
    if kind == "closed":
        command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    with stream(kind) as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", EACH)
def test_spans_are_delivered_without_a_log(kind: str, ring_dir: Path, output: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(50))
    with drain(kind, ring_dir, "--once", "--output", output) as process:
        assert process.wait(SECONDS) == 0
    assert numbers_in_file(output) == list(range(50))


@pytest.mark.parametrize("kind", every(2, ["a pipe that nobody reads", "closed"]))
def test_audits_and_the_stop_need_nobody_who_reads(
    kind: str, ring_dir: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    with drain(kind, ring_dir, "--output", output, "--listen", "off") as process:
        for round_ in range(5):
            emit(emitter, range(10 * round_, 10 * round_ + 10))
            assert emitter.wait_drained(SECONDS)
            process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert numbers_in_file(output) == list(range(50))


@pytest.mark.parametrize(
    ("once", "arguments"),
    [
        (True, ("--exporter", "console")),
        pytest.param(False, ("--output", "-"), marks=[pytest.mark.prove]),
        pytest.param(False, ("--exporter", "console"), marks=[pytest.mark.prove]),
        pytest.param(True, ("--output", "-"), marks=[pytest.mark.prove]),
    ],
)
def test_a_drain_ends_when_nobody_reads_its_spans_any_more(
    arguments: tuple[str, ...], once: bool, ring_dir: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(50))
    more = ("--once",) if once else ("--listen", "off")
    with stream("a pipe that nobody has") as out, (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-Im", "drain", "--ring-dir", str(ring_dir), *arguments, *more]
        # So long that only a drain that knows ends in time.
        command += ["--shutdown-timeout", "1000"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        try:
            assert process.wait(SECONDS) == 1
        finally:
            process.kill()
            process.wait()
    assert emitter.stats().pending == 50  # for the next drain


def test_a_replay_ends_when_nobody_reads_its_spans_any_more(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(request(3, "json").body)
    with stream("a pipe that nobody has") as out:
        command = [sys.executable, "-Im", "drain", "replay", "--exporter", "console", str(tmp_path / "spans.jsonl")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        try:
            assert process.wait(SECONDS) == 128 + signal.SIGPIPE
        finally:
            process.kill()
            process.wait()


def test_a_usage_error_that_nobody_hears_has_its_exit_code(ring_dir: Path) -> None:
    with drain("a full disk", ring_dir, "--exporter", "otlp-http", "--endpoint", "collector:4318") as process:
        assert process.wait(SECONDS) == 2
