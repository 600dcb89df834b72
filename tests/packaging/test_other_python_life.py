"""The life of producers under every other Python that is here, from the wheel or, free-threaded, from the source.

RINGBUF_OTHER_PYTHONS names further interpreters, separated by colons.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Environment
from tests.packaging.test_other_python import OTHER_MINORS, has_stable_abi, installed_pythons

PATIENCE = 500.0  # seconds
IN_CI = [
    *(
        "tests/process/forking/test_fork.py",
        "tests/process/forking/test_subinterpreters.py",
        "tests/process/forking/test_shared_in_child.py",
    ),
    *("-k", "own_ring_and_ids or subinterpreter or configure"),
]
# What needs neither the drain nor OpenTelemetry's SDK, which are not installed there.
PRODUCER = [
    *("test_attach", "test_dataplane", "test_dataplane_errors", "test_emitter", "test_gil", "test_layout"),
    *("test_ring_directory", "test_ring_life", "test_shared_emitter", "test_site", "test_spans", "test_vocabulary"),
]
LIFE = [
    *(
        "test_daemonise",
        "test_exec",
        "test_exit",
        "test_finalizers",
        "test_fork",
        "test_kill",
        "test_pools",
        "test_reimport",
    ),
    *("test_shared_in_child", "test_signal_handlers", "test_subinterpreters", "test_threads", "test_wait_drained"),
]
ALL = [
    str(path.relative_to(ROOT))
    for folder, names in (("unit", PRODUCER), ("process", LIFE))
    for name in names
    for path in (ROOT / "tests" / folder).rglob(f"{name}.py")
]


def other_pythons() -> dict[str, list[str]]:
    """Return where interpreters may be, by version, or by the path that was named; nothing is started to know it."""
    named = [path for path in os.environ.get("RINGBUF_OTHER_PYTHONS", "").split(":") if path]
    found: dict[str, list[str]] = {path: [path] for path in named}
    for minor in OTHER_MINORS:
        for path in installed_pythons(minor):
            folder = Path(path).parent.parent.name
            free_threaded = "t" if folder.startswith("3.") and folder.endswith("t") else ""  # pyenv's 3.13.1t
            found.setdefault(f"3.{minor}{free_threaded}", []).append(path)
    return found


OTHERS = other_pythons()


@pytest.fixture
def interpreter(version: str) -> str:
    """Return an interpreter of the version; a shim for one that is not installed is none."""
    question = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2] + sysconfig.get_config_var('abiflags'))"
    for path in OTHERS[version]:
        done = subprocess.run([path, "-Ic", question], capture_output=True, text=True, check=False)
        if done.returncode == 0 and (version == path or done.stdout.strip() == version):
            return path
        assert version != path, f"RINGBUF_OTHER_PYTHONS: {path} does not run: {done.stderr}"
    pytest.skip(f"none of these is a Python {version} that runs: {OTHERS[version]}")


def test_what_is_run_under_them_is_there() -> None:
    assert sorted(Path(path).stem for path in ALL) == sorted([*PRODUCER, *LIFE])
    assert not [path for path in IN_CI if path.startswith("tests/") and not (ROOT / path).exists()]


def run_under(interpreter: str, tests: list[str], wheel: Path, clone: Path, folder: Path) -> None:
    environment = Environment(folder, interpreter)
    # A free-threaded build has an ABI of its own, for which the source is compiled.
    environment.pip_install(
        wheel if has_stable_abi(interpreter) else clone, "numpy>=1.26", "pytest>=9", "hypothesis>=6.120"
    )
    done = subprocess.run(
        [environment.bin / "python", "-Im", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    version = environment.ask("__import__('sys').version_info[:2]")
    assert version != str(tuple(sys.version_info[:2])) or not has_stable_abi(interpreter)


@pytest.mark.prove
@pytest.mark.skipif(not OTHERS, reason="no other Python here: name some in RINGBUF_OTHER_PYTHONS")
@pytest.mark.parametrize("version", OTHERS)
def test_forks_and_interpreters_under_python(interpreter: str, wheel: Path, clone: Path, tmp_path: Path) -> None:
    run_under(interpreter, IN_CI, wheel, clone, tmp_path)


@pytest.mark.soak
@pytest.mark.skipif(not OTHERS, reason="no other Python here: name some in RINGBUF_OTHER_PYTHONS")
@pytest.mark.parametrize("version", OTHERS)
def test_all_of_a_producers_life_under_python(interpreter: str, wheel: Path, clone: Path, tmp_path: Path) -> None:
    run_under(interpreter, ALL, wheel, clone, tmp_path)
