"""`ringbuf layout`: where it finds layouts, what it writes, and what it says when there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given

import ringbuf
from drain.tools.layout import Format, _text
from ringbuf.dataplane import DATAPLANE_LAYOUT
from ringbuf.exceptions import RingFormatError
from ringbuf.layout.c_names import identifier
from ringbuf.layout_c import main, to_c_header
from ringbuf.layout_source import load_layout
from tests.nursery import shared
from tests.property.strategies import layouts
from tests.tools.running import invoke

if TYPE_CHECKING:
    import subprocess

LAYOUT = ringbuf.SpanLayout(
    span_names=["kv.get"],
    attributes=[ringbuf.Attribute("kv.bytes", "u64"), ringbuf.Attribute("kv.class", "label", labels=("a", "b"))],
    scope_name="kv",
)
TWO_LAYOUTS = """
import ringbuf
from names import NAMES
ONE = ringbuf.SpanLayout(span_names=NAMES, attributes=[])
class Holder:
    layout = ringbuf.SpanLayout(span_names=["other"], attributes=[])
holder = Holder()
ALIAS = ONE
"""


def ringbuf_layout(*arguments: object) -> subprocess.CompletedProcess[str]:
    return shared().run("ringbuf", "layout", *arguments)


@pytest.fixture
def python_file(tmp_path: Path) -> Path:
    (tmp_path / "names.py").write_text("NAMES = ['from beside']\n")
    path = tmp_path / "layouts.py"
    path.write_text(TWO_LAYOUTS)
    return path


def test_a_module_with_one_layout_needs_no_attribute() -> None:
    assert load_layout("ringbuf.phase219") == DATAPLANE_LAYOUT
    assert load_layout("ringbuf.dataplane:DATAPLANE_LAYOUT") == DATAPLANE_LAYOUT


def test_a_python_file_is_run_as_python_runs_it(python_file: Path) -> None:
    path = list(sys.path)
    assert load_layout(str(python_file)).span_names == ("from beside",)
    assert load_layout(f"{python_file}:ONE").span_names == ("from beside",)
    assert load_layout(f"{python_file}:holder.layout").span_names == ("other",)
    assert sys.path == path


def test_several_layouts_are_told_apart_by_their_names(python_file: Path) -> None:
    python_file.write_text(TWO_LAYOUTS + "SECOND = Holder.layout\n")
    with pytest.raises(ValueError, match=r"several layouts; name one: .*:ONE, .*:ALIAS, .*:SECOND$"):
        load_layout(str(python_file))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nothing-here.py", "no such file"),
        ("nothing here", "no such file, and no name of a module"),
        ("ringbuf.dataplane:NO", "no such attribute"),
        ("ringbuf.dataplane:DATAPLANE_LAYOUT.no", "no such attribute"),
        ("ringbuf.dataplane:OpType", "no SpanLayout"),
        ("ringbuf.exceptions", "no SpanLayout among its globals"),
    ],
)
def test_what_is_no_layout_is_refused_in_words(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_layout(source)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_like_this\n", "layouts.py:1: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("\ndef f(:\n", "layouts.py:2: SyntaxError: invalid syntax"),
        ("def f():\n    return 1 // 0\n\nf()\n", "layouts.py:2: ZeroDivisionError: "),
        ("import sys\nsys.exit(3)\n", "layouts.py:2: SystemExit: 3"),
        ("raise ValueError('one\\ntwo')\n", "layouts.py:1: ValueError: one two"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, code: str, reason: str) -> None:
    path = tmp_path / "layouts.py"
    path.write_text(code)
    done = invoke("layout", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ringbuf: {tmp_path}/{reason}")
    assert done.stderr.count("\n") == 1
    with pytest.raises(ValueError, match=r"layouts\.py:"):
        load_layout(str(path))


def test_of_a_ring_no_more_than_its_header_is_read(tmp_path: Path, ring_dir: Path) -> None:
    with ringbuf.Emitter("kv", ring_dir=ring_dir, layout=LAYOUT, capacity=1 << 16) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert path.stat().st_size > 4 << 20
        before = bytes_read()
        assert load_layout(str(path)) == LAYOUT
        assert bytes_read() - before < 1 << 20
    (tmp_path / "large.json").write_bytes(b" " * (1 << 20))
    with pytest.raises(ValueError, match="larger than a layout can be"):
        load_layout(str(tmp_path / "large.json"))


def bytes_read() -> int:
    """Return how many bytes this process has read from files."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_json_and_rings_have_layouts(tmp_path: Path, ring_dir: Path) -> None:
    (tmp_path / "layout.json").write_bytes(LAYOUT.to_json())
    assert load_layout(str(tmp_path / "layout.json")) == LAYOUT
    with ringbuf.Emitter("kv", ring_dir=ring_dir, layout=LAYOUT) as emitter:
        path = emitter.stats().path
        assert path is not None
        assert load_layout(str(path)) == LAYOUT
        damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    (tmp_path / "damaged.ring").write_bytes(damaged)
    with pytest.raises(RingFormatError, match="CRC-32"):
        load_layout(str(tmp_path / "damaged.ring"))


