"""The command `ringbuf-drain` as an operator meets it: exit codes, signals, kills, and what is in the file after it."""

from __future__ import annotations

import errno
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.nursery import shared
from tests.otlp_server import OtlpHttpServer, reply, silent, success
from tests.ports import free_ports
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    DrainProcess,
    ProducerProcess,
    emit,
    number_of,
    numbers_in_file,
    port_of,
    quarantined,
    ring_files,
    run_once,
    spans_in_file,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RETRY_SOON = ("--retry-initial", 0.01, "--retry-maximum", 0.05)


@pytest.fixture
def dead_endpoint() -> Iterator[str]:
    """Return the URL of a port that nobody listens on, and nobody else can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_once_removes_a_ring_that_is_closed_and_empty(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(10))
    assert run_once(log, ring_dir, "--output", output) == 0
    emitter.close()
    assert run_once(log, ring_dir, "--output", output) == 0
    assert ring_files(ring_dir) == []


def test_once_delivers_what_is_there_and_exits_0(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(1000))
    with DrainProcess(log, ring_dir, "--once", "--output", output, is_forked=False) as drain:
        assert drain.wait() == 0
        assert drain.audit() == {"shop": {"rings": 1, "published": 1000, "delivered": 1000}}
    assert numbers_in_file(output) == list(range(1000))
    assert emitter.stats().pending == 0
    span = spans_in_file(output)[7]
    assert (span.name, span.start_time_unix_nano, span.flags) == ("work", 7, 0x101)


def test_once_without_rings_exits_0_and_says_which_directory_was_empty(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    empty = ring_dir / "empty"
    empty.mkdir(mode=0o700)
    with DrainProcess(log, empty, "--once", "--output", output) as drain:
        assert drain.wait() == 0
        assert [event["ring_dir"] for event in drain.events("there were no rings")] == [str(empty)]
    emit(emitter, range(3))
    assert run_once(log, ring_dir, "--output", output) == 0
    assert len(drain.events("there were no rings")) == 1


def test_one_line_at_the_start_says_what_is_served(
    ring_dir: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--output", "spans.jsonl", "--state-dir", tmp_path / "state", "--listen", "127.0.0.1:0")
    with DrainProcess(log, ring_dir, *flags) as drain:
        serving = drain.wait_for_event("serving")
        assert drain.stop() == 0
    assert serving["listen"].startswith("127.0.0.1:")
    assert port_of(serving) > 0
    told = {name: serving[name] for name in ("version", "ring_dir", "exporter", "to", "state_dir", "unsampled")}
    assert told == {
        "version": ringbuf.__version__,
        "ring_dir": str(ring_dir),
        "exporter": "file",
        "to": str(tmp_path / "spans.jsonl"),
        "state_dir": str(tmp_path / "state"),
        "unsampled": "deliver",
    }
    assert drain.events("stopped")[0]["to"] == drain.events("audit")[0]["to"] == serving["to"]


@pytest.mark.parametrize("is_variable", [True, False])
def test_a_ring_directory_that_was_named_is_not_made(
    is_variable: bool, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "rigns"
    flags = [] if is_variable else ["--ring-dir", missing]
    if is_variable:
        monkeypatch.setenv("RINGBUF_DIR", str(missing))
    ended = shared().run("drain", "--once", "--output", output, *flags)
    assert (ended.returncode, f"mkdir -m 0700 {missing}" in ended.stderr) == (2, True), ended.stderr
    assert not missing.exists()
    assert not output.exists()


def test_the_default_ring_directory_is_made(tmp_path: Path, output: Path) -> None:
    code = """
