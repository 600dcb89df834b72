"""Tests of the producer, and of records that become OTLP, gzip or counts, with extensions that two sanitizers watch."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]
PATIENCE = 1800.0  # seconds
# Without those that need what a sanitizer takes for itself: SIGBUS, address space, the compiler's own output.
UNIT = [
    *("any_argument", "attach", "dataplane", "dataplane_errors", "dataplane_sampling", "emitter", "encode_plan"),
    *(
        "encoded_values",
        "encoder",
        "gil",
        "gzip_writers",
        "halves",
        "json_lines",
        "layout",
        "output_buffer",
        "resource",
    ),
    *(
        "ring_directory",
        "ring_life",
        "sampling",
        "shared_emitter",
        "site",
        "span_codes",
        "spans",
        "traceparent",
        "vocabulary",
        "watch",
    ),
]
PROCESS = [
    *("daemonise", "exec", "exit", "finalizers", "fork", "kill", "pools", "reimport", "shared_in_child"),
    *("signal_handlers", "subinterpreters", "threads", "wait_drained"),
]


def paths(kind: str, names: list[str]) -> list[str]:
    """Return where these test files are: of each name there is one."""
    found = []
    for name in names:
        (path,) = (ROOT / "tests" / kind).rglob(f"test_{name}.py")
        found.append(str(path.relative_to(ROOT)))
    return found


SLICE = paths("unit", ["emitter", "spans", "attach", "output_buffer", "span_codes"])
ALL = [
    *paths("unit", UNIT),
    *paths("property", ["copied_records", "direct_gzip", "encoder", "exemplars", "layout", "ring", "span_metrics"]),
    *paths("process", PROCESS),
]


@pytest.fixture(scope="module")
def python(c_compiler: str, missing_debian: Callable[[str], NoReturn]) -> tuple[Path, dict[str, str]]:
    """Return an interpreter that finds such extensions, and the environment that it needs.

    All else it takes from the environment of these tests.
    """
    runtime = Path(printed([c_compiler, "-print-file-name=libasan.so"]).strip())
    if not runtime.is_absolute():
        missing_debian("gcc, whose -fsanitize=address works")
    folder = ROOT / "build" / "asan"
    printed([sys.executable, "-m", "venv", "--without-pip", folder])
    site_packages = Path(
        printed([folder / "bin" / "python", "-Ic", "import sysconfig as s; print(s.get_path('purelib'))"]).strip()
    )
    printed(
        [
            *(sys.executable, "-Im", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-build-isolation", "--upgrade", "--target", site_packages, ROOT),
            *("-C", f"build-dir={folder / 'cmake'}", "-C", "cmake.define.RINGBUF_SANITIZE=address,undefined"),
        ]
    )
    # Only a line of a .pth file: those that lie there, the editable install's among them, are not read.
    (site_packages / "all_else.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python", os.environ | {
        "LD_PRELOAD": str(runtime),
        "PYTHONMALLOC": "malloc",  # else Python's small objects lie unwatched in its own arenas
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={folder / 'report'}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={folder / 'report'}",
    }


def printed(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def run(python: tuple[Path, dict[str, str]], tests: list[str]) -> None:
    interpreter, environment = python
    where = "import ringbuf._hot, sys; print(ringbuf._hot.__file__)"
    found = subprocess.run(
        [interpreter, "-Ic", where], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert "build/asan" in found
    reports = interpreter.parents[1]
    for old in reports.glob("report.*"):
        old.unlink()
    done = subprocess.run(
        [interpreter, "-Im", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    # Of all processes that the tests started, also those whose end nobody looked at.
    assert not [report.read_text() for report in reports.glob("report.*")]
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


def test_the_doors_are_clean(python: tuple[Path, dict[str, str]]) -> None:
    run(python, SLICE)


@pytest.mark.soak
def test_all_of_the_producer_is_clean(python: tuple[Path, dict[str, str]]) -> None:
    run(python, ALL)
