from __future__ import annotations

import csv
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import ringbuf
from drain.otlp.json_lines import from_json_line
from drain.tools.looking.command_line import EXIT_INCOMPLETE
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.consumer import rings_in
from tests.records import fresh_records
from tests.service.draining import run_once, spans_of
from tests.tools.running import OnTerminal, invoke, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ringbuf.emitter import Emitter

OTHER = SpanLayout(
    span_names=["cache"],
    attributes=[
        Attribute("hit", "bool"),
        Attribute("ratio", "f64"),
        Attribute("grafos.bytes", "str", 8),  # the same key with another type
        Attribute("service", "str", 8),  # a key that is called as a column
        Attribute("blob", "bytes", 8),
    ],
)


@pytest.fixture
def cache(ring_dir: Path) -> Iterator[Emitter]:
    """Return an emitter of another layout, with two spans and a record that is none."""
    with ringbuf.Emitter("cache", ring_dir=ring_dir, layout=OTHER, capacity=64, lanes=1) as emitter:
        site = emitter.site("cache", varying=["hit", "ratio", "grafos.bytes", "service", "blob"])
        assert site.emit(1000, 2000, True, 0.5, "many", "n", b"\x00\xff")
        assert site.emit(1000, 900, None, None, None, None, None)
        yield emitter


def dumped(ring_dir: Path, tmp_path: Path, form: str, *arguments: object) -> Path:
    path = tmp_path / f"spans.{form}"
    result = invoke("dump", "--ring-dir", ring_dir, "--format", form, "--output", path, *arguments)
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == [path]
    return path


def test_json_lines_are_those_of_the_drain(shop: Emitter, cache: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    path = dumped(ring_dir, tmp_path, "jsonl")
    drained = tmp_path / "drained.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", drained) == 0

    def spans(file: Path) -> dict[str, str]:
        traces = [from_json_line(line) for line in file.read_bytes().splitlines()]
        return {span.span_id.hex(): str(span) for trace in traces for span in spans_of(trace)}

    assert spans(path) == spans(drained)
    assert len(spans(path)) == 14
    assert {line[:18] for line in path.read_bytes().splitlines()} == {b'{"resourceSpans":['}


def test_csv_has_the_columns_of_all_layouts(shop: Emitter, cache: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(dumped(ring_dir, tmp_path, "csv").read_text())))
    assert len(rows) == 14
    by_service: dict[str, list[dict[str, str]]] = {"shop": [], "cache": []}
    for row in rows:
        by_service[row["service"]].append(row)
    first, last = by_service["shop"][0], by_service["shop"][-1]
    assert (first["name"], first["duration_nano"], first["grafos.bytes"]) == ("grafos.dataplane.fbmu", "1000", "100")
    assert (last["status"], last["grafos.outcome"], last["hit"]) == ("error", "timeout", "")
    one, two = by_service["cache"]
    assert (one["hit"], one["ratio"], one["grafos.bytes"], one["service"], one["service_"]) == (
        "true",
        "0.5",
        "many",
        "cache",
        "n",
    )
    assert one["blob"] == "AP8="
    assert (two["hit"], two["duration_nano"], two["parent_span_id"]) == ("", "-100", "")


def test_parquet_has_their_types(shop: Emitter, cache: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    table = pq.read_table(dumped(ring_dir, tmp_path, "parquet"))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["start_unix_nano"] == "uint64"
    assert (kinds["hit"], kinds["ratio"], kinds["blob"], kinds["grafos.bytes"]) == (
        "bool",
        "double",
        "binary",
        "string",
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    assert len(rows) == 14
    one = next(row for row in rows if row["hit"])
    assert (one["ratio"], one["blob"], one["grafos.bytes"], one["grafos.outcome"]) == (0.5, b"\x00\xff", "many", None)
    assert [row["grafos.bytes"] for row in rows if row["grafos.operation"] == "fbmu_read"][:2] == ["100", "200"]


def test_numpy_has_the_records_and_what_they_mean(shop: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    with np.load(dumped(ring_dir, tmp_path, "numpy")) as content:
        name = rings_in(ring_dir)[0].stem
        records = content[name]
        about = json.loads(str(content[f"{name}.json"]))
    assert (records["end_unix_nano"] - records["start_unix_nano"]).tolist()[:3] == [1000, 2000, 3000]
    assert (about["service"], about["layout"]) == ("shop", json.loads(shop.layout.to_json()))
    layout = SpanLayout.from_json(json.dumps(about["layout"]).encode())
    assert layout.values(records[0].tobytes()) == layout.values(records[0])


def test_only_what_matches(shop: Emitter, cache: Emitter, ring_dir: Path) -> None:
    result = invoke("dump", "--ring-dir", ring_dir, "--format", "csv", "--min-duration", "1ms", "--outcome", "ok")
    assert len(result.stdout.splitlines()) == 2
    assert "1 span of 2 rings" in result.stderr
    assert len(output_of("dump", "--ring-dir", ring_dir, "--service", "cache").splitlines()) == 1


def test_it_can_be_done_again(shop: Emitter, ring_dir: Path) -> None:
    assert output_of("dump", "--ring-dir", ring_dir) == output_of("dump", "--ring-dir", ring_dir)
    assert shop.stats().pending == 12


def test_records_that_are_no_spans_are_left_out_and_counted(cache: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.ring"
    data = bytearray(rings_in(ring_dir)[0].read_bytes())
    slots = int.from_bytes(data[12:16], "little") + 384
    data[slots + 54] = 9  # kind
    copy.write_bytes(data)
    for form, lines in (("jsonl", 1), ("csv", 2)):
        result = invoke("dump", copy, "--format", form)
        assert len(result.stdout.splitlines()) == lines
        assert "1 span of 1 ring, 1 record that is no span" in result.stderr


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "numpy"])
def test_a_record_whose_otlp_is_not_sound_is_no_span_in_any_form(form: str, ring_dir: Path, tmp_path: Path) -> None:
    layout = SpanLayout(span_names=["a"], attributes=[Attribute("o", "otlp", 20)])
    with ringbuf.Emitter("carrying", ring_dir=ring_dir, layout=layout, capacity=64, lanes=1) as emitter:
        records = fresh_records(emitter, 2)
        records["present"] = 1
        records["o"]["length"] = 2
        records["o"]["data"][:, :2] = [0x50, 0]  # dropped_attributes_count
        records["o"]["data"][0, 0] = 0x30  # kind, which the core has
        emitter.emit_batch(records)
        result = invoke("dump", "--ring-dir", ring_dir, "--format", form, "--output", tmp_path / "out")
    assert "1 span of 1 ring, 1 record that is no span" in result.stderr


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "numpy"])
def test_a_ring_whose_layout_has_no_plan_is_told_and_the_others_are_written(
    form: str, shop: Emitter, ring_dir: Path, tmp_path: Path
) -> None:
    labels = Attribute("k" * 100_000, "label", labels=tuple(map(str, range(1000))))
    huge = SpanLayout(span_names=["a"], attributes=[labels])
    with ringbuf.Emitter("huge", ring_dir=ring_dir, layout=huge, capacity=64, lanes=1) as emitter:
        emitter.emit_batch(fresh_records(emitter, 1))
        result = invoke("dump", "--ring-dir", ring_dir, "--format", form, "--output", tmp_path / "out")
    assert "12 spans of 2 rings" in result.stderr
    assert "names, keys and labels would take more than 16 MiB" in result.stderr
    assert result.exit_code == EXIT_INCOMPLETE


