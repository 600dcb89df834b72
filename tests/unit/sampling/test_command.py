"""`ringbuf-drain sampling` shows what rules would have kept of rings and files, and what is wrong with rules."""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
import typer
from opentelemetry.proto.trace.v1.trace_pb2 import Status, TracesData

import ringbuf
from drain.command import app
from drain.commands.sampling import try_rules
from drain.otlp.json_lines import to_json_line
from drain.tools.looking import standard_input
from tests.tools.running import OnTerminal, piped
from tests.unit.settings.command_line import RUNNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

RULES = """
[sampling]
incoming = "all"
default = "drop"
[[sampling.rule]]
name = "failures"
status = "error"
[[sampling.rule]]
name = "reads"
span = "read"
ratio = 0.5
"""
HALF = 1 << 55


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def sampling(*arguments: object) -> Result:
    return RUNNER.invoke(app, ["sampling", *map(str, arguments)])


def recorded() -> TracesData:
    """Return ten traces of two spans: two failures, four reads of which three are kept by their id, four writes."""
    traces = TracesData()
    resource = traces.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = resource.scope_spans.add().spans
    for number in range(10):
        low = HALF - 1 if number == 5 else HALF + number
        trace_id = bytes([number + 1]) * 9 + low.to_bytes(7, "big")
        name = "read" if 2 <= number < 6 else "write"
        root = spans.add(
            trace_id=trace_id, span_id=b"\1" * 8, name=name, end_time_unix_nano=number * 10**9, flags=0x101
        )
        if number < 2:
            root.status.code = Status.STATUS_CODE_ERROR
        spans.add(trace_id=trace_id, span_id=b"\2" * 8, parent_span_id=b"\1" * 8, end_time_unix_nano=number * 10**9)
    spans.add(trace_id=b"\7" * 16, span_id=b"\1" * 8, name="read", flags=0x100)
    return traces


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines()}


@pytest.mark.parametrize("form", ["lines", "gzip", "protobuf"])
def test_the_spans_of_a_file_are_counted_by_rule(rules: Path, tmp_path: Path, form: str) -> None:
    traces, path = recorded(), tmp_path / "spans"
    line = to_json_line(traces)
    path.write_bytes({"lines": line, "gzip": gzip.compress(line), "protobuf": traces.SerializeToString()}[form])
    result = sampling(rules, "--against", path)
    assert result.exit_code == 0, result.output
    found = rows(result.output)
    # rule: traces, kept, spans, kept, late, late kept, kept one in, th
    assert found["failures"] == ["2", "2", "4", "4", "2", "0", "1", "0"]  # decided at the first span
    assert found["reads"] == ["4", "3", "8", "6", "0", "0", "2", "8"]
    assert found["default"] == ["4", "0", "8", "0", "0", "0", "none", "-"]
    assert found["unsampled"] == ["0", "0", "1", "0", "0", "0"]
    assert result.output.splitlines()[-1] == "21 spans = 10 kept + 11 sampled out"


@pytest.fixture
def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder of temporary files, in which the command leaves nothing."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("form", ["lines", "gzip", "protobuf"])
@pytest.mark.usefixtures("left_behind")
def test_spans_come_by_a_pipe_too(rules: Path, tmp_path: Path, form: str) -> None:
    traces, path = recorded(), tmp_path / "spans"
    line = to_json_line(traces)
    path.write_bytes({"lines": line, "gzip": gzip.compress(line), "protobuf": traces.SerializeToString()}[form])
    of_file = sampling(rules, "--against", path)
    for names in (["-"], ["-", "-"]):
        arguments = [word for name in names for word in ("--against", name)]
        result = RUNNER.invoke(app, ["sampling", str(rules), *arguments], input=path.read_bytes())
        assert (result.exit_code, result.output) == (0, of_file.output)
    with piped(path.read_bytes()) as pipe:
        named = sampling(rules, "--against", pipe)
        assert (named.exit_code, named.output) == (0, of_file.output)
    both = RUNNER.invoke(app, ["sampling", str(rules), "--against", "-", "--against", str(path)], input=line)
    assert rows(both.output)["failures"][2] == "8", "of both"


@pytest.mark.usefixtures("left_behind")
def test_so_does_a_ring(rules: Path, ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["read", "write"], attributes=[])
    with ringbuf.Emitter("shop", layout=layout, ring_dir=ring_dir) as emitter:
        for _ in range(100):
            emitter.site("read").emit(1, 2)
        (ring,) = ring_dir.glob("*.ring")
        result = RUNNER.invoke(app, ["sampling", str(rules), "--against", "-"], input=ring.read_bytes())
        assert result.exit_code == 0, result.output
        assert rows(result.output)["reads"][0] == "100"


