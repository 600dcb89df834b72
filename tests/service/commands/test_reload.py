"""SIGHUP: a running drain takes up configuration and files anew, and loses nothing by it."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
import structlog

from drain.delivery.stores import Stores
from drain.exporters.file import FileExporter
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.rings.admission import Admission
from drain.spool.spool import Spool, SpoolLimits
from drain.standard_streams import StandardStream
from tests.otlp_server import OtlpHttpServer, reply
from tests.service.draining import (
    SECONDS,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    emit,
    number_of,
    numbers_in_file,
    until,
)
from tests.service.exporters import batches

if TYPE_CHECKING:
    from pathlib import Path

    import ringbuf


def delivered(emitter: ringbuf.Emitter, numbers: range) -> None:
    emit(emitter, numbers)
    until(lambda: emitter.stats().pending == 0)


def reload(drain: DrainProcess, count: int = 1) -> dict[str, object]:
    drain.signal(signal.SIGHUP)
    return drain.wait_for_event("reloaded", count)


def test_what_the_file_says_now_is_taken_up(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    toml, first, second = tmp_path / "drain.toml", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    toml.write_text(f'output = "{first}"\nbatch_delay = 0.01\n')
    with OtlpHttpServer() as server, DrainProcess(log, ring_dir, "--config", toml) as drain:
        delivered(emitter, range(10))
        toml.write_text(f'output = "{second}"\nbatch_delay = 0.02\n')
        told = reload(drain)
        assert (told["taken_up"], told["need_a_restart"], told["to"]) == (["output"], ["batch_delay"], str(second))
        delivered(emitter, range(10, 20))
        toml.write_text(f'endpoint = "{server.url}"\nbatch_delay = 0.01\n')
        told = reload(drain, 2)
        assert told["taken_up"] == ["endpoint", "exporter", "output"]
        assert told["need_a_restart"] == []
        delivered(emitter, range(20, 30))
        toml.write_text("batch_delay = inf\n")
        drain.signal(signal.SIGHUP)
        assert "batch_delay" in str(drain.wait_for_event("the configuration is not taken up")["reason"])
        delivered(emitter, range(30, 40))
        assert drain.stop() == 0
        sent = [number_of(span) for request in server.requests for span in request.spans]
    assert (numbers_in_file(first), numbers_in_file(second)) == (list(range(10)), list(range(10, 20)))
    assert sent == list(range(20, 40))
    assert drain.events("stopped")[0]["to"] == f"{server.url}/v1/traces"
    assert len(drain.events("reloaded")) == 2, "the third was none"


def test_the_options_of_a_file_change_without_a_second_writer(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    toml, output = tmp_path / "drain.toml", tmp_path / "spans.jsonl"
    toml.write_text(f'output = "{output}"\n')
    with DrainProcess(log, ring_dir, "--config", toml) as drain:
        delivered(emitter, range(10))
        toml.write_text(f'output = "{output}"\nfile_sync = true\n')
        assert reload(drain)["taken_up"] == ["file_sync"]
        delivered(emitter, range(10, 20))
        toml.write_text('output = "/nowhere/spans.jsonl"\n')
        drain.signal(signal.SIGHUP)
        drain.wait_for_event("the exporter is not taken up")
        delivered(emitter, range(20, 30))
        assert drain.stop() == 0
    assert numbers_in_file(output) == list(range(30))


def test_log_and_file_are_opened_anew(ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter) -> None:
    output = tmp_path / "spans.jsonl"
    with DrainProcess(log, ring_dir, "--output", output) as drain:
        delivered(emitter, range(10))
        old_log, old_output = log.rename(tmp_path / "log.1"), output.rename(tmp_path / "spans.1")
        drain.signal(signal.SIGHUP)
        until(lambda: log.exists() and drain.events("reloaded"))
        delivered(emitter, range(10, 20))
        before = old_log.read_text()
        assert drain.stop() == 0
    assert (numbers_in_file(old_output), numbers_in_file(output)) == (list(range(10)), list(range(10, 20)))
    assert old_log.read_text() == before
    assert drain.events("stopped")
    assert drain.audit()["shop"]["delivered"] == 20


def test_what_waits_for_another_attempt_is_sent_at_once(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    toml = tmp_path / "drain.toml"
    with OtlpHttpServer() as wrong, OtlpHttpServer() as right:
        wrong.play(*[reply(503, headers={"Retry-After": "3600"})] * 100)
        toml.write_text(f'endpoint = "{wrong.url}"\nretry_after_maximum = 3600\n')
        with DrainProcess(log, ring_dir, "--config", toml) as drain:
            emit(emitter, range(10))
            until(lambda: wrong.requests)
            toml.write_text(f'endpoint = "{right.url}"\nretry_after_maximum = 3600\n')
            reload(drain)
            until(lambda: emitter.stats().pending == 0)
            assert drain.stop() == 0
        assert sum(len(request.spans) for request in right.requests) == 10


def test_what_rests_in_the_spool_is_sent_at_once(ring_dir: Path, tmp_path: Path, emitter: ringbuf.Emitter) -> None:
    later = Result(Verdict.RETRY, message="busy", retry_after=300.0)
    spool = Spool(tmp_path / "spool", SpoolLimits(1 << 26), log=structlog.get_logger())
    emit(emitter, range(10))
    with SteppedDrain(ring_dir, MemoryBackend(later), stores=Stores(spool, spool_after=0.01)) as drain:
        drain.until(lambda: spool.status().batches)
        drain.until(lambda: drain.service.seconds_until_attempt() > SECONDS)
        drain.service.request_renewal(Admission(frozenset(), frozenset(), 1 << 30))
        drain.until(lambda: drain.backend.numbers == [*range(10), *range(10)])


def test_files_that_were_left_alone_are_judged_again(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(10))
    with SteppedDrain(ring_dir, MemoryBackend(), admission=Admission(frozenset(), frozenset(), 4096)) as drain:
        drain.until(lambda: drain.service.accounts.snapshot().rings["left_alone"])
        drain.service.request_renewal(Admission(frozenset(), frozenset(), 1 << 30))
        drain.until(lambda: drain.backend.numbers == list(range(10)))
        assert not drain.service.accounts.snapshot().rings["left_alone"]


def test_an_exporter_is_left_when_its_attempts_have_ended(tmp_path: Path) -> None:
    old, new = MemoryBackend(), MemoryBackend()
    closed: list[str] = []
    old.close = lambda: closed.append("old")  # type: ignore[method-assign]  # to see it
    old.holds = lambda request: request.spans == 3
    measured = MeasuredExporter(old)
    attempt = threading.Thread(target=measured.export, args=(batches.request(3),))
    attempt.start()
    until(lambda: old.waiting)
    leaving = threading.Thread(target=measured.replace, args=(lambda: new,), kwargs={"is_alone": False})
    leaving.start()
    until(lambda: measured.export(batches.request(2)) == Result(Verdict.DELIVERED) and new.requests)  # or by the old
    assert closed == []
    old.let_go()
    attempt.join(SECONDS)
    leaving.join(SECONDS)
    assert (closed, [request.spans for request in old.requests].count(3)) == (["old"], 1)


def test_an_exporter_that_cannot_be_made_leaves_the_one_before(tmp_path: Path) -> None:
    measured = MeasuredExporter(FileExporter(tmp_path / "spans.jsonl"))

    def fail() -> FileExporter:
        raise ValueError("no")

    for is_alone in (True, False):
        with pytest.raises(ValueError, match="no"):
            measured.replace(fail, is_alone=is_alone)
        assert measured.export(batches.request(2, "json")).verdict is Verdict.DELIVERED
    measured.replace(lambda: FileExporter(tmp_path / "spans.jsonl"), is_alone=True)
    assert measured.export(batches.request(2, "json")).verdict is Verdict.DELIVERED
    measured.close()
    assert len((tmp_path / "spans.jsonl").read_bytes().splitlines()) == 3


def test_an_exporter_that_cannot_be_closed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = MeasuredExporter(FileExporter(tmp_path / "spans.jsonl"))
    real = os.close

    def fail(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))  # what close(2) says of a network's disk, too

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            measured.replace(lambda: FileExporter(tmp_path / "spans.jsonl"), is_alone=True)
    results: list[Result] = []
    attempt = threading.Thread(target=lambda: results.append(measured.export(batches.request(2, "json"))), daemon=True)
    attempt.start()
    attempt.join(SECONDS)
    assert [result.verdict for result in results] == [Verdict.DELIVERED]
    measured.close()


def test_standard_output_goes_on_where_it_cannot_be_what_is_asked_for(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    toml = tmp_path / "drain.toml"
    toml.write_text('output = "-"\n')
    with DrainProcess(log, ring_dir, "--config", toml) as drain:
        delivered(emitter, range(10))
        toml.write_text('output = "-"\nfile_sync = true\n')
        drain.signal(signal.SIGHUP)
        drain.wait_for_event("the exporter is not taken up")
        delivered(emitter, range(10, 20))
        assert drain.stop() == 0


def test_no_spans_come_among_the_audits(ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter) -> None:
    toml, output = tmp_path / "drain.toml", tmp_path / "spans.jsonl"
    toml.write_text(f'output = "{output}"\n')
    with DrainProcess(log, ring_dir, "--config", toml) as drain:
        delivered(emitter, range(10))
        toml.write_text('output = "-"\n')
        drain.signal(signal.SIGHUP)
        assert "audits" in str(drain.wait_for_event("the exporter is not taken up")["reason"])
        delivered(emitter, range(10, 20))
        assert drain.stop() == 0
    assert numbers_in_file(output) == list(range(20))


def test_a_stream_goes_on_in_the_file_that_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    stream = StandardStream(descriptor)
    try:
        stream.write("one\n")
        stream.reopen()
        stream.write("two\n")
        path.rename(tmp_path / "log.1")
        stream.reopen()
        stream.write("three\n")
        tmp_path.joinpath("log").unlink()
        stream.reopen()
        stream.write("four\n")
    finally:
        stream.close()
        os.close(descriptor)
    assert (tmp_path / "log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "four\n"
    assert path.stat().st_mode & 0o777 == 0o640
