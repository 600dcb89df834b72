"""What a run of whole folders does not even make is what its marks deselect."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.python import ROOT

# In these a file, a function and a parameter are marked, and all parameters of one function.
FOLDERS = ("tests/points", "tests/service/rings", "tests/fleet")


def ids_of(*paths: str) -> list[str]:
    command = [sys.executable, "-Im", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in collected.splitlines() if "::" in line]


@pytest.mark.prove
def test_the_same_tests_are_run_of_folders_and_of_files_that_are_named() -> None:
    files = [str(path.relative_to(ROOT)) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("test_*.py"))]
    of_folders = ids_of(*FOLDERS)
    assert len(of_folders) > 50
    assert sorted(of_folders) == sorted(ids_of(*files))