@pytest.mark.usefixtures("left_behind")
def test_what_of_a_pipe_cannot_be_read_is_told(rules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def told(given: bytes) -> tuple[int, str]:
        result = RUNNER.invoke(app, ["sampling", str(rules), "--against", "-"], input=given)
        return result.exit_code, result.output + capfd.readouterr().err

    code, text = told(to_json_line(recorded()) + b'{"resourceSpans":\n')
    assert (code, "standard input: line 2: Expecting value at character 19\n" in text) == (1, True)
    code, text = told(b"")
    assert (code, "no span is recorded in standard input" in text) == (0, True)


@pytest.mark.usefixtures("left_behind")
def test_ctrl_c_ends_it_while_it_waits_for_spans(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(into: IO[bytes], _: object) -> None:
        into.write(to_json_line(recorded()))
        raise KeyboardInterrupt

    monkeypatch.setattr(standard_input, "copy", interrupted)
    result = sampling(rules, "--against", "-")
    assert (result.exit_code, result.output) == (130, "")


def test_a_terminal_has_no_spans_to_give(rules: Path) -> None:
    words = ("sampling", rules, "--against", "-")
    with OnTerminal(*words, columns=120, program="drain") as terminal:
        assert terminal.end() == 2
        assert b"ringbuf-drain: standard input is a terminal" in terminal.output


def test_nor_has_what_is_closed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after <&-
    with pytest.raises(typer.Exit) as ended:
        try_rules(None, 0.5, [Path("-")])
    assert ended.value.exit_code == 2
    assert "standard input is closed" in capfd.readouterr().err


def test_it_shows_on_a_terminal_how_far_it_is(rules: Path, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(to_json_line(recorded()))
    with OnTerminal("sampling", rules, "--against", path, columns=120, program="drain") as terminal:
        assert terminal.end() == 0
        assert b"Reading 21 spans, decided now" in terminal.output
        assert b"21 spans = 10 kept + 11 sampled out" in terminal.output


def test_the_spans_of_a_living_ring_are_looked_at_and_left(rules: Path, ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["read", "write"], attributes=[])
    with ringbuf.Emitter("shop", layout=layout, ring_dir=ring_dir) as emitter:
        for _ in range(100):
            emitter.site("read").emit(1, 2)
        for _ in range(2):
            result = sampling(rules, "--against", ring_dir)
            assert result.exit_code == 0, result.output
            assert rows(result.output)["reads"][0] == "100"
        assert emitter.stats().pending == 100


def test_without_a_file_a_ratio_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(to_json_line(recorded()))
    assert rows(sampling("--keep-ratio", 1, "--against", path).output)["default"][:4] == ["10", "10", "20", "20"]
    assert rows(sampling("--keep-ratio", 0, "--against", path).output)["default"][:4] == ["10", "0", "20", "0"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name a FILE with rules, or --keep-ratio: one of the two"),
        (["{rules}", "--keep-ratio", "0.1"], "name a FILE with rules, or --keep-ratio: one of the two"),
        (["{rules}.toml"], "No such file or directory"),
        (["{spans}"], "no TOML: "),
        (["{rules}", "--against", "{spans}.gz"], "spans.jsonl.gz' does not exist"),
    ],
)
def test_what_is_named_and_cannot_be_had_is_told(
    rules: Path, tmp_path: Path, arguments: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spans = tmp_path / "spans.jsonl"
    spans.write_bytes(to_json_line(recorded()))
    result = sampling(*(text.format(rules=rules, spans=spans) for text in arguments), "--against", spans)
    assert result.exit_code == 2
    assert reason in result.output + capfd.readouterr().err


def test_each_mistake_of_a_file_is_a_line(rules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rules.write_text(RULES.replace("ratio", "ration").replace("drop", "dorp"))
    result = sampling(rules, "--against", rules)
    assert result.exit_code == 2
    told = (result.output + capfd.readouterr().err).splitlines()
    assert [line.removeprefix("ringbuf-drain: ") for line in told if line] == [
        f"{rules}: sampling.default: 'dorp' is not known; did you mean 'drop'?",
        f"{rules}: sampling.rule 2: 'ration' is not known; did you mean 'ratio'?",
    ]


def test_what_cannot_be_read_is_told_and_the_rest_is_counted(
    rules: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(to_json_line(recorded()) + b"no line\n")
    result = sampling(rules, "--against", path)
    assert result.exit_code == 1
    assert rows(result.output)["failures"][0] == "2"
    assert str(path) in result.output + capfd.readouterr().err


def test_where_nothing_is_recorded_it_says_so(rules: Path, ring_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = sampling(rules, "--against", ring_dir)
    assert result.exit_code == 0
    assert f"no span is recorded in {ring_dir}" in result.output + capfd.readouterr().err


def test_settings_of_a_drain_have_no_effect(rules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = RUNNER.invoke(app, ["--batch-spans", "5", "sampling", str(rules), "--against", str(rules)])
    assert result.exit_code == 2
    assert "--batch-spans has no effect with sampling" in result.output + capfd.readouterr().err


def test_nor_has_a_file_of_them_that_is_named(rules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["sampling", str(rules), "--against", str(rules)]
    result = RUNNER.invoke(app, ["--config", str(rules), *command])
    assert result.exit_code == 2
    assert "--config has no effect with sampling" in result.output + capfd.readouterr().err
    # The variable is there for the drain.
    result = RUNNER.invoke(app, command, env={"RINGBUF_DRAIN_CONFIG": str(rules)})
    assert "no effect" not in result.output + capfd.readouterr().err
