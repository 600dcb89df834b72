"""ringbuf_site.h costs nothing: its spans take the instructions of the same spans written out by hand."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.consumer import records_in, rings_in
from tests.packaging.conftest import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.prove

SOURCE = ROOT / "tests" / "packaging" / "site_and_hand.c"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
CALLS = 100
# Compilers order the same assignments differently, which saves or costs a move or two.
TOLERANCE = 0.02


@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_spans_by_the_macros_take_no_more_instructions_than_by_hand(
    language: str, c_compiler: str, debian_program: Callable[[str], str], tmp_path: Path, ring_dir: Path
) -> None:
    compiler = c_compiler if language == "c11" else debian_program(os.environ.get("CXX", "c++"))
    program = compiled(compiler, language, SOURCE, tmp_path)
    counts = instructions(debian_program("valgrind"), program, ring_dir)
    for span in ("emit", "span"):
        by_site, by_hand = counts[f"{span}_by_site"], counts[f"{span}_by_hand"]
        assert by_site > 50 * CALLS
        assert by_site <= (1 + TOLERANCE) * by_hand, counts


@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_a_trace_goes_on_through_a_native_process(
    language: str, c_compiler: str, debian_program: Callable[[str], str], tmp_path: Path, ring_dir: Path
) -> None:
    compiler = c_compiler if language == "c11" else debian_program(os.environ.get("CXX", "c++"))
    program = compiled(compiler, language, ROOT / "tests" / "packaging" / "traceparent.c", tmp_path)
    for flags, carried in (("01", 0x301), ("03", 0x303)):
        given = f"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
        status, sent = run([program, ring_dir, given], cwd=tmp_path).split()
        (record,) = records_in(ring_dir)
        own = ringbuf.parse_traceparent(sent)
        assert own is not None
        assert status == "0"
        assert (own.trace_id.hex(), sent[-2:]) == ("4bf92f3577b34da6a3ce929d0e0e4736", flags)
        assert bytes(record["trace_id"]) == own.trace_id
        assert bytes(record["parent_span_id"]).hex() == "00f067aa0ba902b7"
        assert bytes(record["span_id"]) == own.parent_id
        assert (record["flags"], record["kind"]) == (carried, 2)
        for ring in rings_in(ring_dir):
            ring.unlink()
    unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    assert run([program, ring_dir, unsampled], cwd=tmp_path).split()[1].endswith("-00")
    assert len(records_in(ring_dir)) == 0
    status, sent = run([program, ring_dir, "nonsense"], cwd=tmp_path).split()
    assert int(status) < 0
    assert ringbuf.parse_traceparent(sent) is not None
    (record,) = records_in(ring_dir)
    assert not record["parent_span_id"].any()


@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_a_native_process_whose_ring_is_removed_makes_another(
    language: str,
    c_compiler: str,
    debian_program: Callable[[str], str],
    tmp_path: Path,
    ring_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiler = c_compiler if language == "c11" else debian_program(os.environ.get("CXX", "c++"))
    program = compiled(compiler, language, ROOT / "tests" / "packaging" / "removed_ring.c", tmp_path)
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    assert run([program], cwd=tmp_path).split() == [str(path) for path in rings_in(ring_dir)]
    assert len(records_in(ring_dir)) > 0


def compiled(compiler: str, language: str, source: Path, folder: Path) -> Path:
    """Return the program that a source makes, warnings being errors."""
    includes = [f"-I{path}" for path in (ringbuf.get_include(), ROOT / "docs" / "examples" / "native")]
    # Without the option gcc makes one function of two that are the same.
    options = [f"-std={language}", "-x", language[:-2], "-O2", "-fno-ipa-icf", *STRICT, *includes]
    libraries = ["-x", "none", f"-L{ringbuf.get_library_dir()}", "-lringbuf", "-pthread"]
    run([compiler, *options, source, "-o", folder / "program", *libraries], cwd=folder)
    return folder / "program"


def instructions(valgrind: str, program: Path, ring_dir: Path) -> dict[str, int]:
    """Return the instructions of each function, with all that it calls."""
    counts = {}
    for name in ("emit_by_site", "emit_by_hand", "span_by_site", "span_by_hand"):
        collect = [f"--toggle-collect={name}*", "--callgrind-out-file=/dev/null"]
        command: list[str | Path] = [valgrind, "--tool=callgrind", *collect, program, ring_dir]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        collected = re.search(r"Collected : (\d+)", done.stderr)
        assert done.returncode == 0, done.stderr
        assert collected is not None, done.stderr
        counts[name] = int(collected[1])
    return counts
