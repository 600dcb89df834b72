"""What `ringbuf report` reads, how it says what it could not read, and its exit codes."""

from __future__ import annotations

import gzip
import subprocess
from typing import TYPE_CHECKING

import pytest
import structlog
import zstandard
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.delivery.dead_letters import DeadLetters
from drain.otlp.json_lines import from_json_line
from drain.otlp.request import Request
from tests.service.draining import SECONDS
from tests.tools.otlp_lines import Made, line, lines, many_spans
from tests.tools.report_pages import Page, report, table
from tests.tools.running import COMMAND, OnTerminal, invoke, piped

if TYPE_CHECKING:
    from pathlib import Path

    import ringbuf

SPANS = [Made(span=number + 1, trace=number + 1) for number in range(7)]
PLAIN = lines(SPANS, size=3)


def frames(data: bytes) -> bytes:
    """Return each line as a zstd frame, as the drain's file exporter writes them."""
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in data.splitlines(keepends=True))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, frames])
def test_files_of_json_lines_are_read_however_they_are_compressed(tmp_path: Path, compress: type[bytes]) -> None:
    (tmp_path / "spans").write_bytes(compress(PLAIN))
    page = report(tmp_path, tmp_path / "spans")
    assert page.result.exit_code == 0
    assert page.tiles()["Spans"] == "7"
    assert len(list(page.section("traces").all("details", **{"class": "trace"}))) == 7


@pytest.mark.parametrize("data", [PLAIN, gzip.compress(PLAIN)])
def test_standard_input_is_read(tmp_path: Path, data: bytes) -> None:
    output = tmp_path / "report.html"
    command = [*COMMAND, "report", "-", "-o", str(output)]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    page = Page(output.read_text(), invoke("--version"))
    assert page.tiles()["Spans"] == "7"
    assert len(list(page.section("traces").all("details", **{"class": "trace"}))) == 7


@pytest.mark.parametrize("data", [PLAIN, gzip.compress(PLAIN)])
def test_pipes_that_have_names_are_read(tmp_path: Path, data: bytes) -> None:
    with piped(data) as pipe, piped(lines(SPANS[:2], size=1)) as another:
        page = report(tmp_path, pipe, another)
    assert page.result.exit_code == 0, page.result.output
    assert page.tiles()["Spans"] == "9"
    assert len(list(page.section("traces").all("details", **{"class": "trace"}))) == 7


def test_a_terminal_has_no_spans_to_give(tmp_path: Path) -> None:
    with OnTerminal("report", "-", "-o", tmp_path / "report.html", columns=120) as terminal:
        assert terminal.end() == 2
        assert b"ringbuf: standard input is a terminal" in terminal.output


def test_a_page_can_go_to_standard_output(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(PLAIN)
    report(tmp_path, tmp_path / "spans.jsonl")
    result = invoke("report", tmp_path / "spans.jsonl", "-o", "-")
    assert result.exit_code == 0
    assert result.stdout_bytes == (tmp_path / "report.html").read_bytes()


def test_dead_letters_and_protobuf_are_read(tmp_path: Path) -> None:
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[structlog.testing.LogCapture()])
    letters = DeadLetters(tmp_path / "letters", max_files=9, max_bytes=1 << 20, log=log)
    first, second, third = PLAIN.splitlines(keepends=True)
    assert letters.keep(Request(first, 3, "json"), "no", "http://127.0.0.1/")
    assert letters.keep(Request(from_json_line(second).SerializeToString(), 3, "protobuf"), "no", "http://127.0.0.1/")
    (tmp_path / "letters" / "spans.pb").write_bytes(from_json_line(third).SerializeToString())
    page = report(tmp_path, tmp_path / "letters")
    assert page.result.exit_code == 0, page.result.output
    assert page.tiles()["Spans"] == "7"
    assert len(list(page.section("traces").all("details", **{"class": "trace"}))) == 7


def test_protobuf_that_begins_like_json_is_told_apart(tmp_path: Path) -> None:
    message = from_json_line(PLAIN.splitlines()[2])
    resource_spans = message.resource_spans[0]
    resource_spans.schema_url = (
        "x" * (0x7B - resource_spans.ByteSize() % 0x80 - 2) if resource_spans.ByteSize() < 0x79 else ""
    )
    while len(resource_spans.SerializeToString()) & 0x7F != 0x7B:
        resource_spans.schema_url += "x"
    data = TracesData(resource_spans=[resource_spans]).SerializeToString()
    (tmp_path / "spans").write_bytes(data)
    assert report(tmp_path, tmp_path / "spans").tiles()["Spans"] == "1"


def test_several_files_are_one_page(tmp_path: Path) -> None:
    for number, part in enumerate(PLAIN.splitlines(keepends=True)):
        (tmp_path / f"{number}.jsonl").write_bytes(part)
    page = report(tmp_path, *sorted(tmp_path.glob("*.jsonl")))
    assert page.tiles()["Spans"] == "7"
    assert page.section("reading").text.count(".jsonl: ") == 3


def test_rings_are_read_and_nothing_is_taken_out_of_them(tmp_path: Path, ring_dir: Path, shop: ringbuf.Emitter) -> None:
    before = {path.name: path.read_bytes() for path in ring_dir.iterdir()}
    page = report(tmp_path, ring_dir)
    assert page.result.exit_code == 0, page.result.output
    assert {path.name: path.read_bytes() for path in ring_dir.iterdir()} == before
    assert page.tiles() | {"Time": ""} == {
        "Spans": "12",
        "Traces": "12",
        "Services": "1",
        "Time": "",
        "Errors": "8.3 %",
        "Longest span": "5.00 ms",
        "Dropped": "0",
    }
    kinds = {row["Operation"]: row["Spans"] for row in table(page.section("kinds"), "Spans by name")}
    assert kinds == {"fbmu_read": "10", "fbbu_write": "2"}
    (ring,) = table(page.section("rings"), "Counters")
    assert (ring["Service"], ring["Published"], ring["Pending"]) == ("shop", "12", "12")
    assert shop.stats().pending == 12


