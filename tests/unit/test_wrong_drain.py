"""Another project's package `drain` is refused by name, and none of its code is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.python import run

if TYPE_CHECKING:
    from pathlib import Path

# The hook of an editable install would come before every folder.
BEGIN = """
import importlib.machinery, ringbuf.commands
sys.meta_path[:] = [importlib.machinery.PathFinder]
sys.path.insert(0, sys.argv[1])
sys.argv = [sys.argv[2], "--version"]
"""


@pytest.mark.parametrize(("command", "function"), [("ringbuf-drain", "drain"), ("ringbuf", "tools")])
def test_a_drain_of_another_project_is_refused_and_not_run(tmp_path: Path, command: str, function: str) -> None:
    package = tmp_path / "drain"
    package.mkdir()
    (package / "__init__.py").write_text("print('run')\n")
    (package / "__main__.py").write_text("def main(): print('run')\n")
    done = run(f"{BEGIN}ringbuf.commands.{function}()", tmp_path, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"{command}: the package `drain` that is found first is not ringbuf's: {package}/__init__"
    )
    assert "pip uninstall drain" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_of_that_name_and_what_is_left_of_an_installation_are_refused(tmp_path: Path) -> None:
    (tmp_path / "drain").mkdir()
    done = run(f"{BEGIN}sys.path[:] = sys.path[:1]\nringbuf.commands.drain()", tmp_path, "ringbuf-drain")
    assert (done.returncode, "drain has no __init__.py" in done.stderr) == (2, True)


def test_no_drain_at_all_says_how_to_get_it(tmp_path: Path) -> None:
    done = run(f"{BEGIN}sys.path[:] = []\nringbuf.commands.tools()", tmp_path, "ringbuf")
    assert (done.returncode, "there is none" in done.stderr) == (2, True)


@pytest.mark.parametrize("function", ["drain", "tools"])
def test_ours_is_run(function: str) -> None:
    done = run(f"import ringbuf.commands, ringbuf\nsys.argv = ['x', '--version']\nringbuf.commands.{function}()")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
