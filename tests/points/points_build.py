"""A second build of the packages, whose C code has named points: made once for each state of the sources."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("csrc", "ringbuf", "drain")
FOLDER = Path(sys.prefix) / "points"


def state_of_the_sources() -> str:
    """Return a digest of all that goes into the packages."""
    digest = hashlib.sha256(sys.version.encode())
    files = [
        Path(__file__),
        ROOT / "pyproject.toml",
        *(path for source in SOURCES for path in sorted((ROOT / source).rglob("*"))),
    ]
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def points_build() -> Path:
    """Return the folder of the packages with points; it is made if it is not there, and older ones go."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = FOLDER / state_of_the_sources()
        if not built.exists():
            for old in FOLDER.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            part = FOLDER / "part"
            command = [
                *(sys.executable, "-Im", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--no-build-isolation", "--no-compile", "--target", str(part), str(ROOT)),
                *("-C", f"build-dir={FOLDER / 'cmake'}", "-C", "cmake.define.RINGBUF_POINTS=ON"),
                # A quarter of the compiler's time; where a kill comes is named, whatever the compiler does in between.
                *("-C", "cmake.define.CMAKE_C_FLAGS_RELEASE=-O0", "-C", "cmake.define.RINGBUF_HARDEN=OFF"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            part.rename(built)
    return built
