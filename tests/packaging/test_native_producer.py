"""A producer in C11 and in C++17 is built against the installed header and library, and its spans are read back."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.packaging.conftest import Environment

pytestmark = pytest.mark.prove

HERE = Path(__file__).parent
SOURCE = HERE / "native_producer.c"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.26)
project(native LANGUAGES C)
find_package(ringbuf {version} REQUIRED)
add_executable(native_producer {source})
target_link_libraries(native_producer PRIVATE ringbuf::ringbuf)
"""


@pytest.fixture
def flags(from_wheel: Environment, debian_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what pkg-config says about the installed library."""
    pkg_config = debian_program("pkg-config")
    monkeypatch.setenv("PKG_CONFIG_PATH", from_wheel.ask("ringbuf.get_library_dir() / 'pkgconfig'"))
    # Without it pkg-config leaves out a folder that it takes for the system's own.
    monkeypatch.setenv("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
    return shlex.split(run([pkg_config, "--cflags", "--libs", "ringbuf"], cwd=HERE))


def test_c11_producer(
    c_compiler: str, flags: list[str], from_wheel: Environment, tmp_path: Path, ring_dir: Path
) -> None:
    program = tmp_path / "native_producer"
    run([c_compiler, "-std=c11", *STRICT, SOURCE, "-o", program, *flags], cwd=tmp_path)
    assert_spans_are_read_back(program, from_wheel, ring_dir)


def test_cxx17_producer(
    debian_program: Callable[[str], str], flags: list[str], from_wheel: Environment, tmp_path: Path, ring_dir: Path
) -> None:
    program = tmp_path / "native_producer"
    compiler = debian_program(os.environ.get("CXX", "c++"))
    run([compiler, "-std=c++17", *STRICT, "-x", "c++", SOURCE, "-x", "none", "-o", program, *flags], cwd=tmp_path)
    assert_spans_are_read_back(program, from_wheel, ring_dir)


def test_cmake_producer(from_wheel: Environment, tmp_path: Path, ring_dir: Path) -> None:
    programs = Path(sys.executable).parent
    project = CMAKE_PROJECT.format(version=from_wheel.ask("ringbuf.__version__"), source=SOURCE)
    (tmp_path / "CMakeLists.txt").write_text(project)
    prefix = from_wheel.ask("ringbuf.get_include().parent")
    run([programs / "cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"], cwd=tmp_path)
    run([programs / "cmake", "--build", "build"], cwd=tmp_path)
    assert_spans_are_read_back(tmp_path / "build" / "native_producer", from_wheel, ring_dir)


def assert_spans_are_read_back(program: Path, environment: Environment, ring_dir: Path) -> None:
    before = time.time_ns()
    path = run([program, ring_dir, "5"], cwd=ring_dir).strip()
    assert Path(path).parent == ring_dir
    ring = json.loads(environment.python(HERE / "read_ring.py", path))
    assert (ring["ready"], ring["closed"], ring["slot_bytes"]) == (5, 1, 64)
    assert [span["start"] for span in ring["spans"]] == [1000, 1001, 1002, 1003, 1004]
    assert {span["flags"] for span in ring["spans"]} == {0x101}
    assert all(before <= span["end"] <= time.time_ns() for span in ring["spans"])
    assert len({span["span_id"] for span in ring["spans"]} - {"0" * 16}) == 5
