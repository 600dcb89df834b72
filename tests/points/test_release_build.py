"""Named points are nothing in a build without -DRINGBUF_POINTS: the compiler writes the same as without their lines."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from typing import TYPE_CHECKING

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from pathlib import Path

POINT = re.compile(r'^\s*RB_POINT\(\w+\);\n|^#include "shared/point\.h"\n', re.MULTILINE)
CSRC = ROOT / "csrc"
FILES = {str(path.relative_to(CSRC)): path.read_text() for path in CSRC.rglob("*.[ch]")}
HEADERS = [name for name, text in FILES.items() if name.endswith(".h") and POINT.search(text)]
SOURCES = [
    name
    for name, text in sorted(FILES.items())
    if name.endswith(".c") and (POINT.search(text) or any(f'"{header}"' in text for header in HEADERS))
]


def assembly(c_compiler: str, source: str, files: dict[str, str], folder: Path, *flags: str) -> str:
    """Return what the compiler makes of a source among these files."""
    folder.mkdir()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    python = f"-I{sysconfig.get_path('include')}"
    command = [c_compiler, "-O2", "-fPIC", "-std=c11", "-D_GNU_SOURCE", "-I.", python, *flags, "-S", source]
    subprocess.run([*command, "-o", "out.s"], cwd=folder, check=True)
    return (folder / "out.s").read_text()


@pytest.mark.parametrize(
    "source",
    [pytest.param(source, marks=[] if source == "producer/emit.c" else [pytest.mark.prove]) for source in SOURCES],
)
def test_a_release_build_has_no_instruction_of_a_point(source: str, c_compiler: str, tmp_path: Path) -> None:
    bare = {name: POINT.sub("", text) for name, text in FILES.items() if name != "shared/point.h"}
    assert not [name for name, text in bare.items() if "RB_POINT" in text], "a point stands on a line of its own"
    released = assembly(c_compiler, source, FILES, tmp_path / "released")
    assert released == assembly(c_compiler, source, bare, tmp_path / "bare")
    with_points = assembly(c_compiler, source, FILES, tmp_path / "points", "-DRINGBUF_POINTS")
    assert "RINGBUF_KILL_AT" in with_points
    assert "RINGBUF_KILL_AT" not in released
