"""One wheel serves every Python from 3.11 on: another Python of this machine loads the one that is built here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.conftest import Environment

pytestmark = pytest.mark.prove

OTHER_MINORS = [minor for minor in range(20, 10, -1) if minor != sys.version_info.minor]


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="a free-threaded build has an exact ABI")
def test_wheel_loads_in_another_python(wheel: Path, tmp_path: Path) -> None:
    others = (path for minor in OTHER_MINORS for path in installed_pythons(minor) if has_stable_abi(path))
    other = next(others, None)
    if other is None:
        pytest.skip("no other Python from 3.11 on here")
    environment = Environment(tmp_path, other)
    environment.pip_install(wheel)
    assert environment.ask("__import__('sys').version_info[:2]") != str(sys.version_info[:2])
    environment.python(
        "-c", "from ringbuf import _hot, _ringbuf; assert _hot.lib.rb_clock_unix_nano() > _ringbuf.lib.RB_OK"
    )


def installed_pythons(minor: int) -> list[str]:
    """Return the interpreters of a minor version on PATH and among pyenv's, of which PATH has only shims."""
    on_path = shutil.which(f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*([on_path] if on_path else []), *map(str, pyenv.glob(f"versions/3.{minor}.*/bin/python"))]


def has_stable_abi(python: str) -> bool:
    """Return whether the interpreter runs and is no free-threaded build."""
    question = "import sys, sysconfig; sys.exit(bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
    return subprocess.run([python, "-Ic", question], capture_output=True, check=False).returncode == 0
