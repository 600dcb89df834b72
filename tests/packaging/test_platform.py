"""A system that the ring cannot work on is refused in words, before a compiler is looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

CMAKE = Path(sys.executable).parent / "cmake"


@pytest.mark.parametrize(("system", "processor"), [("FreeBSD", "x86_64"), ("Linux", "riscv64"), ("Linux", "i686")])
def test_other_system_is_a_clear_error(system: str, processor: str, tmp_path: Path) -> None:
    target = [f"-DCMAKE_SYSTEM_NAME={system}", f"-DCMAKE_SYSTEM_PROCESSOR={processor}"]
    configure: list[str | Path] = [CMAKE, "-S", ROOT / "csrc", "-B", tmp_path, *target]
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert f"ringbuf runs on Linux on x86_64 and aarch64 only; this is {system} on {processor}" in message
