"""Whose ringbuf a measuring process runs: this checkout's, or that of another revision, which is built for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "build" / "beside"
_SHORT: Final = 10


@dataclass(frozen=True, slots=True)
class Build:
    """A build of ringbuf.

    Attributes:
        name: how tables call it.
        python: the interpreter that imports it.
        folder: where `python -m bench…` is run, so that it finds the benchmark and no other ringbuf.
    """

    name: str
    python: Path
    folder: Path

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the command that runs a module with this build; its folder is `folder`."""
        return [str(self.python), "-m", module, *arguments]


HERE: Final = Build("this checkout", Path(sys.executable), ROOT)


class RevisionError(Exception):
    """A revision that git does not know, or that does not build."""


def build_revision(revision: str, folder: Path = FOLDER) -> Build:
    """Return the build of a revision of this repository, made when it is asked for the first time.

    The benchmark is this checkout's: both sides are measured by the same code. So are the packages that ringbuf
    needs, but for those that its build needs, which pip installs for the time of the build.

    Args:
        revision: what git calls it: a commit, a tag, a branch, HEAD~3.
        folder: of all such builds; each has one of its own, by its commit.

    Raises:
        RevisionError: git does not know it, or it does not build.
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", otherwise=f"git knows no {revision!r}")
    mine = folder / commit
    built = mine / "built"
    if not built.exists():
        shutil.rmtree(mine, ignore_errors=True)
        _install(commit, mine)
        built.touch()
    run = mine / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(ROOT / "bench", run / "bench", ignore=shutil.ignore_patterns("__pycache__", "results"))
    return Build(commit[:_SHORT], _python(mine), run)


def describe_revision() -> str:
    """Return the commit of this checkout, with "-dirty" if it was changed since; "" outside git."""
    try:
        return _git("describe", "--always", "--dirty", f"--abbrev={_SHORT}", "--exclude=*", otherwise="no git")
    except RevisionError:
        return ""


def _install(commit: str, into: Path) -> None:
    """Install a commit's ringbuf into an environment of its own, which finds the packages of this one."""
    source = into / "source"
    source.mkdir(parents=True)
    archive = into / "source.tar"
    _git("archive", f"--output={archive}", commit, otherwise=f"git has no files of {commit}")
    with tarfile.open(archive) as files:
        files.extractall(source, filter="data")
    archive.unlink()
    venv.create(into, with_pip=False, symlinks=True)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(into)}))
    # Behind its own. A folder that a .pth names has its own .pth files unread: this checkout's editable install is one.
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages / "beside.pth").write_text("".join(f"{path}\n" for path in paths))
    command = [sys.executable, "-m", "pip", "--python", str(_python(into)), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps", "--ignore-installed", str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RevisionError(f"{commit} does not build:\n{result.stdout}{result.stderr}")


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _git(*arguments: str, otherwise: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise RevisionError("there is no git")
    result = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RevisionError(f"{otherwise} {result.stderr}".rstrip())
    return result.stdout.strip()
