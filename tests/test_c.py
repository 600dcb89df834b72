"""Runs every C test of tests/c in a build that is quickly made, in one as released, and with the sanitizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cmake
import pytest

from tests.c_build import SANITIZERS, TESTS, c_build, run

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW = {"close_race"}
CTEST = Path(cmake.CMAKE_BIN_DIR) / "ctest"  # what is beside them is a Python that starts this
BUILDS = ["plain", *(pytest.param(name, marks=pytest.mark.prove) for name in ("release", *SANITIZERS))]


@pytest.fixture(scope="session", params=BUILDS)
def build(request: pytest.FixtureRequest, c_compiler: str, missing_debian: Callable[[str], NoReturn]) -> Path:
    """Return a folder in which the C tests are built."""
    return c_build(request.param, c_compiler, missing_debian)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.prove] if name in SLOW else []) for name in TESTS]
)
def test_c(name: str, build: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))  # a test that aborts leaves its ring
    run([CTEST, "--test-dir", build, "--output-on-failure", "--no-tests=error", "-R", f"^{name}$"])