import pathlib, sys
import ringbuf.ring.directory
from drain.settings.settings import Settings
here = sys.argv[1]
Settings.model_fields["ring_dir"].default_factory = lambda: pathlib.Path(here)
Settings.model_rebuild(force=True)
sys.argv[1:] = sys.argv[2:]
import drain.__main__
drain.__main__.main()
"""
    ended = shared().run("-c", code, tmp_path / "rings", "--once", "--output", output)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "rings").stat().st_mode & 0o777 == 0o700


def test_once_with_a_dead_endpoint_exits_1_and_the_spans_wait_for_the_next_drain(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter, dead_endpoint: str
) -> None:
    emit(emitter, range(100))
    arguments = ("--exporter", "otlp-http", "--endpoint", dead_endpoint, "--shutdown-timeout", 6, *RETRY_SOON)
    with DrainProcess(log, ring_dir, "--once", *arguments) as drain:
        assert drain.wait() == 1
        assert drain.audit() == {"shop": {"rings": 1, "published": 100, "pending": 100}}
        assert len(drain.events("backend is unavailable, spans wait")) == 1
    assert emitter.stats().pending == 100
    assert run_once(log, ring_dir, "--output", output) == 0
    assert numbers_in_file(output) == list(range(100))


@pytest.mark.parametrize("status", [405, 401])
def test_once_exits_1_when_the_backend_refuses_the_spans(
    status: int, ring_dir: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(10))
    with OtlpHttpServer() as server:
        server.play(reply(status))
        assert run_once(log, ring_dir, "--exporter", "otlp-http", "--no-hold", "--endpoint", server.url) == 1


def test_once_exits_1_when_a_ring_was_quarantined(ring_dir: Path, log: Path, output: Path) -> None:
    (ring_dir / "bad.ring").write_bytes(b"ringbuf?" + bytes(10_000))
    assert run_once(log, ring_dir, "--output", output) == 1
    assert quarantined(ring_dir).keys() == {"bad.ring"}
    assert run_once(log, ring_dir, "--output", output) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--batch-spans", "0"], "batch_spans"),
        (["--exporter", "otlp-http", "--endpoint", "collector:4318"], "http://"),
        (["--exporter", "file", "--endpoint", "http://127.0.0.1:1"], "has no effect"),
        (["--output", "/"], "/"),
        (["--config", "/nowhere.toml"], "nowhere"),
        (["--frobnicate"], "frobnicate"),
        (["--ring-dir", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_configuration_that_cannot_work_exits_2_and_says_why(
    arguments: list[str], reason: str, ring_dir: Path, log: Path
) -> None:
    with DrainProcess(log, ring_dir, "--once", *arguments) as drain:
        assert drain.wait() == 2
    assert reason in log.read_text()
    assert "Traceback" not in log.read_text()


FAILING = """
import os, sys
import drain.commands.serve as serve
name, number = sys.argv[1], int(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
def fail(*arguments, **options):
    raise OSError(number, os.strerror(number))
owner, _, attribute = name.rpartition(".")
setattr(getattr(serve, owner) if owner else serve, attribute, fail)
import drain.__main__
drain.__main__.main()
"""


@pytest.mark.parametrize("place", ["RingDirectory", "assembly.make_exporter", "assembly.open_stores", "Service"])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 74), (errno.EROFS, 74), (errno.EMFILE, 74), (errno.EACCES, 2)]
)
def test_a_start_that_fails_of_what_passes_is_to_be_tried_again(
    place: str, number: int, code: int, ring_dir: Path, output: Path
) -> None:
    ended = shared().run("-c", FAILING, place, number, "--once", "--ring-dir", ring_dir, "--output", output)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr


def test_a_fault_of_the_program_is_no_undelivered_span(ring_dir: Path, output: Path) -> None:
    code = FAILING.replace("OSError(number, os.strerror(number))", "ZeroDivisionError")
    ended = shared().run("-c", code, "Service", 0, "--once", "--ring-dir", ring_dir, "--output", output)
    assert (ended.returncode, "ZeroDivisionError" in ended.stderr) == (70, True)


def test_a_stop_exits_1_when_spans_were_refused(ring_dir: Path, log: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(10))
    with OtlpHttpServer() as server:
        server.play(reply(405))
        with DrainProcess(log, ring_dir, "--endpoint", server.url, "--no-hold") as drain:
            until(lambda: emitter.stats().pending == 0)
            assert drain.stop() == 1
        assert drain.audit()["shop"]["rejected"] == 10
        with DrainProcess(log, ring_dir, "--endpoint", server.url) as after:
            after.wait_for_event("ring attached")
            assert after.stop() == 0, "another drain has told of that"


def test_a_stop_exits_1_when_producers_dropped_spans(ring_dir: Path, log: Path, output: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=4, lanes=1) as emitter:
        assert emit(emitter, range(2)) == 2
        with DrainProcess(log, ring_dir, "--output", output) as drain:
            until(lambda: emitter.stats().pending == 0)
            while not emitter.stats().full:
                emit(emitter, range(100))
            assert drain.stop() == 1


def test_a_second_drain_exits_75_and_disturbs_nothing(
    ring_dir: Path, log: Path, output: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(10))
    with DrainProcess(log, ring_dir, "--output", output) as drain:
        until(lambda: emitter.stats().pending == 0)
        other = tmp_path / "other.log"
        assert run_once(other, ring_dir, "--output", tmp_path / "other.jsonl") == 75
        assert f"pid {drain.process.pid}" in other.read_text()
        assert not (tmp_path / "other.jsonl").exists()
        emit(emitter, range(10, 20))
        assert drain.stop() == 0
    assert numbers_in_file(output) == list(range(20))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_drain_after_what_is_there_was_delivered(
    number: signal.Signals, ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    arguments = ("--output", output, "--batch-delay", 60)
    with DrainProcess(log, ring_dir, *arguments) as drain:
        drain.wait_for_event("ring attached")
        emit(emitter, range(200))  # too few to be sent before the delay is over
        drain.signal(number)
        assert drain.wait() == 0
        assert drain.audit() == {"shop": {"rings": 1, "published": 200, "delivered": 200}}
        assert drain.process.stdout is not None
    assert numbers_in_file(output) == list(range(200))


def test_a_stop_is_bounded_when_the_backend_does_not_answer(
    ring_dir: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with OtlpHttpServer() as server:
        server.play(*[silent] * 8)
        arguments = ("--exporter", "otlp-http", "--endpoint", server.url, "--shutdown-timeout", 0.2, "--timeout", 3600)
        with DrainProcess(log, ring_dir, *arguments) as drain:
            drain.wait_for_event("ring attached")
            emit(emitter, range(10))
            until(lambda: server.requests)
            assert drain.stop() == 1
            assert drain.audit() == {"shop": {"rings": 1, "published": 10, "pending": 10}}
    assert emitter.stats().pending == 10
    assert not emitter.stats().drain_attached


def test_a_stop_is_bounded_when_nobody_reads_standard_output(
    ring_dir: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with DrainProcess(log, ring_dir, "--output", "-", "--shutdown-timeout", 0.2) as drain:
        drain.wait_for_event("ring attached")
        emit(emitter, range(1000))  # more than a pipe holds
        assert drain.process.stdout is not None
        select.select([drain.process.stdout], [], [], SECONDS)
        drain.signal(signal.SIGTERM)
        assert drain.process.wait(SECONDS) == 1
        assert drain.audit() == {"shop": {"rings": 1, "published": 1000, "pending": 1000}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain_at_once(
    number: signal.Signals, ring_dir: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with OtlpHttpServer() as server:
        server.play(*[silent] * 8)
        arguments = ("--exporter", "otlp-http", "--endpoint", server.url, "--shutdown-timeout", 3600)
        with DrainProcess(log, ring_dir, *arguments) as drain:
            drain.wait_for_event("ring attached")
            emit(emitter, range(10))
            until(lambda: server.requests)
            drain.signal(number)
            drain.wait_for_event("stopping")
            drain.signal(number)
            assert drain.wait() == 128 + number


@pytest.mark.prove
def test_a_drain_that_is_killed_again_and_again_loses_nothing(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - a test's chance
    print("seed", seed)  # noqa: T201 - to repeat a failure with
    chance = random.Random(seed)  # noqa: S311 - as above
    sent = 0
    kills = 0
    while kills < 8:
        with DrainProcess(log, ring_dir, "--output", output, "--batch-delay", 0) as drain:
            drain.wait_for_event("ring attached")
            until_count = sent + chance.randrange(1, 3000)
            while sent < until_count:
                sent += emit(emitter, range(sent, sent + chance.randrange(1, 200)))
            drain.kill()
            kills += 1
    with DrainProcess(log, ring_dir, "--output", output) as drain:
        drain.wait_for_event("ring attached")
        until(lambda: emitter.stats().pending == 0)
        # 1 where rings were full while no drain ran, and no drain before has told so.
        assert drain.stop() in {0, int(emitter.stats().full > 0)}
        audit = drain.audit()["shop"]
    assert audit["published"] == audit["delivered"] == sent
    numbers = numbers_in_file(output)
    assert set(numbers) == set(range(sent))
    ids = {number_of(span): span.span_id for span in spans_in_file(output)}
    assert all(ids[number_of(span)] == span.span_id for span in spans_in_file(output)), "sent again: with the same id"
    assert all(event["last_drain"] == "killed" for event in drain.events("ring attached")[1:])


def test_producers_that_are_killed_leave_no_ring_and_lose_no_span(ring_dir: Path, log: Path, output: Path) -> None:
    with DrainProcess(log, ring_dir, "--output", output) as drain:
        for count in (1, 100, 5000):
            with ProducerProcess(ring_dir, count) as producer:
                producer.kill()
        drain.wait_for_event("ring ended", 3)
        assert ring_files(ring_dir) == []
        assert drain.stop() == 0
        assert drain.audit() == {"shop": {"rings": 3, "published": 5101, "delivered": 5101}}
    assert sorted(numbers_in_file(output)) == sorted([*range(1), *range(100), *range(5000)])


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_stop_removes_the_rings_of_producers_that_have_left(
    is_killed: bool, ring_dir: Path, log: Path, output: Path
) -> None:
    with ProducerProcess(ring_dir, 10) as producer, DrainProcess(log, ring_dir, "--output", output) as drain:
        drain.wait_for_event("ring attached")
        drain.signal(signal.SIGSTOP)  # it looks again when it is told to stop
        if is_killed:
            producer.kill()
        else:
            producer.tell("close")
            producer.expect("closed")
        drain.signal(signal.SIGTERM)
        drain.signal(signal.SIGCONT)
        assert drain.wait() == 0
    assert ring_files(ring_dir) == []
    assert numbers_in_file(output) == list(range(10))


def test_once_removes_the_rings_of_producers_that_are_gone(ring_dir: Path, log: Path, output: Path) -> None:
    with ProducerProcess(ring_dir, 100) as producer:
        producer.kill()
    assert run_once(log, ring_dir, "--output", output) == 0
    assert ring_files(ring_dir) == []
    assert numbers_in_file(output) == list(range(100))


def test_a_backend_that_comes_back_gets_everything(ring_dir: Path, log: Path, emitter: ringbuf.Emitter) -> None:
    (port,) = free_ports(1)
    arguments = ("--exporter", "otlp-http", "--endpoint", f"http://127.0.0.1:{port}", "--batch-delay", 0, *RETRY_SOON)
    with DrainProcess(log, ring_dir, *arguments) as drain:
        emit(emitter, range(500))
        drain.wait_for_event("backend is unavailable, spans wait")
        assert emitter.stats().pending == 500
        server = OtlpHttpServer(port)
        server.play(reply(503), reply(429, headers={"Retry-After": "0"}), success(rejected=2, message="two"))
        with server:  # only now, as the drain asks every few milliseconds
            until(lambda: emitter.stats().pending == 0)
            assert drain.stop() == 1, "two were rejected"
            delivered = [number_of(span) for request in server.requests[2:] for span in request.spans]
        assert drain.audit() == {"shop": {"rings": 1, "published": 500, "delivered": 498, "rejected": 2}}
        assert len(drain.events("backend is back")) == 1
    assert set(delivered) <= set(range(500))


def test_otels_variables_name_the_endpoint(
    ring_dir: Path, log: Path, emitter: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit(emitter, range(10))
    with OtlpHttpServer() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url + "/base")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1")
        monkeypatch.setenv("RINGBUF_DRAIN_EXPORTER", "otlp")
        assert run_once(log, ring_dir) == 0
        (request,) = server.requests
    assert request.path == "/base/v1/traces"
    assert request.headers["x-key"] == "1"
    assert [number_of(span) for span in request.spans] == list(range(10))


def test_sigusr1_shows_the_audit_and_the_drain_goes_on(
    ring_dir: Path, log: Path, output: Path, emitter: ringbuf.Emitter
) -> None:
    with DrainProcess(log, ring_dir, "--output", output) as drain:
        emit(emitter, range(10))
        until(lambda: emitter.stats().pending == 0)
        drain.signal(signal.SIGUSR1)
        drain.wait_for_event("audit")
        assert drain.audit() == {"shop": {"rings": 1, "published": 10, "delivered": 10}}
        emit(emitter, range(10, 20))
        assert drain.stop() == 0
        assert drain.audit() == {"shop": {"rings": 1, "published": 20, "delivered": 20}}


def test_the_table_of_the_audit_stays_away_from_spans_on_standard_output(
    ring_dir: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(3))
    with DrainProcess(log, ring_dir, "--once", "--output", "-") as drain:
        out, _ = drain.process.communicate(timeout=SECONDS)
    assert out.count(b"\n") == 1
    assert out.startswith(b'{"resourceSpans":[')
    assert "total" in log.read_text()


def test_on_a_terminal_log_and_audit_are_for_people(ring_dir: Path, output: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(3))
    controller, terminal = pty.openpty()
    command = [sys.executable, "-Im", "drain", "--once", "--ring-dir", str(ring_dir), "--output", str(output)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        told = b""
        while part := read_terminal(controller):
            told += part
        assert process.wait(SECONDS) == 0
    os.close(controller)
    assert b"ring attached" in told
    assert b"What became of the spans" in told
    assert b'"event"' not in told
    (serving,) = (line for line in re.sub(rb"\x1b\[[0-9;]*m", b"", told).splitlines() if b"serving " in line)
    assert re.findall(rb" (\w+)=", serving)[:5] == [b"version", b"ring_dir", b"exporter", b"to", b"state_dir"]


def read_terminal(controller: int) -> bytes:
    """Return what a terminal got, nothing once the last program on it has ended."""
    try:
        return os.read(controller, 65536)
    except OSError:
        return b""


def test_an_idle_drain_finds_a_ring_and_its_spans_by_itself(ring_dir: Path, log: Path, output: Path) -> None:
    with DrainProcess(log, ring_dir, "--output", output, "--batch-delay", 0) as drain:
        until((ring_dir / "doorbell").exists)
        with ringbuf.Emitter("late", ring_dir=ring_dir, layout=LAYOUT, capacity=64) as late:
            emit(late, range(3))
            until(lambda: late.stats().pending == 0)
        drain.wait_for_event("ring ended")
        assert drain.stop() == 0
    assert numbers_in_file(output) == [0, 1, 2]


def test_config_prints_the_effective_settings(ring_dir: Path, log: Path, tmp_path: Path) -> None:
    toml = tmp_path / "drain.toml"
    toml.write_text("batch_spans = 5\n")
    with DrainProcess(log, ring_dir, "--config", toml, "config", "--concurrency", 3) as drain:
        out, _ = drain.process.communicate(timeout=SECONDS)
        assert drain.process.returncode == 0
    assert f"batch_spans = 5  # {toml}" in out.decode()
    assert "concurrency = 3  # --concurrency" in out.decode()
    assert f'ring_dir = "{ring_dir}"  # --ring-dir' in out.decode()
    assert list(ring_dir.iterdir()) == [], "it only prints"
