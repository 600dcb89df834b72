"""Where there is no extension, or no ring can be made: programs run, spans are counted, one warning says so."""

from __future__ import annotations

import inspect
import runpy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf._ringbuf import ffi, lib
from ringbuf.log import wait_until_told
from tests.python import output_of, run

if TYPE_CHECKING:
    from tests.unit.doors import Shared

# As a wheel for another system has it: Python files alone, and what os has there.
HIDDEN = """
import importlib.util, os, pathlib, sys, warnings
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name in ("ringbuf._ringbuf", "ringbuf._hot", "ringbuf._site"):
            place = pathlib.Path(sys.modules["ringbuf"].__file__).with_name(name.partition(".")[2] + ".py")
            return importlib.util.spec_from_file_location(name, place)
        if name.partition(".")[0] == "numpy" and not HAS_NUMPY:
            raise ModuleNotFoundError("no numpy here", name="numpy")
HAS_NUMPY = "numpy" in sys.modules
sys.meta_path.insert(0, Hiding())
import ringbuf
getpid = os.getpid
for name in ("getuid", "uname", "O_TMPFILE", "sched_getaffinity", "fork"):
    delattr(os, name)
"""
PROGRAM = """
import asyncio, pickle
from ringbuf import SpanKind, Status
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from ringbuf.log import wait_until_told
layout = ringbuf.SpanLayout(
    span_names=["get"],
    attributes=[ringbuf.Attribute("bytes", "u64"), ringbuf.Attribute("out", "label", labels=["a"], error_labels=["a"])],
    record_errors=True,
)
assert ringbuf.SpanLayout.from_json(layout.to_json()) == layout
emitter = ringbuf.Emitter("kv", layout=layout)
get = emitter.site("get", kind=SpanKind.SERVER, constants={"out": "a"}, varying=["bytes"])
assert get.emit(1, 2, 512, status=Status.ERROR) is False
assert get.emit_under(None, 1, 2, 512) is False
for wrong in (lambda: get.emit(), lambda: get.emit(1, 2, 3, 4), lambda: get.emit(1, 2, 3, statsu=1)):
    try:
        wrong()
    except TypeError:
        pass
    else:
        raise AssertionError(wrong)
with get.span() as outer:
    outer["bytes"] = 1
    outer.status = Status.OK
    assert ringbuf.current_traceparent() == outer.traceparent
    with get.span(7) as inner:
        assert (inner.trace_id, inner.status) == (outer.trace_id, Status.UNSET)
try:
    with get.span(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") as span:
        assert span.traceparent.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        raise KeyError
except KeyError:
    assert span.status is Status.ERROR
@get.wrap
async def work():
    return ringbuf.current_span() is not None
assert asyncio.run(work())
try:
    site(OpType.FBMU_READ).span()
except TypeError as error:
    assert "lease" in str(error)
else:
    raise AssertionError
stats = emitter.stats()
assert (stats.attempts, stats.local, stats.path, stats.capacity) == (6, 6, None, 0), stats
assert pickle.loads(pickle.dumps(emitter)) is emitter
repr(emitter), repr(get), repr(span), dir(emitter)
read = site(OpType.FBMU_READ)
read.emit(LeaseId(7), 1, 2, 4096, Outcome.HIT)
with read.span(LeaseId(7)) as span:
    span.outcome = Outcome.MISS
    assert (span.outcome, span.nbytes) == (Outcome.MISS, None)
assert ringbuf.get_emitter().stats().local == 2
wait_until_told(60)
emitter.close()
print("ran")
"""
RECORDS = """
os.environ.pop("RINGBUF_REQUIRED")
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT, DataplaneSpanKind, OpType, Outcome, ResourceKind, build_dataplane_span,
    build_dataplane_span_from_traceparent, emit_dataplane_span, emit_dataplane_span_from_traceparent,
)
header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
values = dict(lease_id=7, resource_kind=ResourceKind.MEM, operation=OpType.FBMU_READ, outcome=Outcome.OK,
              start_unix_nano=1, end_unix_nano=2)
kind = DataplaneSpanKind.FBMU
emitter = ringbuf.Emitter("kv")
record = build_dataplane_span(kind, **values)
under = build_dataplane_span_from_traceparent(header, kind, **values)
assert bytes(under["trace_id"]).hex() == header[3:35]
assert record["trace_id"].any() and record["span_id"].any()
assert emitter.emit(record) is False
assert emitter.emit_batch(numpy.array([record, under], DATAPLANE_LAYOUT.dtype)) == 0
records = DATAPLANE_LAYOUT.empty(3)
emitter.fill_ids(records)
assert len({bytes(one) for one in records["span_id"]}) == 3
for cannot in (records[::2], numpy.frombuffer(records.tobytes(), records.dtype)):
    try:
        emitter.fill_ids(cannot)
    except TypeError as error:
        assert "contiguous" in str(error)
    else:
        raise AssertionError
assert emitter.stats().local == 3
assert emit_dataplane_span(kind, **values, trace_flags=0) is False
assert emit_dataplane_span(kind, **values, trace_id=bytes([7] * 16)) is False
assert emit_dataplane_span_from_traceparent(header, kind, **values) is False
assert ringbuf.get_emitter().stats().local == 3
emitter.close()
print("ran")
"""


