"""Counts the instructions of the hot C functions with callgrind, and compares them with the committed counts.

Prints them; `--check` fails when one is above bench/cost/instructions.json by more than the tolerance; `--write`
replaces that file, also after an improvement, lest it be lost unnoticed. Unlike a time, a count is the same on a busy
machine; another compiler or C library changes it a little.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import ringbuf
from bench.emit.native import compile_c
from bench.measure import ProbeError, Skipped
from ringbuf._ringbuf import lib

SOURCE: Final = Path(__file__).with_name("instructions.c")
COMMITTED: Final = Path(__file__).with_name("instructions.json")
FUNCTIONS: Final = (
    "rb_emit",
    "rb_lane_emit",
    "rb_span_begin",
    "rb_emit_batch",
    "rb_encode_protobuf",
    "rb_encode_json",
    *(["rb_gzip_segment"] if lib.rb_gzip_is_supported() else []),
    "rb_traces_look",
)
CSRC: Final = Path(__file__).parents[2] / "csrc"  # the drain's own headers are not installed
TOLERANCE: Final = 0.1
_COLLECTED: Final = re.compile(r"Collected : (\d+)")


def count_instructions() -> dict[str, float]:
    """Return the instructions per span of each function, with all that it calls.

    Raises:
        Skipped: there is no valgrind, or no C compiler.
        ProbeError: the program fails.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise Skipped("needs Debian's valgrind")
    with (
        tempfile.TemporaryDirectory(prefix="ringbuf-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as ring_dir,
    ):
        libraries = [f"-L{ringbuf.get_library_dir()}", "-lringbuf", "-pthread"]
        program = compile_c(
            SOURCE, Path(folder) / "instructions", [f"-I{ringbuf.get_include()}", f"-I{CSRC}"], libraries
        )
        return {name: _count(valgrind, program, name, folder, ring_dir) for name in FUNCTIONS}


def regressions(counts: dict[str, float], committed: dict[str, float]) -> list[str]:
    """Return, in words, which counts are above the committed ones by more than the tolerance."""
    return [
        f"{name}: {count:.1f} instructions a span, {committed[name]:.1f} are committed"
        for name, count in counts.items()
        if count > (1 + TOLERANCE) * committed[name]
    ]


def _count(valgrind: str, program: Path, name: str, folder: str, ring_dir: str) -> float:
    command = [
        *(valgrind, "--tool=callgrind", f"--toggle-collect={name}", f"--callgrind-out-file={folder}/{name}.out"),
        *(str(program), name, ring_dir),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    collected = _COLLECTED.search(result.stderr)
    if result.returncode != 0 or collected is None or int(collected[1]) == 0:
        raise ProbeError(f"{name}: {result.stderr}")
    return int(collected[1]) / int(result.stdout)


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.instructions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when one is above what is committed")
    parser.add_argument("--write", action="store_true", help=f"put them into {COMMITTED.name}")
    options = parser.parse_args()
    counts = count_instructions()
    for name, count in counts.items():
        print(f"{name:<20} {count:8.1f} instructions a span")
    if options.write:
        COMMITTED.write_text(json.dumps({name: round(count, 1) for name, count in counts.items()}, indent=2) + "\n")
    if options.check:
        wrong = regressions(counts, json.loads(COMMITTED.read_text()))
        print("\n".join(wrong) or "none is above what is committed")
        return 1 if wrong else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