def test_the_command_writes_what_the_library_gives(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_bytes(LAYOUT.to_json())
    done = ringbuf_layout(tmp_path / "layout.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, to_c_header(LAYOUT), "")
    assert ringbuf_layout(tmp_path / "layout.json", "--name=store").stdout == to_c_header(LAYOUT, "store")
    assert ringbuf_layout(tmp_path / "layout.json", "--format=json").stdout.encode() == LAYOUT.to_json() + b"\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no such"], "no such file, and no name of a module"),
        (["ringbuf.phase219", "--name=rb_x"], "choose another"),
        (["ringbuf.phase219", "--name=x", "--format=json"], "--name is for --format=c"),
    ],
)
def test_usage_errors_end_with_2_and_a_line_that_says_why(arguments: list[str], reason: str) -> None:
    done = ringbuf_layout(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@given(layouts(max_attributes=32))
def test_the_dtype_is_an_expression_of_the_layouts_dtype(layout: ringbuf.SpanLayout) -> None:
    assert eval(_text(layout, Format.DTYPE), {"numpy": np}) == layout.dtype  # noqa: S307 - it is our own text
    assert ringbuf.SpanLayout.from_json(_text(layout, Format.JSON).encode()) == layout


def test_identifiers_leave_out_the_words_that_the_scope_begins_with() -> None:
    header = to_c_header(DATAPLANE_LAYOUT, "dp")
    assert '    uint8_t lease_id[16]; /* "grafos.lease.id", at 72 */' in header
    assert '    DP_OPERATION_FBMU_WRITE = 1, /* "fbmu_write" */' in header
    assert '    DP_NAME_GPU_SESSION = 2, /* "grafos.dataplane.gpu_session" */' in header


@pytest.mark.parametrize("name", ["Kv", "9", "a-b", "", "rb", "rb_x", "a__b"])
def test_a_name_that_is_no_identifier_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="choose another"):
        to_c_header(LAYOUT, name)


def test_without_a_scope_the_header_is_about_spans() -> None:
    layout = ringbuf.SpanLayout(span_names=["…"], attributes=[])
    assert identifier("…") == ""
    assert "typedef struct spans_record {" in to_c_header(layout)


def test_the_producers_own_command_prints_the_same_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ringbuf.phase219", "dp"]) == 0
    assert capsys.readouterr().out == to_c_header(DATAPLANE_LAYOUT, "dp")
    assert main(["no such"]) == 2
    assert main([]) == 2
    assert "LAYOUT is FILE.py or MODULE" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_producers_own_command_has_a_help(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main([option]) == 0
    assert "python -m ringbuf.layout_c LAYOUT [NAME]" in capsys.readouterr().out


def test_a_message_that_does_not_fit_is_left_out_where_a_text_is_cut() -> None:
    attributes = [ringbuf.Attribute("text", "bytes", 5), ringbuf.Attribute("more", "otlp", 5)]
    header = to_c_header(ringbuf.SpanLayout(span_names=["x"], attributes=attributes))
    text, more = (header.split(f"int spans_set_{name}(")[1].split("}")[0] for name in ("text", "more"))
    assert "return 1;" in more
    assert "return 1;" not in text
