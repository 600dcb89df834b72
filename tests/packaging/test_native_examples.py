"""The native examples are built as their README says, against the installed wheel, and their spans are delivered."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ringbuf.layout_c import to_c_header
from ringbuf.layout_source import load_layout
from tests.packaging.conftest import ROOT, run
from tests.service.draining import run_once, spans_in_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.packaging.conftest import Environment

pytestmark = pytest.mark.prove

NATIVE = ROOT / "docs" / "examples" / "native"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the examples, since they are built where they lie."""
    return Path(shutil.copytree(NATIVE, tmp_path / "native"))


@pytest.fixture(params=["pkg-config", "cmake"])
def programs(
    request: pytest.FixtureRequest,
    folder: Path,
    from_wheel: Environment,
    debian_program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return the folder of the built examples."""
    debian_program("g++")
    monkeypatch.setenv("CFLAGS", "-Wall -Wextra -Wpedantic -Wconversion -Werror")
    monkeypatch.setenv("CXXFLAGS", "-Wall -Wextra -Wpedantic -Wconversion -Werror")
    if request.param == "pkg-config":
        debian_program("pkg-config")
        path = from_wheel.ask("ringbuf.get_library_dir() / 'pkgconfig'")
        run(["make", f"PKG_CONFIG_PATH={path}"], cwd=folder)
        return folder
    cmake = Path(sys.executable).with_name("cmake")
    prefix = from_wheel.ask("ringbuf.get_include().parent")
    run([cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"], cwd=folder)
    run([cmake, "--build", "build"], cwd=folder)
    return folder / "build"


def test_the_header_in_the_examples_is_what_the_layout_gives() -> None:
    layout = load_layout(str(NATIVE / "layout.py"))
    assert (NATIVE / "files_layout.h").read_text(encoding="utf-8") == to_c_header(layout)


def test_copy_and_count_deliver_nested_spans_with_their_attributes(
    programs: Path, tmp_path: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    long_name = "t" * 60
    (tmp_path / "source").write_bytes(b"one two three\n" * 10_000)
    run([programs / "copy", "source", long_name], cwd=tmp_path)
    assert (tmp_path / long_name).read_bytes() == (tmp_path / "source").read_bytes()
    assert run([programs / "count", "source", long_name, "no such"], cwd=tmp_path) == "60000\n"
    output = tmp_path / "spans.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    spans = spans_in_file(output)
    (copy,) = named("files.copy", spans)
    assert values_of(copy) == {"path": "source", "bytes": 140_000, "outcome": "ok"}
    chunks = sorted(named("files.chunk", spans), key=lambda span: span.start_time_unix_nano)
    assert [values_of(chunk) for chunk in chunks] == [
        {"bytes": 65536, "offset": 0},
        {"bytes": 65536, "offset": 65536},
        {"bytes": 140_000 - 131_072, "offset": 131_072},
    ]
    assert_children(chunks, copy)
    (whole,) = named("files.count_all", spans)
    counts = named("files.count", spans)
    assert_children(counts, whole)
    assert sorted((values["path"], values["outcome"], values.get("bytes")) for values in map(values_of, counts)) == [
        ("no such", "not_found", None),
        ("source", "ok", 140_000),
        ("t" * 44, "ok", 140_000),  # cut to its field
    ]
    assert [span.status.code for span in counts if values_of(span)["outcome"] == "not_found"] == [2]


def named(name: str, spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.name == name]


def values_of(span: Span) -> dict[str, Any]:
    return {
        pair.key.removeprefix("files."): getattr(pair.value, str(pair.value.WhichOneof("value")))
        for pair in span.attributes
    }


def assert_children(spans: list[Span], parent: Span) -> None:
    assert {(span.trace_id, span.parent_span_id) for span in spans} == {(parent.trace_id, parent.span_id)}
    assert parent.start_time_unix_nano <= min(span.start_time_unix_nano for span in spans)
    assert max(span.end_time_unix_nano for span in spans) <= parent.end_time_unix_nano