def test_a_format_that_needs_what_is_not_there(
    shop: Emitter, ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "spans.parquet"
    result = invoke("dump", "--ring-dir", ring_dir, "--format", "parquet", "-o", path)
    assert result.exit_code == 2
    assert "pip install 'ringbuf-spans[parquet]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_binary_form_is_nothing_for_a_terminal(ring_dir: Path) -> None:
    with OnTerminal("dump", "--ring-dir", ring_dir, "--format", "numpy", columns=80) as terminal:
        assert terminal.end() == 2
        assert b"name a file with --output" in terminal.output


def test_a_file_that_cannot_be_made_is_told(shop: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    result = invoke("dump", "--ring-dir", ring_dir, "-o", tmp_path / "nowhere" / "spans.jsonl")
    assert (result.exit_code, "No such file" in result.stderr) == (1, True)


STEERING = "=1+1\x1b[2J\x9b31m\x7f\u202e"
HOSTILE = SpanLayout(
    span_names=["=HYPERLINK(1)"],
    attributes=[Attribute("+key", "str", 40), Attribute("@blob", "bytes", 3), Attribute("-number", "i64")],
)


@pytest.fixture
def hostile(ring_dir: Path) -> Iterator[Emitter]:
    """Return an emitter whose names and values are made for whoever looks at them."""
    with ringbuf.Emitter("-evil\x1b[31m", ring_dir=ring_dir, layout=HOSTILE, capacity=4, lanes=1) as emitter:
        site = emitter.site("=HYPERLINK(1)", varying=["+key", "@blob", "-number"])
        assert site.emit(1000, 900, STEERING, b"\xf8\x00\x00", -5)
        yield emitter


def test_no_cell_of_csv_is_a_formula(hostile: Emitter, ring_dir: Path, tmp_path: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(dumped(ring_dir, tmp_path, "csv").read_text()))
    assert (row["name"], row["service"], row["'+key"], row["'@blob"]) == (
        "'=HYPERLINK(1)",
        "'-evil\x1b[31m",
        f"'{STEERING}",
        "'+AAA",
    )
    assert (row["duration_nano"], row["'-number"]) == ("-100", "-5"), "a number below zero is none"


@pytest.mark.parametrize(
    "arguments",
    [
        ("dump",),
        ("dump", "--format", "csv"),
        ("tail", "--no-follow", "--json"),
        ("tail", "--no-follow"),
        ("list",),
        ("list", "--json"),
        ("stat", "*pid*"),
        ("stat", "*pid*", "--json"),
        ("top", "--once", "--interval", "0.1"),
        ("top", "--once", "--interval", "0.1", "--json"),
    ],
)
def test_no_span_steers_a_terminal(hostile: Emitter, ring_dir: Path, arguments: tuple[str, ...]) -> None:
    words = [str(os.getpid()) if word == "*pid*" else word for word in arguments]
    environment = {"TERM": "dumb"}  # where no command writes a control character of its own
    with OnTerminal(*words, "--ring-dir", ring_dir, columns=200, environment=environment) as terminal:
        assert terminal.end() == 0
        text = terminal.output.decode()
    assert not [character for character in text if not (character.isprintable() or character in "\r\n")]
    if words[0] != "top" and ("--json" in words or words == ["dump"]):
        values = json.dumps([json.loads(line) for line in text.splitlines() if line.startswith("{")])
        assert json.dumps("-evil\x1b[31m") in values, "the value is the same"
