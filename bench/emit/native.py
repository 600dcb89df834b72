"""The C doors: native.c, compiled against the installed header and library as a user's program would be."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ringbuf
from bench.measure import ProbeError, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measure import Round

SOURCE: Final = Path(__file__).with_name("native.c")
_MODES: Final = ("memcpy", "batch_memcpy", "emit", "held", "batch", "begun", "clocked", "emit_beside_consumer")
_END_SECONDS: Final = 30.0


def compile_c(source: Path, program: Path, flags: list[str], libraries: list[str]) -> Path:
    """Compile one C file; return the program.

    Raises:
        Skipped: there is no C compiler.
        ProbeError: it does not compile.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Skipped("no C compiler; set CC")
    command: list[str | Path] = [
        compiler,
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        *flags,
        source,
        "-o",
        program,
        *libraries,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProbeError(result.stderr)
    return program


@contextmanager
def rounds_of(command: list[str | Path], environment: dict[str, str] | None = None) -> Iterator[Round]:
    """Run a program that answers each line of its input with the figure of one round."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    to, answers = process.stdin, process.stdout

    def run_round() -> dict[str, float]:
        to.write("\n")
        to.flush()
        answer = answers.readline()
        if not answer:
            raise ProbeError(f"{command[0]} ended")
        return {"ns": float(answer)}

    try:
        yield run_round
    finally:
        try:
            process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def native(mode: str) -> Iterator[Round]:
    """Measure one mode of native.c, which inherits where this process is pinned."""
    with (
        tempfile.TemporaryDirectory(prefix="ringbuf-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as ring_dir,
    ):
        flags = [f"-I{ringbuf.get_include()}"]
        libraries = [f"-L{ringbuf.get_library_dir()}", "-lringbuf", "-pthread"]
        program = compile_c(SOURCE, Path(folder) / "native", flags, libraries)
        with rounds_of([program, mode, ring_dir]) as run_round:
            yield run_round


PROBES: Final = {f"native.{mode}": functools.partial(native, mode) for mode in _MODES}
