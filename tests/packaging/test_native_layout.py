"""A C or C++ program that is built from nothing but the generated header and the wheel delivers all its values."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from ringbuf.layout.layout import Attribute, SpanLayout
from tests.packaging.conftest import ROOT, run
from tests.service.draining import run_once, spans_in_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packaging.conftest import Environment

pytestmark = pytest.mark.prove

SOURCE = ROOT / "tests" / "packaging" / "native_layout.c"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
LAYOUT = SpanLayout(
    span_names=["everything.first", "everything.second"],
    attributes=[
        Attribute("everything.flag", "bool"),
        *(Attribute(f"everything.{kind}", kind) for kind in ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")),
        Attribute("everything.ratio", "f64"),
        Attribute("everything.outcome", "label", labels=("ok", "not found")),
        Attribute("everything.lease", "hex", 5),
        Attribute("everything.text", "str", 33),
        Attribute("everything.cut", "str", 3),
        Attribute("everything.raw", "bytes", 7),
    ],
    scope_name="everything",
    scope_version="2",
)
LAYOUT_FILE = f"""
import ringbuf
LAYOUT = ringbuf.SpanLayout.from_json({LAYOUT.to_json()!r})
"""
VALUES = {
    "flag": True,
    **{f"i{bits}": -(2 ** (bits - 1)) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": 2**bits - 1 for bits in (8, 16, 32)},
    "u64": 2**63 - 1,
    "ratio": 0.75,
    "outcome": "not found",
    "lease": "deadbeef01",
    "text": "grü",
    "cut": "gr",
    "raw": b"\0\xff",
}


@pytest.fixture
def flags(from_wheel: Environment, debian_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what pkg-config says about the installed library."""
    monkeypatch.setenv("PKG_CONFIG_PATH", from_wheel.ask("ringbuf.get_library_dir() / 'pkgconfig'"))
    monkeypatch.setenv("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
    return shlex.split(run([debian_program("pkg-config"), "--cflags", "--libs", "ringbuf"], cwd=ROOT))


@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_all_values_of_a_native_producer_are_delivered(
    language: str,
    flags: list[str],
    from_wheel: Environment,
    c_compiler: str,
    debian_program: Callable[[str], str],
    tmp_path: Path,
    ring_dir: Path,
) -> None:
    (tmp_path / "layout.py").write_text(LAYOUT_FILE)
    # The environment has what a producer needs, and no more.
    header = from_wheel.python("-m", "ringbuf.layout_c", tmp_path / "layout.py")
    (tmp_path / "everything_layout.h").write_text(header)
    compiler = c_compiler if language == "c11" else debian_program(os.environ.get("CXX", "c++"))
    source: list[str | Path] = ["-x", language[:-2], SOURCE, "-x", "none", f"-I{tmp_path}"]
    run([compiler, f"-std={language}", *STRICT, *source, "-o", tmp_path / "program", *flags], cwd=tmp_path)
    run([tmp_path / "program", ring_dir], cwd=tmp_path)
    output = tmp_path / "spans.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    second, first = spans_in_file(output)
    assert (first.name, second.name) == ("everything.first", "everything.second")
    assert (second.start_time_unix_nano, second.end_time_unix_nano, second.kind) == (1000, 1001, 1)
    assert {pair.key.removeprefix("everything."): value_of(pair.value) for pair in second.attributes} == VALUES
    assert list(first.attributes) == []


def value_of(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
