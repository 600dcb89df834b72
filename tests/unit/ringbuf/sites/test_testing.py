"""What tests of other programs use: an emitter in memory, and the fixture of it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import ringbuf
from ringbuf import SpanKind, Status
from ringbuf.testing import InMemoryEmitter
from tests.consumer import rings_in
from tests.python import run

if TYPE_CHECKING:
    import subprocess

LAYOUT = ringbuf.SpanLayout(
    span_names=["get", "put"],
    attributes=[ringbuf.Attribute("bytes", "u64"), ringbuf.Attribute("shard", "hex", 2)],
)


def test_spans_come_back_as_dicts() -> None:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        put = emitter.site("put", constants={"shard": b"\x01\x02"}, varying=["bytes"])
        with emitter.site("get", kind=SpanKind.CLIENT).span() as span:
            put.emit(10, 20, 512, status=Status.ERROR)
        first, second = emitter.finished_spans()
    assert first == {
        "name": "put",
        "kind": SpanKind.INTERNAL,
        "status": Status.ERROR,
        "trace_id": span.trace_id.hex(),
        "span_id": first["span_id"],
        "parent_span_id": span.span_id.hex(),
        "start_unix_nano": 10,
        "end_unix_nano": 20,
        "attributes": {"bytes": 512, "shard": "0102"},
        "events": [],
        "links": [],
        "status_description": "",
    }
    assert (second["name"], second["kind"], second["parent_span_id"]) == ("get", SpanKind.CLIENT, None)


def test_events_links_and_a_description_come_back_too() -> None:
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("parts", "otlp", 600)])
    values = {"text": "é", "yes": True, "less": -5, "ratio": 0.5, "list": [1, "a"], "map": {"k": None}, "raw": b"x"}
    with InMemoryEmitter(layout=layout) as emitter:
        with emitter.site("get").span() as span:
            span.add_event("miss", values, timestamp=1234)
            span.add_link("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", {"why": "cause"})
            span.set_status(Status.ERROR, "corrupt")
        (found,) = emitter.finished_spans()
    assert found["attributes"] == {}
    assert found["events"] == [{"name": "miss", "time_unix_nano": 1234, "attributes": values}]
    assert found["links"] == [
        {
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "span_id": "00f067aa0ba902b7",
            "attributes": {"why": "cause"},
        }
    ]
    assert (found["status"], found["status_description"]) == (Status.ERROR, "corrupt")


def test_spans_stay_until_they_are_cleared_and_after_the_close() -> None:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        get = emitter.site("get")
        get.emit(1, 2)
        emitter.clear()
        get.emit(3, 4)
        assert [span["start_unix_nano"] for span in emitter.finished_spans()] == [3]
        get.emit(5, 6)
    assert [span["start_unix_nano"] for span in emitter.finished_spans()] == [3, 5]


def test_spans_that_found_no_slot_are_not_passed_over_in_silence() -> None:
    with InMemoryEmitter(layout=LAYOUT, capacity=4) as emitter:
        get = emitter.site("get")
        for _ in range(6):
            get.emit(1, 2)
        with pytest.raises(RuntimeError, match="2 spans found none of 4 slots free"):
            emitter.finished_spans()


def test_spans_that_end_after_the_close_are_said_to_and_not_to_have_no_ring() -> None:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        get = emitter.site("get")
        get.emit(1, 2)
    get.emit(3, 4)
    with pytest.raises(RuntimeError, match=r"^1 span ended after the close of the emitter"):
        emitter.finished_spans()


def test_spans_without_a_slot_are_said_after_the_close_too() -> None:
    with InMemoryEmitter(layout=LAYOUT, capacity=4) as emitter:
        for _ in range(5):
            emitter.site("get").emit(1, 2)
    with pytest.raises(RuntimeError, match=r"^1 span found none of 4 slots free"):
        emitter.finished_spans()


def test_an_emitter_whose_ring_cannot_be_read_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    emitter = InMemoryEmitter(layout=LAYOUT)
    folder = emitter._reader._ring_dir
    (folder / "unsound.ring").touch()
    with pytest.raises(ringbuf.RingFormatError):
        emitter.close()
    assert emitter.closed
    assert not folder.exists()


def test_an_emitter_in_memory_leaves_nothing_behind_and_a_child_takes_nothing() -> None:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        path = emitter.stats().path
        assert path is not None
        get = emitter.site("get")
        get.emit(1, 2)
        child = os.fork()
        if child == 0:
            emitter.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(emitter.finished_spans()) == 1
        assert path.exists()
    assert not path.parent.exists()


def test_the_fixture_sees_the_spans_of_each_test(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import ringbuf\n"
        "from ringbuf.dataplane import LeaseId, OpType, site\n"
        "read = site(OpType.FBMU_READ)\n"  # of the shared emitter, at import
        "def serve(count):\n"
        "    for _ in range(count):\n"
        "        read.emit(LeaseId(7), 1, 2)\n"
    )
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ringbuf.testing.fixtures"]\n')
    (tmp_path / "test_shop.py").write_text(
        "import pytest\n"
        "import ringbuf\n"
        "import shop\n"
        "@pytest.mark.parametrize('count', [1, 2])\n"
        "def test_serve(ringbuf_spans, count):\n"
        "    shop.serve(count)\n"
        "    assert len(ringbuf_spans.finished_spans()) == count\n"
        "    assert ringbuf_spans.finished_spans()[0]['name'] == 'grafos.dataplane.fbmu'\n"
        "def test_without_it():\n"
        "    shop.serve(1)\n"
        "def test_one_of_ones_own(ringbuf_spans):\n"
        "    with ringbuf.Emitter('own') as emitter:\n"
        "        shop.read.emit(shop.LeaseId(7), 1, 2)\n"
        "    assert len(ringbuf_spans.finished_spans()) == 1\n"
    )
    arguments = ["-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    done = run("import pytest; sys.exit(pytest.main(sys.argv[1:]))", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


PLUGIN: Final = 'pytest_plugins = ["ringbuf.testing.fixtures"]\n'
CONFIGURED: Final = """
import ringbuf
LAYOUT = ringbuf.SpanLayout(span_names=["work"], attributes=[])
"""
PROGRAMS: Final = {
    "configured at import": CONFIGURED + "work = ringbuf.configure('shop', layout=LAYOUT).site('work')\n",
    "an emitter of its own, at import": CONFIGURED + "work = ringbuf.Emitter('shop', layout=LAYOUT).site('work')\n",
    "configured by each test": CONFIGURED
    + "def begin():\n    global work\n    work = ringbuf.configure('shop', layout=LAYOUT).site('work')\n",
}
TESTS: Final = """
import os, pathlib, pytest, shop
@pytest.mark.parametrize("count", [1, 2])
def test_it(ringbuf_spans, count):
    getattr(shop, "begin", lambda: None)()
    for _ in range(count):
        shop.work.emit(1, 2)
    assert [span["name"] for span in ringbuf_spans.finished_spans()] == ["work"] * count
