"""Builds wheel and sdist once, from a clean copy of the tree, and installs them into environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
NOT_IN_A_CLONE = shutil.ignore_patterns(".git", ".venv", "build", "dist", ".*_cache", ".hypothesis", "__pycache__")
INSTALLS = ("wheel", "sdist", "pip install .", "pip install -e .")


class Environment:
    """A virtual environment, whose programs run in an empty folder and cannot see the checkout."""

    def __init__(self, folder: Path, interpreter: str = sys.executable) -> None:
        run([interpreter, "-m", "venv", folder], cwd=folder)
        self.bin = folder / "bin"
        self.empty = folder / "empty"
        self.empty.mkdir()

    def python(self, *arguments: str | Path) -> str:
        """Run the environment's Python, isolated, and return what it printed."""
        return run([self.bin / "python", "-I", *arguments], cwd=self.empty)

    def ask(self, expression: str) -> str:
        """Return what `import ringbuf` and then the expression give."""
        return self.python("-c", f"import ringbuf; print({expression})").strip()

    def pip_install(self, *arguments: str | Path) -> None:
        self.python("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def run(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Run a program to its end; a failure fails the test with what it wrote."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tree as a fresh clone has it."""
    folder = tmp_path_factory.mktemp("clone") / "ringbuf"
    shutil.copytree(ROOT, folder, ignore=NOT_IN_A_CLONE)
    return folder


@pytest.fixture(scope="session")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that the tree builds."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run([sys.executable, "-Im", "pip", "wheel", *offline, "--wheel-dir", folder, clone], cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source distribution that the tree builds."""
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-Im", "build", "--sdist", "--no-isolation", "--outdir", folder, clone], cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel, for tests to which the way of installing makes no difference."""
    environment = Environment(tmp_path_factory.mktemp("venv"))
    environment.pip_install(wheel)
    return environment


@pytest.fixture(scope="session", params=INSTALLS)
def installed(
    request: pytest.FixtureRequest,
    from_wheel: Environment,
    sdist: Path,
    clone: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    """Return an environment with nothing but this package and what it depends on, for each way to install it."""
    if request.param == "wheel":
        return from_wheel
    environment = Environment(tmp_path_factory.mktemp("venv"))
    if request.param == "sdist":
        environment.pip_install(sdist)
    else:
        folder = tmp_path_factory.mktemp("clone") / "ringbuf"
        shutil.copytree(clone, folder, ignore=NOT_IN_A_CLONE)
        environment.pip_install(*(["--editable"] if "-e" in request.param else []), folder)
    return environment


@pytest.fixture(scope="session")
def wheel_tag() -> str:
    """Return the compatibility tag that the wheel must have on this interpreter and machine."""
    platform = sysconfig.get_platform().replace("-", "_")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # No stable ABI for free-threaded Python before 3.15.
        version = f"cp{sys.version_info.major}{sys.version_info.minor}"
        return f"{version}-{version}t-{platform}"
    return f"cp311-abi3-{platform}"
