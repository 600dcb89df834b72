"""Builds of the C library and its tests, which all processes that run tests share."""

from __future__ import annotations

import fcntl
import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

ROOT: Final = Path(__file__).parents[1]
TESTS: Final = sorted(source.stem for source in (ROOT / "tests" / "c").rglob("*.c"))
SANITIZERS: Final = {"tsan": "thread", "asan": "address,undefined"}
# The plain one takes less time of the compiler and to run; what is released is under every test in Python.
PLAIN: Final = ("-DCMAKE_C_FLAGS_RELEASE=-O1 -DFEW_ROUNDS", "-DRINGBUF_HARDEN=OFF")
_PROGRAMS: Final = Path(sys.executable).parent  # cmake and ninja come from the extra [test]


@functools.cache
def c_build(name: str, compiler: str, missing: Callable[[str], NoReturn]) -> Path:
    """Return a folder in which the library and its tests are built, warnings being errors.

    Args:
        name: "plain", "release" or one of SANITIZERS.
        compiler: a path.
        missing: is called where the compiler has no such sanitizer.
    """
    sanitize = SANITIZERS.get(name, "")
    if sanitize:
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.c"
            probe.write_text("int main(void) { return 0; }\n")
            link: list[str | Path] = [compiler, f"-fsanitize={sanitize}", probe, "-o", probe.with_suffix("")]
            if subprocess.run(link, capture_output=True, check=False).returncode != 0:
                missing(f"gcc, whose -fsanitize={sanitize} works")
    made = ROOT / "build" / f"c-{name}"
    made.mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as lock:  # of two processes that run these tests, one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(
            [
                *(_PROGRAMS / "cmake", "-S", ROOT / "csrc", "-B", made, "-G", "Ninja"),
                f"-DCMAKE_MAKE_PROGRAM={_PROGRAMS / 'ninja'}",
                f"-DCMAKE_C_COMPILER={compiler}",
                f"-DRINGBUF_SANITIZE={sanitize}",
                *(PLAIN if name == "plain" else ()),
                *("-DRINGBUF_BUILD_TESTS=ON", "-DRINGBUF_WERROR=ON"),
            ]
        )
        run([_PROGRAMS / "cmake", "--build", made, "--target", *TESTS])  # and not what replays inputs of fuzzers
    return made


def run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
