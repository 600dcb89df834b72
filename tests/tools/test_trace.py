"""`ringbuf trace`: one trace put together from rings, spool and files, and drawn."""

from __future__ import annotations

import doctest
import errno
import gzip
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import drain.tools.trace.waterfall
import ringbuf
from drain.delivery.dead_letters import DeadLetters
from drain.otlp.json_lines import from_json_line
from drain.otlp.request import Request
from drain.spool import copied as spool_copies
from drain.spool.spool import Spool, SpoolLimits
from drain.tools.trace.search import Search
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from tests.service.draining import SECONDS
from tests.tools.otlp_lines import START, Made, line
from tests.tools.running import COMMAND, OnTerminal, invoke, output_of, piped, run

if TYPE_CHECKING:
    from pathlib import Path

TRACE = 0xAB << 120 | 1
ROOT = Made("GET /cart", START, 100_000, "front", TRACE, 1)
CHILD = Made("store.read", START + 25_000, 50_000, "store", TRACE, 2, 1, 2, {"grafos.operation": "read"})
GRANDCHILD = Made("disk.read", START + 30_000, 10_000, "disk", TRACE, 3, 2)
OTHER = Made("GET /other", START, 7, "front", 0xAC << 120, 4)


@pytest.fixture
def empty(ring_dir: Path) -> Path:
    return ring_dir


def shown(ring_dir: Path, *arguments: object) -> list[dict[str, Any]]:
    text = output_of("trace", "--ring-dir", ring_dir, "--json", *arguments)
    return [json.loads(row) for row in text.splitlines()]


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(drain.tools.trace.waterfall).failed == 0


def test_a_trace_of_a_file_as_a_waterfall(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([GRANDCHILD, OTHER]) + line([CHILD]) + line([ROOT]))
    title, head, *rows = output_of("trace", "--ring-dir", empty, "ab0", tmp_path / "spans.jsonl").splitlines()
    assert title.startswith(f"trace {TRACE:032x}: 3 spans of 3 services, 100µs from ")
    assert title.endswith("Z")
    assert head.split() == ["span", "name", "service", "from", "duration", "result"]
    assert [row.index(row.strip()[0]) for row in rows] == [0, 2, 4], "a child is indented under its parent"
    assert [" ".join(row.split()) for row in rows] == [
        "GET /cart front +0ns 100µs " + "█" * 32,
        "read store.read store +25.0µs 50.0µs " + "█" * 16 + " ✕ error",
        "disk.read disk +30.0µs 10.0µs " + "█" * 3,
    ]
    begins = [row.index("█") for row in rows]
    assert [at - begins[0] for at in begins] == [0, 8, 10]


