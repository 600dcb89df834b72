"""Drains of before the hold and of now over the same rings, in turn: nothing is lost, sent twice, or quarantined."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.consumer import Consumer
from tests.packaging.conftest import ROOT, run
from tests.service.draining import DrainProcess, numbers_in_file, quarantined, run_once, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.prove

BEFORE: Final = "34538abf83663ed1117e552206e917027c7b85d2"
"""The last revision without a hold."""
BUILT_OF: Final = ("csrc", "ringbuf", "drain", "pyproject.toml", "README.md", "LICENSE")

RULES: Final = """
[sampling]
wait = "1h"
wait_after_root = "1h"
default = "keep"
[[sampling.rule]]
name = "failures"
status = "error"
"""
SPANS: Final = 200  # at a time
PRODUCER: Final = """
import sys
import ringbuf
layout = ringbuf.SpanLayout(span_names=["work"], attributes=[ringbuf.Attribute("number", "u64")], scope_name="test")
with ringbuf.Emitter("shop", ring_dir=sys.argv[1], layout=layout, capacity=4096, lanes=2) as emitter:
    for line in sys.stdin:
        first, upto = map(int, line.split())
        records = layout.empty(upto - first)
        # Drains of before read every other turn: to them the two bits that say what rules ask for are none.
        of_rules = (first // (upto - first) % 2) * 0xC0000000
        records["number"], records["present"], records["flags"] = range(first, upto), 1 | of_rules, 0x101
        records["start_unix_nano"] = records["end_unix_nano"] = range(first, upto)
        emitter.fill_ids(records)
        print(emitter.emit_batch(records), flush=True)
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python with the wheel of that revision, which takes what it depends on from ours."""
    git = shutil.which("git") or "git"
    archive = subprocess.run([git, "-C", ROOT, "archive", BEFORE, *BUILT_OF], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"SKIPPED: no revision {BEFORE[:7]} here: a clone with all of the history has it")
    source, folder = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("wheel-before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(source, filter="data")
    offline = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    # What it does is the same without optimization, and built in a third of the time.
    plain = ("-C", "cmake.build-type=Debug")
    run([sys.executable, "-Im", "pip", "wheel", "--quiet", *offline, *plain, "--wheel-dir", folder, source], cwd=folder)
    (wheel,) = folder.iterdir()
    environment = tmp_path_factory.mktemp("venv-before")
    run([sys.executable, "-Im", "venv", "--without-pip", environment], cwd=folder)
    python = environment / "bin" / "python"
    site = run([python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip()
    shutil.unpack_archive(wheel, site, "zip")
    # A folder alone: what our own installation does to find the checkout is in files that are not read there.
    Path(site, "ours.pth").write_text(sysconfig.get_path("purelib"))
    assert run([python, "-I", "-c", "import ringbuf; print(ringbuf.__file__)"], cwd=folder).startswith(site)
    return python


@pytest.fixture(params=["a producer of before", "a producer of now"])
def producer(request: pytest.FixtureRequest, before: Path, ring_dir: Path) -> Iterator[subprocess.Popen[str]]:
    python = before if request.param == "a producer of before" else sys.executable
    with subprocess.Popen(
        [python, "-I", "-c", PRODUCER, ring_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def pending(ring_dir: Path) -> int:
    (path,) = ring_dir.glob("*.ring")
    with Consumer(path, observe=True) as consumer:
        lanes = [consumer.view(lane) for lane in range(consumer.header.lane_count)]
        return sum(lane.tail - lane.released for lane in lanes)


def emit(producer: subprocess.Popen[str], turn: int) -> None:
    assert producer.stdin is not None
    assert producer.stdout is not None
    producer.stdin.write(f"{turn * SPANS} {(turn + 1) * SPANS}\n")
    producer.stdin.flush()
    assert int(producer.stdout.readline()) == SPANS


def test_rings_go_from_one_to_the_other_and_back(
    producer: subprocess.Popen[str], before: Path, ring_dir: Path, tmp_path: Path
) -> None:
    rules, log = tmp_path / "rules.toml", tmp_path / "log"
    rules.write_text(RULES)
    outputs = [tmp_path / f"{turn}.jsonl" for turn in range(4)]

    def send(turn: int) -> list[str]:
        return ["--exporter", "file", "--output", str(outputs[turn])]

    emit(producer, 0)
    with DrainProcess(log, ring_dir, *send(0), "--sampling", rules) as drain:
        until(lambda: not pending(ring_dir))
        drain.kill()  # all of it waits
    emit(producer, 1)
    run([before, "-Im", "drain", "--ring-dir", ring_dir, "--once", *send(1)], cwd=tmp_path)
    emit(producer, 2)
    assert run_once(log, ring_dir, *send(2), "--sampling", rules) == 0, log.read_text()
    emit(producer, 3)
    producer.communicate()
    run([before, "-Im", "drain", "--ring-dir", ring_dir, "--once", *send(3)], cwd=tmp_path)
    assert quarantined(ring_dir) == {}
    assert not list(ring_dir.glob("*.ring"))
    assert [sorted(numbers_in_file(output)) if output.exists() else [] for output in outputs] == [
        [],
        [*range(SPANS, 2 * SPANS)],
        [*range(SPANS), *range(2 * SPANS, 3 * SPANS)],
        [*range(3 * SPANS, 4 * SPANS)],
    ]
