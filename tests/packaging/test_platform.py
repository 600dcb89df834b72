"""On a system that the ring cannot work on the C library is refused in words, and Python programs run without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Environment, run

CMAKE = Path(sys.executable).parent / "cmake"


@pytest.mark.parametrize(("system", "processor"), [("FreeBSD", "x86_64"), ("Linux", "riscv64"), ("Linux", "i686")])
def test_other_system_is_a_clear_error(system: str, processor: str, tmp_path: Path) -> None:
    target = [f"-DCMAKE_SYSTEM_NAME={system}", f"-DCMAKE_SYSTEM_PROCESSOR={processor}"]
    configure: list[str | Path] = [CMAKE, "-S", ROOT / "csrc", "-B", tmp_path, *target]
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert f"ringbuf runs on Linux on x86_64 and aarch64 only; this is {system} on {processor}" in message


@pytest.mark.prove
def test_without_a_compiler_the_package_installs_and_programs_run(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.delenv("RINGBUF_REQUIRED")
    offline = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    option = ("-C", "cmake.define.RINGBUF_EXTENSION=OFF")
    run(
        [sys.executable, "-Im", "pip", "wheel", *offline, *option, "--wheel-dir", tmp_path / "wheel", clone],
        cwd=tmp_path,
    )
    (wheel,) = (tmp_path / "wheel").iterdir()
    (tmp_path / "venv").mkdir()
    environment = Environment(tmp_path / "venv")
    environment.pip_install(wheel)
    code = "import ringbuf.dataplane as d; s = d.site(d.OpType.FBMU_READ); print(s.emit(d.LeaseId(7), 1, 2), s.name)"
    assert environment.python("-c", code) == "False grafos.dataplane.fbmu\n"