def test_its_parts_are_found_wherever_they_are_and_each_is_shown_once(ring_dir: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    log = structlog.get_logger()
    letters = DeadLetters(state / "dead-letters", max_files=9, max_bytes=1 << 20, log=log)
    letters.keep(
        Request(from_json_line(line([GRANDCHILD])).SerializeToString(), 1, "protobuf"), reason="no", endpoint="-"
    )
    (tmp_path / "spans.jsonl.gz").write_bytes(gzip.compress(line([CHILD, OTHER]) + line([GRANDCHILD])))
    with ringbuf.Emitter("front", ring_dir=ring_dir, capacity=64) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        assert read.emit_under(f"00-{TRACE:032x}-{1:016x}-01", LeaseId(7), START + 1, START + 9, 1, Outcome.TIMEOUT)
        assert read.emit(LeaseId(7), START, START + 9)  # of another trace
        spool = Spool(state / "spool", SpoolLimits(1 << 26), log=log)
        try:
            body = from_json_line(line([ROOT, CHILD])).SerializeToString()
            spool.put(Request(body, 2, "protobuf", services={"front": 2})).result(SECONDS)
            # In another process: as far as it can see, a drain has the spool open, and delivers it.
            done = run(
                "trace", "--ring-dir", ring_dir, "--state-dir", state, "--json", "AB0", tmp_path / "spans.jsonl.gz"
            )
        finally:
            assert spool.close(SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert [(row["name"], row["depth"]) for row in rows] == [
        ("GET /cart", 0),
        ("grafos.dataplane.fbmu", 1),
        ("store.read", 1),
        ("disk.read", 2),
    ]
    assert (rows[1]["operation"], rows[1]["result"], rows[1]["is_error"]) == ("fbmu_read", "timeout", True)
    assert not any(row["is_orphan"] for row in rows)


@pytest.mark.parametrize("columns", [64, 84, 120])
def test_a_narrow_terminal_has_narrower_bars_and_none_that_is_cut(columns: int, empty: Path, tmp_path: Path) -> None:
    halves = [Made("early", START, 500, trace=TRACE, span=1), Made("late", START + 500, 500, trace=TRACE, span=2)]
    (tmp_path / "spans.jsonl").write_bytes(line(halves))
    with OnTerminal("trace", "--ring-dir", empty, "ab", tmp_path / "spans.jsonl", columns=columns) as terminal:
        assert terminal.end() == 0
    *_, early, late = terminal.output.decode().rstrip().splitlines()
    early, late = (re.sub(r"\x1b\[[\d;]*m", "", row) for row in (early, late))
    assert "…" not in early + late
    assert abs(early.count("█") - late.count("█")) <= 1, "both took half of the time"
    assert late.index("█") - early.rindex("█") in (0, 1)


def test_the_state_directory_is_the_drains(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.jsonl").write_bytes(line([ROOT]))
    monkeypatch.setenv("RINGBUF_DRAIN_STATE_DIR", str(tmp_path))
    assert len(shown(empty, f"{TRACE:032x}")) == 1


def test_a_span_whose_parent_is_not_there_says_so(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([GRANDCHILD]))
    assert "(its parent is not here)" in output_of("trace", "--ring-dir", empty, "ab", tmp_path / "spans.jsonl")


def test_a_beginning_that_may_be_several_traces_names_them(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([ROOT, OTHER]))
    result = invoke("trace", "--ring-dir", empty, "a", tmp_path / "spans.jsonl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "a may mean 2 traces:" in result.stderr
    assert f"{TRACE:032x}  1 span of 1 service, 100µs from" in result.stderr


def test_thousands_of_traces_are_not_told_one_by_one(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(
        line([Made(trace=0xA << 124 | number, span=number) for number in range(1, 3000)])
    )
    result = invoke("trace", "--ring-dir", empty, "a", tmp_path / "spans.jsonl")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 11)
    assert "may mean 100 or more traces" in result.stderr


def test_a_trace_that_is_not_there_says_where_it_was_looked_for(empty: Path, tmp_path: Path) -> None:
    result = invoke("trace", "--ring-dir", empty, "abc", tmp_path)
    assert (result.exit_code, f"no span of a trace abc in {empty}, {tmp_path}" in result.stderr) == (1, True)
    assert invoke("trace", "--ring-dir", empty / "nowhere", "abc").exit_code == 1


def test_a_place_that_is_not_there_or_closed_is_told_and_the_others_are_looked_into(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([ROOT]))
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(path: Any) -> Any:  # root may read every folder
        if str(path).endswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    places = [tmp_path / "spans.jsonl", tmp_path / "mistyped", tmp_path / "closed"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed)
        result = invoke("trace", "--ring-dir", empty, "ab", *places, "--state-dir", tmp_path / "nowhere")
    assert (result.exit_code, "1 span of 1 service" in result.stdout) == (1, True)
    assert result.stderr.count("No such file or directory") == 2
    assert "closed: Permission denied" in result.stderr


def test_of_a_long_trace_the_longest_are_shown_and_that_is_said(empty: Path, tmp_path: Path) -> None:
    spans = [ROOT, *(Made("step", START + n, 1, "store", TRACE, 2 + n, 1) for n in range(1000))]
    (tmp_path / "spans.jsonl").write_bytes(line(spans[:1000]))
    result = invoke("trace", "--ring-dir", empty, "ab", tmp_path, "--json")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1000)
    (tmp_path / "spans.jsonl").write_bytes(line(spans))
    result = invoke("trace", "--ring-dir", empty, "ab", tmp_path, "--json")
    assert result.stderr == "ringbuf: of 1,001 spans the 1,000 longest are shown\n"
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1000)


@pytest.mark.parametrize("wrong", ["xyz", "0" * 33, ""])
def test_what_is_no_trace_id_is_a_matter_of_usage(empty: Path, wrong: str) -> None:
    result = invoke("trace", "--ring-dir", empty, wrong)
    assert (result.exit_code, "is not 1 to 32 hex digits" in result.stderr) == (2, True)


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(ring_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(b'{"traceId":"ab0"\n' + line([ROOT]))
    (tmp_path / "bad.ring").write_bytes(b"ringbuf\0" + bytes(5000))
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    result = invoke("trace", "--ring-dir", ring_dir, "ab", tmp_path)
    assert result.exit_code == 1
    assert "1 span of 1 service" in result.stdout
    for name in ("spans.jsonl: line 1: ", "bad.ring: ", "bad.db: "):
        assert name in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pipe_that_has_a_name_is_read(empty: Path) -> None:
    with piped(gzip.compress(line([ROOT]))) as pipe:
        assert [row["name"] for row in shown(empty, "ab", pipe)] == ["GET /cart"]


def test_a_pipe_in_the_place_of_a_ring_holds_nobody_up(ring_dir: Path, tmp_path: Path) -> None:
    os.mkfifo(ring_dir / "shop-1-00000000.ring")
    (tmp_path / "spans.jsonl").write_bytes(line([ROOT]))
    command = [*COMMAND, "trace", "--ring-dir", str(ring_dir), "ab", str(tmp_path / "spans.jsonl")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
    assert (done.returncode, b"1 span of 1 service" in done.stdout) == (1, True), done.stderr
    assert b"shop-1-00000000.ring: not a regular file" in done.stderr


def test_a_hostile_name_cannot_steer_the_terminal(empty: Path, tmp_path: Path) -> None:
    hostile = Made("a\x1b[31m", START, 5, "b\x1b[2J", TRACE, 1, 0, 0, {"grafos.operation": "c\x1b]0;x\x07"})
    (tmp_path / "spans.jsonl").write_bytes(line([hostile]))
    assert "\x1b" not in output_of("trace", "--ring-dir", empty, "ab", tmp_path / "spans.jsonl")
    assert "\x1b" not in output_of("trace", "--ring-dir", empty, "--json", "ab", tmp_path / "spans.jsonl")


def test_on_a_narrow_terminal_the_duration_stays(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([ROOT, CHILD, GRANDCHILD]))
    with OnTerminal("trace", "--ring-dir", empty, "ab", tmp_path / "spans.jsonl", columns=40) as terminal:
        assert terminal.end() == 0
    assert b"50.0\xc2\xb5s" in terminal.output
    assert b"error" in terminal.output


@pytest.fixture
def spool_folder(tmp_path: Path) -> Path:
    spool = Spool(tmp_path / "spool", SpoolLimits(1 << 26), log=structlog.get_logger())
    body = from_json_line(line([ROOT])).SerializeToString()
    spool.put(Request(body, 1, "protobuf", services={"front": 1})).result(SECONDS)
    assert spool.close(SECONDS)
    return tmp_path / "spool"


def test_a_spool_that_changes_while_it_is_copied_is_copied_again(
    spool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = next(spool_folder.glob("*.db"))
    (tmp_path / "copies").mkdir()
    copied: list[str] = []
    copyfile = shutil.copyfile

    def copy_beside_a_checkpoint(source: Path, to: Path) -> None:
        copyfile(source, to)
        copied.append(source.name)
        if len(copied) == 1:
            database.write_bytes(database.read_bytes() + bytes(4096))

    monkeypatch.setattr(shutil, "copyfile", copy_beside_a_checkpoint)
    found = Search("ab", tmp_path / "copies")
    assert len(list(found.of([database]))) == 1
    assert copied.count(database.name) == 2
    assert found.notes == []


def test_a_spool_that_changes_all_the_time_and_one_without_room_are_told(
    spool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = next(spool_folder.glob("*.db"))
    (tmp_path / "copies").mkdir()
    states = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(spool_copies, "_state", lambda *_paths: next(states))
        found = Search("ab", tmp_path / "copies")
        assert list(found.of([database])) == []
        assert "look again" in found.notes[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    found = Search("ab", tmp_path / "copies")
    assert list(found.of([database])) == []
    assert "no room" in found.notes[0]