def test_without_it():
    getattr(shop, "begin", lambda: None)()
    shop.work.emit(1, 2)
    pathlib.Path(__file__).with_name("ring dir").write_text(os.environ["RINGBUF_DIR"])
"""


def result_of(
    folder: Path, ring_dir: Path, *arguments: str, conftest: str = PLUGIN
) -> subprocess.CompletedProcess[str]:
    """Run the tests of a program, as its author does."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_shop.py").write_text(TESTS)
    code = """
import os, pytest
os.environ["RINGBUF_DIR"] = sys.argv[1]
code = pytest.main(sys.argv[2:])
assert os.environ["RINGBUF_DIR"] == sys.argv[1]
sys.exit(code)
"""
    return run(code, ring_dir, "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *arguments, folder)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_fixture_sees_the_spans_of_a_program_that_is(tmp_path: Path, ring_dir: Path, program: str) -> None:
    (tmp_path / "shop.py").write_text(PROGRAMS[program])
    done = result_of(tmp_path, ring_dir)
    # Nor does the end of the process ask for a drain of a ring that was the tests'.
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert not Path((tmp_path / "ring dir").read_text()).exists()
    assert rings_in(ring_dir) == []


@pytest.mark.parametrize(
    ("conftest", "arguments", "says"),
    [
        (f"import shop\n{PLUGIN}", (), "-p ringbuf.testing.fixtures"),
        ("import shop\n", ("-p", "ringbuf.testing.fixtures"), "3 passed"),
        ("from ringbuf.testing.fixtures import ringbuf_spans\nimport shop\n", (), "pytest_plugins = ["),
    ],
)
def test_a_plugin_that_comes_too_late_or_not_at_all_is_told_of(
    tmp_path: Path, ring_dir: Path, conftest: str, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "shop.py").write_text(PROGRAMS["configured at import"])
    done = result_of(tmp_path, ring_dir, *arguments, conftest=conftest)
    assert says in done.stdout, done.stdout + done.stderr


def test_a_record_without_a_kind_is_internal() -> None:
    """Whole records have zero there unless it is set: the drain delivers them."""
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        records = LAYOUT.empty(1)
        emitter.fill_ids(records)
        records["flags"] = 1
        assert emitter.emit_batch(records) == 1
        (found,) = emitter.finished_spans()
    assert found["kind"] is SpanKind.INTERNAL


def test_a_process_that_is_spawned_with_one_ends_without_a_word() -> None:
    """It comes back there without its directory, which is this process's."""
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        code = "import pickle\nemitter = pickle.loads(bytes.fromhex(sys.argv[1]))\nassert not emitter.closed\n"
        done = run(code, pickle.dumps(emitter).hex())
        assert (done.returncode, done.stderr) == (0, "")
        assert emitter.site("get").emit(1, 2)
        assert len(emitter.finished_spans()) == 1