def test_what_a_ring_dropped_is_on_the_page(tmp_path: Path, ring_dir: Path, shop: ringbuf.Emitter) -> None:
    from ringbuf.dataplane import LeaseId, OpType, site  # noqa: PLC0415 - as the fixture has them

    read = site(OpType.FBMU_READ, emitter=shop)
    written = sum(read.emit(LeaseId(1), 1000, 2000, 1) for _ in range(100))
    assert written == 64 - 12
    page = report(tmp_path, *ring_dir.glob("*.ring"))
    assert page.tiles()["Dropped"] == "48"
    (ring,) = table(page.section("rings"), "Counters")
    assert (ring["Published"], ring["Dropped"]) == ("64", "48")


def test_an_unsound_ring_is_told_of_and_the_others_are_read(
    tmp_path: Path, ring_dir: Path, shop: ringbuf.Emitter
) -> None:
    (ring,) = ring_dir.glob("*.ring")
    (ring_dir / "broken.ring").write_bytes(ring.read_bytes()[:8192])
    page = report(tmp_path, ring_dir)
    assert page.result.exit_code == 1
    assert page.tiles()["Spans"] == "12"
    assert "broken.ring" in page.section("reading").text


def test_the_last_line_of_a_file_that_is_being_written_is_said_to_be_cut(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(PLAIN[:-40])
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert (page.result.exit_code, page.tiles()["Spans"], page.tiles()["Unreadable"]) == (1, "6", "1")
    assert "line 3: " in page.result.stderr
    assert "still being written, or was cut" in page.result.stderr


def test_a_line_without_end_costs_no_more_memory_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = line([Made()]), line([Made(name="x" * 5000)])
    monkeypatch.setattr("drain.tools.report.sources._LONGEST_LINE", len(short) + 10)
    (tmp_path / "spans.jsonl").write_bytes(short + long + line([Made(span=2)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert (page.result.exit_code, page.tiles()["Spans"], page.tiles()["Unreadable"]) == (1, "2", "1")
    assert "line 2: longer than" in page.result.stderr


@pytest.mark.parametrize("compress", [gzip.compress, frames])
def test_compressed_files_that_were_cut_are_read_as_far_as_they_go(tmp_path: Path, compress: type[bytes]) -> None:
    data = lines(many_spans(2000), 50)
    whole = compress(data)
    (tmp_path / "spans").write_bytes(whole[: len(whole) // 2])
    page = report(tmp_path, tmp_path / "spans")
    assert page.result.exit_code == 1
    assert 100 < int(page.tiles()["Spans"].replace(",", "")) < 2000
    assert page.tiles()["Unreadable"] in {"1", "2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no span in what was read"),
        (b"\n\n", "no span in what was read"),
        (b"{}\n", "no span in what was read"),
        (b"hello\nworld\n", "line 1: Expecting value at character 1\n"),
        (b"\x00\x01\x02binary", "neither ring, dead letter, spool, JSON lines nor OTLP protobuf"),
        (b"\x1f\x8bnot gzip", "line 0: the compressed data is damaged"),
        (b"ringbuf\0 but no ring", "report/spans: "),
    ],
)
def test_an_input_without_spans_is_an_error_with_a_reason_and_no_page(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "spans").write_bytes(content)
    result = invoke("report", tmp_path / "report" / "spans", "-o", tmp_path / "page.html")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jsonl"], "No such file"),
        (["folder"], "has no file of spans in it"),
        (["spans.jsonl", "-o", "spans.jsonl"], "both input and output"),
        (["spans.jsonl", "-o", "missing/page.html"], "cannot write"),
        (["spans.jsonl", "--traces", "51"], "--traces"),
        ([], "SPANS"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "spans.jsonl").write_bytes(PLAIN)
    result = invoke("report", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "spans.jsonl"]
    assert (tmp_path / "spans.jsonl").read_bytes() == PLAIN


def test_a_page_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(PLAIN)
    (tmp_path / "report.html").write_text("old")
    report(tmp_path, tmp_path / "spans.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "spans.jsonl"]


def test_nothing_is_left_of_what_was_kept_for_the_second_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "spans.pb").write_bytes(from_json_line(PLAIN.splitlines()[0]).SerializeToString())
    report(tmp_path, tmp_path / "spans.pb")
    assert not list((tmp_path / "scratch").iterdir())


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(PLAIN)
    with OnTerminal("report", tmp_path / "spans.jsonl", "-o", tmp_path / "page.html", columns=80) as terminal:
        terminal.read_until(b"Reading")
        assert terminal.end() == 0
    assert b"100%" in terminal.output
    assert b"7 spans" in terminal.output


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;b\x07\x1b[31m.jsonl"  # typer leaves out colours by itself where there is no terminal
    path.write_bytes(line([Made()]) + b"x\n")
    page = report(tmp_path, path)
    assert "jsonl: line 2: " in page.result.output
    assert not {"\x1b", "\x07"} & set(page.result.output)
    assert "\x1b" not in page.html


def test_an_attribute_that_no_span_has_is_told(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([Made(attributes={"http.route": "/a"})]))
    assert "no span has" not in report(tmp_path, tmp_path / "spans.jsonl", "--by", "http.route").result.stderr
    told = report(tmp_path, tmp_path / "spans.jsonl", "--by", "http.rout").result
    assert (told.exit_code, "no span has an attribute 'http.rout', which --by names" in told.stderr) == (0, True)
