"""What tools see of the API: type checkers, `inspect`, `dir`, and people who print things."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ringbuf
from ringbuf.dataplane import DATAPLANE_LAYOUT, DataplaneSite, LeaseId, OpType, site
from ringbuf.sites.site import Site

PROGRAM = Path(__file__).with_name("typed_program.py")
LAYOUT = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")], scope_name="kv")


@pytest.mark.prove
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("mypy", ["--strict", "--warn-unused-ignores"]),
        ("basedpyright", ["--level", "error"]),
    ],
)
def test_a_users_program_passes_and_each_wrong_call_fails(tmp_path: Path, module: str, arguments: list[str]) -> None:
    pytest.importorskip(module)
    program = tmp_path / PROGRAM.name
    program.write_text(PROGRAM.read_text())
    configuration = {
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "extraPaths": [str(Path(ringbuf.__file__).parents[1])],  # an editable install is a hook, which it does not run
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(configuration))
    command = [sys.executable, "-m", module, *arguments, program.name]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        (Site.emit, "(self, start_unix_nano, end_unix_nano=None, /, *values, status=None)"),
        (Site.emit_under, "(self, parent, start_unix_nano, end_unix_nano=None, /, *values, status=None)"),
        (Site.span, "(self, /, *values, traceparent=None)"),
        (DataplaneSite.span, "(self, lease, /, *, traceparent=None)"),
    ],
)
def test_what_is_written_in_c_has_the_signature_of_its_types(method: object, signature: str) -> None:
    assert callable(method)
    assert str(inspect.signature(method)) == signature


def test_a_bound_emit_has_a_signature_and_a_docstring(ring_dir: Path) -> None:
    with ringbuf.Emitter("kv", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter:
        get = emitter.site("get", varying=["bytes"])
        assert [*inspect.signature(get.emit).parameters] == ["start_unix_nano", "end_unix_nano", "values", "status"]
        assert (get.emit.__doc__ or "").startswith("Write a span")
    with ringbuf.Emitter("kv", ring_dir=ring_dir, capacity=4) as emitter:
        emit = site(OpType.FBMU_READ, emitter=emitter).emit
        assert [*inspect.signature(emit).parameters][:2] == ["lease", "start_unix_nano"]


@pytest.mark.parametrize("of", [Site, DataplaneSite])
@pytest.mark.parametrize("name", ["emit", "span"])
def test_help_of_a_method_says_what_each_argument_is(of: type, name: str) -> None:
    method = getattr(of, name)
    words = inspect.getdoc(method) or ""
    named = {*inspect.signature(method).parameters} - {"self"}
    assert {each for each in named if f"    {each}: " not in words} == set()


@pytest.mark.parametrize("made", [ringbuf.Emitter, ringbuf.configure])
def test_the_arguments_of_an_emitter_are_known_to_inspect(made: object) -> None:
    assert callable(made)
    assert {"ring_dir", "layout", "capacity", "lanes", "mode"} <= inspect.signature(made).parameters.keys()


def test_dir_lists_what_users_call(ring_dir: Path) -> None:
    assert {name for name in dir(ringbuf) if not name.startswith("_")} == {*ringbuf.__all__} - {"__version__"}
    with ringbuf.Emitter("kv", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter:
        public = [name for name in dir(emitter) if not name.startswith("_")]
        assert public == sorted(public)
        assert {"close", "emit", "site", "stats"} <= {*public}
        assert not {"producer", "owner", "recover", "settle"} & {*public}
        assert {"emit", "emit_under", "span", "name"} <= {*dir(emitter.site("get"))}
        assert {"status", "set_status", "traceparent"} <= {*dir(emitter.site("get").span())}


def test_what_is_printed_says_what_it_is(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter("kv", ring_dir=ring_dir, layout=LAYOUT, capacity=4)
    get = emitter.site("get")
    span = get.span()
    assert repr(emitter) == f"<Emitter 'kv', ring {emitter.stats().path}>"
    assert (repr(get), repr(span)) == ("<Site 'get'>", "<SiteSpan 'get', not entered>")
    with span:
        assert repr(span) == f"<SiteSpan 'get', {span.traceparent}>"
    emitter.close()
    assert repr(emitter) == "<Emitter 'kv', closed>"
    assert repr(LeaseId(7)) == "LeaseId('00000000000000000000000000000007')"
    assert "grafos.bytes" in repr(DATAPLANE_LAYOUT)
