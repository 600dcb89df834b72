"""`ringbuf-drain replay` delivers what is in files, changes none of them, and says what it could not deliver."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import pty
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
import zstandard

import ringbuf
from drain.accounting.letter_sums import LetterSums
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.retry import RetryPolicy
from drain.exporters.file import FileExporter
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.otlp.batch_number import BatchNumber
from drain.otlp.json_lines import from_json_line
from drain.otlp.request import Request
from drain.replay.replay import FileReport, Replay
from drain.replay.sources import SourceError, read
from drain.settings.otlp_environment import OtlpSettings
from drain.spool.spool import Spool, SpoolLimits
from ringbuf._ringbuf import ffi
from tests.nursery import shared
from tests.otlp_server import OtlpHttpServer, refusal, reply
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    DrainProcess,
    MemoryBackend,
    ProducerProcess,
    SteppedDrain,
    emit,
    numbers_in_file,
    records,
    ring_files,
    spans_of,
)
from tests.service.exporters import batches
from tests.tools.running import piped

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Ended:
    code: int
    lines: list[str]
    errors: str


def replay(*arguments: object) -> Ended:
    ended = shared().run("drain", "replay", *arguments)
    return Ended(ended.returncode, ended.stdout.splitlines(), ended.stderr)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "spans.jsonl"


@pytest.fixture
def inputs(tmp_path: Path, output: Path) -> Path:
    output.parent.mkdir()
    path = tmp_path / "inputs"
    path.mkdir()
    return path


def names_in(output: Path) -> list[str]:
    """Return the trace ids in the output, which tell the spans of `batches` apart."""
    return [span.trace_id.hex() for line in output.read_bytes().splitlines() for span in spans_of(from_json_line(line))]


def expected(count: int, times: int = 1) -> list[str]:
    return sorted(number.to_bytes(16, "big").hex() for number in range(1, count + 1) for _ in range(times))


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


def crashed_ring(ring_dir: Path, to: Path, count: int) -> Path:
    """Return the ring of a producer that was killed, copied as to another machine."""
    with ProducerProcess(ring_dir, count) as producer:
        producer.kill()
    (ring,) = ring_files(ring_dir)
    shutil.copyfile(ring, to / "crash.ring")
    return to / "crash.ring"


def ring_with(ring_dir: Path, to: Path, numbers: range, lanes: int = 1) -> Path:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=lanes) as emitter:
        emit(emitter, numbers)
    (ring,) = ring_files(ring_dir)
    shutil.copyfile(ring, to / "copy.ring")
    return to / "copy.ring"


def test_a_ring_that_a_crash_left_is_delivered_from_a_copy_of_it(ring_dir: Path, inputs: Path, output: Path) -> None:
    crashed_ring(ring_dir, inputs, 100)
    before = digests(inputs)
    ended = replay("--output", output, inputs / "crash.ring")
    assert ended.code == 0, ended.errors
    assert sorted(numbers_in_file(output)) == list(range(100))
    assert digests(inputs) == before, "what is read is not written"
    assert ended.lines == [
        f"{inputs / 'crash.ring'}: 100 spans delivered",
        f"1 file, 100 spans delivered to {output}, 0 not delivered, 0 invalid or unreadable",
    ]


def test_of_a_ring_that_was_drained_in_part_the_rest_is_delivered(ring_dir: Path, inputs: Path, output: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emit(emitter, range(30))
        with SteppedDrain(ring_dir, MemoryBackend()) as drain:
            drain.until(lambda: emitter.stats().pending == 0)
        emit(emitter, range(30, 50))
    (ring,) = ring_files(ring_dir)
    shutil.copyfile(ring, inputs / "part.ring")
    assert replay("--output", output, inputs).code == 0
    assert numbers_in_file(output) == list(range(30, 50))


def test_the_sound_lanes_of_a_quarantined_ring_are_delivered(ring_dir: Path, inputs: Path, output: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=16, lanes=2) as emitter:
        assert emit(emitter, range(32)) == 32, "both lanes are full"
    (ring,) = ring_files(ring_dir)
    content = bytearray(ring.read_bytes())
    header = ffi.from_buffer("rb_header *", content)
    tail_at = header.header_bytes
    content[tail_at : tail_at + 8] = (10**12).to_bytes(8, "little")
    (inputs / "bad.ring").write_bytes(content)
    ended = replay("--output", output, inputs / "bad.ring")
    assert ended.code == 1
    assert len(numbers_in_file(output)) == 16
    assert "1 unreadable part (lane 0 cannot be read: head 0, tail 1000000000000)" in ended.lines[0]


@pytest.mark.parametrize("back", [1, 16, 30])
def test_a_ring_whose_head_is_behind_its_beginning_is_delivered(
    ring_dir: Path, inputs: Path, output: Path, back: int
) -> None:
    """The drain sets such a ring aside; its records are sound, and in the slots that their positions say."""
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=16, lanes=1) as emitter:
        emit(emitter, range(16))
    (ring,) = ring_files(ring_dir)
    content = bytearray(ring.read_bytes())
    header = ffi.from_buffer("rb_header *", content)
    lane = ffi.cast("rb_lane *", ffi.addressof(ffi.from_buffer("char[]", content), header.header_bytes))
    lane.head = 2**64 - back
    lane.tail = (2**64 - back + 8) % 2**64
    (inputs / "bad.ring").write_bytes(content)
    ended = replay("--output", output, inputs / "bad.ring")
    assert ended.code == 0, ended.errors
    assert numbers_in_file(output) == [(number - back) % 16 for number in range(8)]


def test_records_that_are_no_spans_are_counted(ring_dir: Path, inputs: Path, output: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emitter.emit_batch(records(emitter, range(10)))
    (ring,) = ring_files(ring_dir)
    content = bytearray(ring.read_bytes())
    header = ffi.from_buffer("rb_header *", content)
    slot_at = header.header_bytes + 384 + 3 * header.slot_bytes
    content[slot_at + 16 : slot_at + 32] = bytes(16)  # the trace id
    (inputs / "bad.ring").write_bytes(content)
    ended = replay("--output", output, "--remove", inputs / "bad.ring")
    assert ended.code == 1
    assert ended.lines[0].endswith("9 spans delivered, 1 invalid record (records are no spans)")
    assert (inputs / "bad.ring").exists()


def test_the_ring_of_a_living_producer_is_left_to_its_drain(ring_dir: Path, output: Path, inputs: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emit(emitter, range(10))
        ended = replay("--output", output, *ring_files(ring_dir))
    assert ended.code == 1
    assert "its producer lives" in ended.lines[0]
    assert numbers_in_file(output) == []


def test_every_kind_of_file_is_told_by_its_content(inputs: Path, output: Path) -> None:
    line = batches.request(3, "json").body
    protobuf = batches.request(3).body
    letters = DeadLetters(inputs / "letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
    letters.keep(batches.request(3), "HTTP 400", "http://127.0.0.1")
    letters.keep(batches.request(3, "json"), "HTTP 400", "http://127.0.0.1")
    (inputs / "lines.jsonl").write_bytes(line + line)
    (inputs / "lines.gz").write_bytes(gzip.compress(line) + gzip.compress(line))
    (inputs / "lines.zst").write_bytes(zstandard.compress(line) + zstandard.compress(line))
    (inputs / "body.pb").write_bytes(protobuf)
    (inputs / "body.gz").write_bytes(gzip.compress(protobuf))
    (inputs / "drain.lock").write_bytes(b"not of a kind that a folder gives")
    ended = replay("--output", output, inputs)
    assert ended.code == 0, ended.lines
    assert sorted(names_in(output)) == expected(3, times=10)
    assert ended.lines[-1].startswith("6 files, 30 spans delivered")


def test_a_zstd_file_that_was_cut_is_not_taken_for_whole(inputs: Path, output: Path) -> None:
    frame = zstandard.compress(batches.request(3, "json").body)
    for number, size in enumerate((len(frame) - 1, len(frame) // 2, 5)):
        (inputs / f"{number}.zst").write_bytes(frame + frame[:size])
    ended = replay("--output", output, "--remove", inputs)
    assert ended.code == 1
    assert sorted(names_in(output)) == expected(3, times=3)
    assert len(list(inputs.iterdir())) == 3
    assert all("the file ends within a zstd frame" in line for line in ended.lines[:3])


def test_protobuf_exporters_get_every_kind_too(inputs: Path) -> None:
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    (inputs / "body.pb").write_bytes(batches.request(4).body)
    with OtlpHttpServer() as server:
        assert replay("--exporter", "otlp-http", "--endpoint", server.url, inputs).code == 0
        assert sorted(len(request.spans) for request in server.requests) == [3, 4]


def test_lines_that_cannot_be_read_are_counted_and_the_others_delivered(inputs: Path, output: Path) -> None:
    line = batches.request(3, "json").body
    (inputs / "lines.jsonl").write_bytes(line + b'{"resourceSpans":7}\n' + line + line[:50])
    ended = replay("--output", output, "--remove", inputs)
    assert ended.code == 1
    assert sorted(names_in(output)) == expected(3, times=2)
    assert "6 spans delivered, 2 unreadable parts (line 2: " in ended.lines[0]
    assert (inputs / "lines.jsonl").exists()


@pytest.mark.parametrize(
    "content", [b"\xff\xff\xff\xff not ours", gzip.compress(b"x" * 9999, mtime=0)[:-9], b"ringbuf\0 short"]
)
def test_a_file_of_no_known_kind_is_told_and_the_next_goes_on(inputs: Path, output: Path, content: bytes) -> None:
    (inputs / "a.bin").write_bytes(content)
    (inputs / "b.jsonl").write_bytes(batches.request(3, "json").body)
    ended = replay("--output", output, inputs / "a.bin", inputs / "b.jsonl")
    assert ended.code == 1
    assert "0 spans delivered, 1 unreadable part (" in ended.lines[0]
    assert ended.lines[1].endswith(": 3 spans delivered")


def test_a_pipe_is_refused_with_a_reason() -> None:
    with piped(batches.request(3, "json").body) as pipe, pytest.raises(SourceError, match="it can be read only once"):
        list(read(pipe, "protobuf", 100))


def test_removing_takes_what_was_delivered_whole(ring_dir: Path, inputs: Path, output: Path) -> None:
    ring_with(ring_dir, inputs, range(10))
    (inputs / "copy.ring.reason").write_text("{}\n")
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    assert replay("--output", output, inputs).code == 0
    assert len(list(inputs.iterdir())) == 3, "not without --remove"
    assert replay("--output", output, "--remove", inputs).code == 0
    assert list(inputs.iterdir()) == []


def test_a_spool_is_replayed_as_far_as_it_is_sound(inputs: Path, output: Path) -> None:
    log = structlog.get_logger()
    spool = Spool(inputs / "spool", SpoolLimits(1 << 24), log=log)
    for number in range(20):
        message = batches.traces(5)
        message.resource_spans[0].schema_url = random.Random(number).randbytes(20_000).hex()  # noqa: S311 - only to be incompressible
        spool.put(Request(message.SerializeToString(), 5, "protobuf", services={"demo": 5})).result(SECONDS)
    busy = replay("--output", output, inputs / "spool" / "spool.db")
    assert busy.code == 1
    assert "a drain has this spool open" in busy.lines[0]
    assert spool.close(SECONDS)
    database = inputs / "spool" / "spool.db"
    before = digests(inputs / "spool")
    assert replay("--output", output, database).code == 0
    assert sorted(names_in(output)) == expected(5, times=20)
    assert digests(inputs / "spool") == before
    content = database.read_bytes()
    middle = len(content) // 2
    for damaged, least in (
        (content[:middle], 30),
        (content[:middle] + bytes(8192) + content[middle + 8192 :], 85),
    ):
        database.write_bytes(damaged)
        output.unlink()
        ended = replay("--output", output, database)
        assert ended.code == 1
        assert least <= len(names_in(output)) < 100
        assert "unreadable" in ended.lines[0]


def test_what_the_backend_refuses_is_not_delivered(inputs: Path) -> None:
    (inputs / "body.pb").write_bytes(batches.request(4).body)
    with OtlpHttpServer() as server:
        server.play(refusal(405, "no"))
        ended = replay("--exporter", "otlp-http", "--endpoint", server.url, "--remove", inputs)
    assert ended.code == 1
    assert "0 spans delivered, 4 not delivered" in ended.lines[0]
    assert (inputs / "body.pb").exists()


def test_a_backend_that_is_away_is_waited_for_once(inputs: Path) -> None:
    for name, spans in (("a.pb", 4), ("b.pb", 5), ("c.pb", 6)):
        (inputs / name).write_bytes(batches.request(spans).body)
    with OtlpHttpServer() as server:
        server.play(*[reply(503)] * 1000)
        flags = ("--endpoint", server.url, "--retry-initial", 0.01, "--retry-maximum", 0.01, "--retry-elapsed", 0.1)
        ended = replay("--exporter", "otlp-http", *flags, inputs)
        assert {len(request.spans) for request in server.requests} == {4}
    assert ended.code == 1
    to = f"{server.url}/v1/traces"
    assert ended.lines[-1] == f"3 files, 0 spans delivered to {to}, 15 not delivered, 0 invalid or unreadable"


def test_a_backend_that_answered_nothing_is_not_tried_with_the_next_file(inputs: Path) -> None:
    """However few the attempts: one that times out may take as long as a batch is tried."""
    for name, spans in (("a.pb", 4), ("b.pb", 5)):
        (inputs / name).write_bytes(batches.request(spans).body)
    backend = MemoryBackend(*[Verdict.RETRY] * 10)
    policy = RetryPolicy(elapsed_limit=1e-9)
    run = Replay(backend, policy, concurrency=1, batch_spans=10, log=structlog.get_logger())
    reports = {report.path.name: report.undelivered for report in run.run([inputs], remove=False)}
    assert run.close()
    assert reports == {"a.pb": 4, "b.pb": 5}
    assert [request.spans for request in backend.requests] == [4]


def test_a_file_that_is_refused_keeps_no_other_from_being_tried(inputs: Path) -> None:
    for name, spans in (("a.pb", 4), ("b.pb", 5)):
        (inputs / name).write_bytes(batches.request(spans).body)
    backend = MemoryBackend(Verdict.REFUSED)
    run = Replay(backend, RetryPolicy(), concurrency=1, batch_spans=10, log=structlog.get_logger())
    reports = {report.path.name: (report.delivered, report.undelivered) for report in run.run([inputs], remove=False)}
    assert run.close()
    assert reports == {"a.pb": (0, 4), "b.pb": (5, 0)}


def test_a_replay_into_its_own_input_is_refused(inputs: Path) -> None:
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    ended = replay("--output", inputs / "lines.jsonl", inputs)
    assert ended.code == 2
    assert "replayed into itself" in ended.errors


def test_an_output_that_would_be_made_among_the_inputs_is_refused(inputs: Path) -> None:
    (inputs / "a.jsonl").write_bytes(batches.request(3, "json").body)
    ended = replay("--output", inputs / "b.jsonl", inputs)
    assert ended.code == 2
    assert "replayed into itself" in ended.errors
    assert [path.name for path in inputs.iterdir()] == ["a.jsonl"]
    assert replay("--output", inputs / "b.txt", inputs).code == 0  # which is not among what is read of a folder


def test_a_replay_does_not_guess_where_to(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    ended = replay("--remove", inputs)
    assert (ended.code, ended.lines) == (2, [])
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in ended.errors
    assert sorted(path.name for path in tmp_path.rglob("*.jsonl")) == ["lines.jsonl"]


def test_waits_that_do_not_fit_together_are_told_by_replay_too(inputs: Path, output: Path) -> None:
    ended = replay("--output", output, "--retry-initial", 9, "--retry-maximum", 1, inputs)
    assert (ended.code, "Traceback" in ended.errors) == (2, False)


def test_a_flag_that_replay_does_not_heed_is_refused(inputs: Path, tmp_path: Path) -> None:
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    assert replay("--ring-dir", tmp_path, inputs).code == 2
    ended = shared().run("drain", "--ring-dir", tmp_path, "replay", inputs)
    assert (ended.returncode, "no effect with replay" in ended.stderr) == (2, True)


def test_on_a_terminal_it_shows_each_file_and_the_sum(inputs: Path, output: Path) -> None:
    (inputs / "lines.jsonl").write_bytes(batches.request(3, "json").body)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-Im", "drain", "replay", "--output", str(output), str(inputs)]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        assert process.wait(SECONDS) == 0
    os.close(ours)
    assert b"3 spans delivered" in shown
    assert b"1 file, 3 spans delivered" in shown


def test_dead_letters_of_a_drain_are_sent_again(ring_dir: Path, tmp_path: Path, output: Path, inputs: Path) -> None:
    state = tmp_path / "state"
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emit(emitter, range(20))
    with OtlpHttpServer() as server:
        server.play(refusal(405, "not today"))
        flags = ("--exporter", "otlp-http", "--endpoint", server.url, "--no-hold", "--state-dir", state)
        with DrainProcess(tmp_path / "log", ring_dir, "--once", *flags) as drain:
            assert drain.wait() == 1
    assert replay("--output", output, "--remove", state / "dead-letters").code == 0
    assert sorted(numbers_in_file(output)) == list(range(20))
    assert list((state / "dead-letters").iterdir()) == []


def test_letters_that_a_drain_adds_while_a_file_is_replayed_are_not_removed_with_it(
    inputs: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = DeadLetters(inputs / "letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
    letters.keep(batches.request(3), "HTTP 400", "http://127.0.0.1")
    (path,) = (inputs / "letters").iterdir()
    unlink, kept = Path.unlink, []

    def unlink_after_another_letter(file: Path, *, missing_ok: bool = False) -> None:
        if file == path:
            kept.append(letters.keep(batches.request(5), "HTTP 400", "http://127.0.0.1"))
        unlink(file, missing_ok=missing_ok)

    exporter = make_exporter("file", otlp=OtlpSettings(), output=output)
    run = Replay(exporter, RetryPolicy(), concurrency=1, batch_spans=10, log=structlog.get_logger())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_after_another_letter)
        reports = list(run.run([inputs], remove=True))
    assert run.close()
    exporter.close()
    assert (reports[-1].delivered, kept) == (3, [True])
    assert letters.status().sums == LetterSums(kept=8, waiting=5, taken=3)
    assert replay("--output", output, "--remove", inputs).code == 0
    assert letters.status().sums == LetterSums(kept=8, taken=8)


def replayed_while(path: Path, output: Path, meanwhile: Callable[[], object]) -> FileReport:
    """Replay a file and remove it; something happens before its last batch is delivered."""
    exporter = make_exporter("file", otlp=OtlpSettings(), output=output)
    run = Replay(exporter, RetryPolicy(), concurrency=1, batch_spans=10, log=structlog.get_logger())
    reports = run.run([path], remove=True)
    next(reports)
    meanwhile()
    *_, last = reports
    assert run.close()
    exporter.close()
    return last


def test_a_spool_that_a_drain_takes_up_while_it_is_replayed_is_not_removed(inputs: Path, output: Path) -> None:
    def open_spool() -> Spool:
        return Spool(inputs, SpoolLimits(1 << 26), log=structlog.get_logger())

    def store(spool: Spool, spans: int) -> None:
        spool.back(spool.put(batches.request(spans)).result(SECONDS))

    first = open_spool()
    store(first, 3)
    assert first.close(SECONDS)

    def meanwhile() -> None:
        second = open_spool()
        store(second, 5)
        assert second.close(SECONDS)

    last = replayed_while(inputs / "spool.db", output, meanwhile)
    assert (last.delivered, last.is_whole) == (3, False)
    assert "not removed: somebody has changed it meanwhile" in last.line()
    last = replayed_while(inputs / "spool.db", output, lambda: None)
    assert (last.delivered, last.is_whole) == (3 + 5, True)
    assert not (inputs / "spool.db").exists()


def test_lines_that_are_added_while_a_file_is_replayed_are_not_removed_with_it(inputs: Path, output: Path) -> None:
    path, line = inputs / "lines.jsonl", batches.request(3, "json").body
    path.write_bytes(line)

    def add() -> None:
        with path.open("ab") as file:
            file.write(line)

    last = replayed_while(path, output, add)
    assert "not removed: somebody has changed it meanwhile" in last.line()
    assert path.read_bytes() == line * 2


def test_a_file_that_a_drain_writes_to_is_not_removed(inputs: Path, output: Path) -> None:
    path = inputs / "lines.jsonl"
    path.write_bytes(batches.request(3, "json").body)
    drain = FileExporter(path)
    last = replayed_while(path, output, lambda: None)
    assert "not removed: a drain has it open now" in last.line()
    drain.close()
    assert path.exists()


@pytest.mark.parametrize(("error", "is_whole"), [(PermissionError(13, "Permission denied"), False), (None, True)])
def test_a_file_that_cannot_be_removed_or_is_gone_ends_no_replay(
    inputs: Path, output: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, is_whole: bool
) -> None:
    path = inputs / "lines.jsonl"
    path.write_bytes(batches.request(3, "json").body)

    def denied(_path: Path, *, missing_ok: bool = False) -> None:
        if error is not None:
            raise error

    with monkeypatch.context() as patch:
        if error is not None:
            patch.setattr(Path, "unlink", denied)
        last = replayed_while(path, output, path.unlink if error is None else lambda: None)
    assert (last.delivered, last.is_whole, path.exists()) == (3, is_whole, not is_whole)


def test_of_dead_letters_of_which_the_last_is_cut_the_others_are_delivered(inputs: Path, output: Path) -> None:
    letters = DeadLetters(inputs / "letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
    letters.keep(batches.request(3), "HTTP 400", "http://127.0.0.1")
    letters.keep(batches.request(3), "HTTP 400", "http://127.0.0.1")
    (path,) = (inputs / "letters").iterdir()
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole[:-5]))
    ended = replay("--output", output, path)
    assert ended.code == 1
    assert sorted(names_in(output)) == expected(3, times=1)
    assert "behind dead letter 1: the last dead letter is cut" in ended.lines[0]


def test_a_spooled_batch_of_two_gzip_members_is_read_whole(inputs: Path, output: Path) -> None:
    log = structlog.get_logger()
    body = batches.request(3).body
    spool = Spool(inputs / "spool", SpoolLimits(16 << 20), log=log)
    spool.put(Request(body, 3, "protobuf", services={"shop": 3})).result(SECONDS)
    assert spool.close(SECONDS)
    with contextlib.closing(sqlite3.connect(inputs / "spool" / "spool.db", isolation_level=None)) as database:
        members = gzip.compress(body[:50]) + gzip.compress(body[50:])
        database.execute("UPDATE batch SET body = ?", (members,))
    assert replay("--output", output, inputs).code == 0
    assert sorted(names_in(output)) == expected(3, times=1)


def test_each_request_has_a_batch_number_and_of_a_spool_its_own(inputs: Path) -> None:
    """A reader of Kafka adds up by them, and knows what a drain had sent of it before."""
    number = BatchNumber("00f1e2d3c4b5a697", 7, 3, 12)
    spool = Spool(inputs / "spool", SpoolLimits(16 << 20), log=structlog.get_logger())
    for batch in (number, None):
        body = batches.request(3).body
        spool.put(Request(body, 3, "protobuf", services={"shop": 3}, batch=batch)).result(SECONDS)
    assert spool.close(SECONDS)
    with contextlib.closing(sqlite3.connect(inputs / "spool" / "spool.db", isolation_level=None)) as of_before:
        of_before.execute("VACUUM INTO ?", (str(inputs / "before.db"),))
    with contextlib.closing(sqlite3.connect(inputs / "before.db", isolation_level=None)) as of_before:
        of_before.execute("ALTER TABLE batch DROP COLUMN number")
    (inputs / "a.pb").write_bytes(batches.request(4).body)
    backend = MemoryBackend()
    run = Replay(backend, RetryPolicy(), concurrency=1, batch_spans=10, log=structlog.get_logger())
    for path in ("a.pb", "spool/spool.db", "before.db"):
        assert [report.is_whole for report in run.run([inputs / path], remove=False)][-1]
    assert run.close()
    found = [request.batch for request in backend.requests]
    (drain,) = {batch.drain for batch in found if batch not in {None, number} and batch is not None}
    assert found == [
        BatchNumber(drain, 1, 0, 4),
        number,
        *(BatchNumber(drain, place, 0, 3) for place in (2, 3, 4)),
    ]
