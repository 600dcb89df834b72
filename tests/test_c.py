"""Runs every C test of tests/c in a build that is quickly made, in one as released, and with the sanitizers."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cmake
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
TESTS = sorted(source.stem for source in (ROOT / "tests" / "c").rglob("*.c"))
SLOW = {"close_race"}
PROGRAMS = Path(sys.executable).parent  # cmake and ninja come from the extra [test]
CTEST = Path(cmake.CMAKE_BIN_DIR) / "ctest"  # what is beside them is a Python that starts this
SANITIZERS = {"tsan": "thread", "asan": "address,undefined"}
# The plain one takes less time of the compiler and to run; what is released is under every test in Python.
PLAIN = ("-DCMAKE_C_FLAGS_RELEASE=-O1 -DFEW_ROUNDS", "-DRINGBUF_HARDEN=OFF")
BUILDS = ["plain", *(pytest.param(name, marks=pytest.mark.prove) for name in ("release", *SANITIZERS))]


@pytest.fixture(scope="session", params=BUILDS)
def build(
    request: pytest.FixtureRequest,
    c_compiler: str,
    missing_debian: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a folder in which the C tests are built, warnings being errors."""
    sanitize = SANITIZERS.get(request.param, "")
    if sanitize:
        probe = tmp_path_factory.mktemp("probe") / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        link: list[str | Path] = [c_compiler, f"-fsanitize={sanitize}", probe, "-o", probe.with_suffix("")]
        if subprocess.run(link, capture_output=True, check=False).returncode != 0:
            missing_debian(f"gcc, whose -fsanitize={sanitize} works")
    folder = ROOT / "build" / f"c-{request.param}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # of two processes that run these tests, one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(
            [
                *(PROGRAMS / "cmake", "-S", ROOT / "csrc", "-B", folder, "-G", "Ninja"),
                f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}",
                f"-DCMAKE_C_COMPILER={c_compiler}",
                f"-DRINGBUF_SANITIZE={sanitize}",
                *(PLAIN if request.param == "plain" else ()),
                *("-DRINGBUF_BUILD_TESTS=ON", "-DRINGBUF_WERROR=ON"),
            ]
        )
        run([PROGRAMS / "cmake", "--build", folder, "--target", *TESTS])  # and not what replays inputs of fuzzers
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.prove] if name in SLOW else []) for name in TESTS]
)
def test_c(name: str, build: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))  # a test that aborts leaves its ring
    run([CTEST, "--test-dir", build, "--output-on-failure", "--no-tests=error", "-R", f"^{name}$"])


def run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