def test_without_the_extension_a_program_runs_and_is_told_once() -> None:
    done = run(HIDDEN + "os.environ.pop('RINGBUF_REQUIRED')\n" + PROGRAM)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert done.stderr.count("no extension") == 2, "one for each emitter\n" + done.stderr


# The hook of an editable install would come before every folder.
ELSEWHERE = """
import importlib.machinery as of
sys.meta_path[:] = [of.BuiltinImporter, of.FrozenImporter, of.PathFinder]
sys.path.insert(0, sys.argv[1])
from ringbuf._ringbuf import lib
print(lib.WHY_NO_RING)
"""


@pytest.mark.parametrize("is_source", [True, False])
def test_the_source_tree_is_told_from_a_build_without_the_extension(tmp_path: Path, *, is_source: bool) -> None:
    """Who runs a program in a clone gets the clone's folder `ringbuf`, not the package that is installed."""
    shutil.copytree(Path(ringbuf.__file__).parent, tmp_path / "ringbuf", ignore=shutil.ignore_patterns("*.so"))
    if is_source:
        (tmp_path / "csrc").mkdir()
        (tmp_path / "csrc" / "ringbuf.h").touch()
    told = output_of(ELSEWHERE, tmp_path)
    source = (
        f"{tmp_path} is ringbuf's source, which has no extension: leave that folder for the one that is installed\n"
    )
    assert (told == source) == is_source
    assert is_source or told.startswith("this build of ringbuf has no extension: a ring needs Linux")


@pytest.mark.parametrize(("command", "function"), [("ringbuf-drain", "drain"), ("ringbuf", "tools")])
def test_the_commands_say_that_there_is_nothing_for_them_here(command: str, function: str) -> None:
    done = run(f"{HIDDEN}import ringbuf.commands\nringbuf.commands.{function}()")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{command}: ")
    assert "has no extension" in done.stderr
    assert done.stderr.count("\n") == 1


TESTED = """
from ringbuf.testing import InMemoryEmitter
layout = ringbuf.SpanLayout(span_names=["get"], attributes=[])
emitter = InMemoryEmitter(layout=layout)
assert emitter.finished_spans() == []
emitter.site("get").emit(1, 2)
try:
    emitter.finished_spans()
except RuntimeError as error:
    print(error)
emitter.close()
"""


def test_spans_that_had_no_ring_are_no_empty_list_to_a_test() -> None:
    told = output_of(HIDDEN + "os.environ.pop('RINGBUF_REQUIRED')\n" + TESTED)
    assert told.startswith("1 span had no ring to be read back from: ")
    assert "has no extension" in told


