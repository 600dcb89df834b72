"""The C library on aarch64: cross-compiled with warnings as errors; its tests and a producer run under qemu-user.

This finds what a compiler, a libc or a kernel interface of that machine has different. It says nothing of its weak
memory order, which the emulator does not reproduce on x86-64: that rests on the pairs of acquire and release that are
named in the code, and on ThreadSanitizer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.draining import run_once, spans_in_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]
NATIVE = ROOT / "docs" / "examples" / "native"
PROGRAMS = Path(sys.executable).parent
LIBRARIES = "/usr/aarch64-linux-gnu"
SECONDS = 60
# What qemu 7.2 in user mode does not do as Linux on aarch64 does, by the test that needs it.
NOT_EMULATED = {
    # Of a seq_cst store and a seq_cst load behind it the load may come first: a C11 program of these two alone finds
    # both threads reading the old value in 1 of 100 rounds, where the language rules it out.
    "doorbell": "the order of a seq_cst store and the load after it",
    "fork_handlers": "MADV_WIPEONFORK: it says yes and does nothing",
    "forks": "MADV_WIPEONFORK: it says yes and does nothing",
    "interrupted": "MADV_WIPEONFORK: it says yes and does nothing",
    "no_populating": "MADV_WIPEONFORK: it says yes and does nothing",
    "replace": "mremap of no bytes, which maps a shared page a second time",
}


@pytest.fixture(scope="module")
def emulator(debian_program: Callable[[str], str]) -> str:
    return debian_program("qemu-aarch64")


@pytest.fixture(scope="module")
def build(debian_program: Callable[[str], str], emulator: str) -> Path:
    """Return a folder in which library and C tests are built for aarch64."""
    folder = ROOT / "build" / "c-aarch64"
    run(
        [
            *(PROGRAMS / "cmake", "-S", ROOT / "csrc", "-B", folder, "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}",
            *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
            f"-DCMAKE_C_COMPILER={debian_program('aarch64-linux-gnu-gcc')}",
            f"-DCMAKE_CROSSCOMPILING_EMULATOR={emulator};-L;{LIBRARIES}",
            *("-DRINGBUF_BUILD_TESTS=ON", "-DRINGBUF_WERROR=ON"),
        ]
    )
    run([PROGRAMS / "cmake", "--build", folder])
    return folder


def test_the_c_tests_pass_but_for_what_is_not_emulated(build: Path) -> None:
    excluded = "|".join(NOT_EMULATED)
    ctest: list[str | Path] = [PROGRAMS / "ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error"]
    out = run([*ctest, "--timeout", str(SECONDS), "-E", f"^({excluded})$"])
    assert "100% tests passed" in out


def test_every_exclusion_is_of_a_test_that_is_there() -> None:
    assert set(NOT_EMULATED) <= {source.stem for source in (ROOT / "tests" / "c").rglob("*.c")}


def test_a_ring_written_on_aarch64_is_drained_here(
    build: Path, emulator: str, debian_program: Callable[[str], str], ring_dir: Path, tmp_path: Path
) -> None:
    compiler = debian_program("aarch64-linux-gnu-gcc")
    source: list[str | Path] = ["-std=c11", "-D_GNU_SOURCE", f"-I{ROOT / 'csrc'}", NATIVE / "copy.c"]
    run([compiler, *source, "-o", tmp_path / "copy", f"-L{build}", "-lringbuf", "-pthread"])
    (tmp_path / "from").write_bytes(b"x" * 100_000)
    environment = {**os.environ, "RINGBUF_DIR": str(ring_dir)}
    run([emulator, "-L", LIBRARIES, tmp_path / "copy", tmp_path / "from", tmp_path / "to"], environment)
    assert (tmp_path / "to").read_bytes() == (tmp_path / "from").read_bytes()
    output = tmp_path / "spans.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    first, second, copy = spans_in_file(output)
    assert [span.name for span in (first, second, copy)] == ["files.chunk", "files.chunk", "files.copy"]
    assert {(span.trace_id, span.parent_span_id) for span in (first, second)} == {(copy.trace_id, copy.span_id)}
    assert {pair.key: pair.value.int_value for pair in second.attributes} == {
        "files.bytes": 100_000 - 65_536,
        "files.offset": 65_536,
    }


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