def test_the_fixture_skips_where_there_is_no_ring(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ringbuf.testing.fixtures"]\n')
    (tmp_path / "test_it.py").write_text("def test_it(ringbuf_spans):\n    ringbuf_spans.finished_spans()\n")
    code = "import pytest\nsys.exit(pytest.main(['-q', '-rs', '-p', 'no:cacheprovider', sys.argv[1]]))\n"
    done = run(HIDDEN + code, tmp_path)
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "has no extension" in done.stdout


def test_without_the_extension_whole_records_are_counted_too() -> None:
    """On a Mac with numpy, where a program that emits arrays is written."""
    done = run("import numpy\n" + HIDDEN + RECORDS)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_where_a_ring_is_required_its_lack_is_an_error() -> None:
    code = "try:\n    ringbuf.Emitter('kv')\nexcept ringbuf.RingCreateError as error:\n    print(error)\n"
    assert "has no extension" in output_of(HIDDEN + code)


def test_the_stand_in_has_the_numbers_of_the_header() -> None:
    stand_in = runpy.run_path(str(Path(inspect.getfile(ringbuf)).with_name("_ringbuf.py")))
    numbers = [name for name in dir(stand_in["lib"]) if name.startswith("RB_")]
    assert len(numbers) > 30
    assert {name: getattr(stand_in["lib"], name) for name in numbers} == {name: getattr(lib, name) for name in numbers}
    fields = [(name, field.offset, ffi.sizeof(field.type)) for name, field in ffi.typeof("rb_record").fields]
    core = stand_in["ffi"].typeof("rb_record").fields
    assert [(name, field.offset, field.type.nbytes) for name, field in core] == fields
    counts = [name for name, _ in ffi.typeof("rb_producer_stats").fields]
    assert {*stand_in["Producer"]().counts} == {*counts}


def test_the_stand_in_has_what_the_extension_tells_its_users() -> None:
    site: Any = ringbuf._site
    stand_in = runpy.run_path(str(Path(inspect.getfile(ringbuf)).with_name("_site.py")))
    assert {name for name in dir(site) if not name.startswith("__")} <= stand_in.keys()
    for kind in ("Site", "Span", "Parent", "SpanValue"):
        missing = {name for name in dir(getattr(site, kind)) if not name.startswith("__")} - {*dir(stand_in[kind])}
        assert not missing, kind


SIGNATURES = """
import inspect
from ringbuf.dataplane import DATAPLANE_LAYOUT, OpType, site
for one in (site(OpType.FBMU_READ), ringbuf.get_emitter().site(DATAPLANE_LAYOUT.span_names[0])):
    for name in ("emit", "emit_under", "span"):
        print(name, inspect.signature(getattr(one, name)))
"""


def test_a_site_shows_its_arguments_as_the_extensions_does(ring_dir: Path) -> None:
    with_it = output_of("import ringbuf" + SIGNATURES, ring_dir)
    assert "emit (start_unix_nano, end_unix_nano=None, /, *values, status=None)" in with_it
    assert output_of(HIDDEN + SIGNATURES, ring_dir) == with_it


@pytest.mark.parametrize("module", ["emitter", "shared"])
def test_where_no_ring_can_be_made_one_warning_says_so(
    module: str,
    process: Shared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("RINGBUF_REQUIRED")
    (tmp_path / "file").touch()
    make = ringbuf.Emitter if module == "emitter" else ringbuf.configure
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[])
    emitter = make("kv", ring_dir=tmp_path / "file" / "rings", layout=layout)
    for _ in range(3):
        assert not emitter.site("get").emit(1, 2)
    with pytest.raises(ValueError, match="capacity"):
        make("kv", ring_dir=tmp_path, capacity=7)
    wait_until_told(60)
    assert caplog.text.count("no ring in process") == 1
    assert emitter.stats().local == 3
    emitter.close()


def test_a_producer_of_single_spans_needs_no_numpy(ring_dir: Path) -> None:
    code = """
import sys
class NoNumpy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
sys.meta_path.insert(0, NoNumpy())
import ringbuf
from opentelemetry.sdk.trace import TracerProvider
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.otel import RingSpanProcessor
from ringbuf.testing import InMemoryEmitter
layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
with InMemoryEmitter(layout=layout) as emitter:
    get = emitter.site("get", varying=["bytes"])
    get.emit(1, 2, 512)
    with get.span() as span:
        span["bytes"] = 7
    assert len(emitter.finished_spans()) == 2
with ringbuf.Emitter("grafos", ring_dir=sys.argv[1]) as emitter:
    read = site(OpType.FBMU_READ, emitter=emitter)
    assert read.emit(LeaseId(7), 1, 2)
    try:
        emitter.layout.dtype
    except ImportError as error:
        assert "ringbuf-spans[numpy]" in str(error), error
    else:
        raise AssertionError
provider = TracerProvider(shutdown_on_exit=False)
processor = RingSpanProcessor(ring_dir=sys.argv[1])
provider.add_span_processor(processor)
provider.get_tracer("shop").start_span("sale", attributes={"text": "x" * 9000}).end()
assert [emitter.stats().published for emitter in processor.emitters] == [0, 1]
assert "numpy" not in sys.modules
processor.shutdown()
"""
    output_of(code, ring_dir)
