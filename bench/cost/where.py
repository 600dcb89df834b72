"""Where the instructions of a span go, function by function: `python -m bench.cost.where [emit|span|drain]`.

Runs a loop under callgrind twice, the second time twice as long; the difference is what the loop itself takes, with the
start of the interpreter left out. A count is the same on a busy machine. Needs Debian's valgrind.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from bench.measure import clean_environment

_SPANS: Final = 4000
_SHOWN: Final = 20
_LOOPS: Final = {
    "emit": "for _ in range(count): emit(lease, start, end, 4096)",
    "span": "for _ in range(count):\n    with read.span(lease) as span: span.nbytes = 4096",
    "drain": "for _ in range(count // 1000): gzip(encoder.encode(spans[:1000]).body)",
}
_PROGRAM: Final = """
import sys, tempfile, ringbuf
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, site
from bench.cost.encode import records
from drain.otlp.encoder import Encoder
from drain.otlp.gzip_members import gzip
count = int(sys.argv[1])


def loop(emitter):
    read, lease = site(OpType.FBMU_READ, emitter=emitter), LeaseId(7)
    emit, spans = read.emit, records(1000)
    start, end = 1_700_000_000_000_000_000, 1_700_000_000_000_001_500  # an int of 30 bits is another path
    encoder = Encoder(DATAPLANE_LAYOUT, {"service.name": "where"})
    {loop}


with (
    tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
    ringbuf.Emitter("where", ring_dir=folder, capacity=16384) as emitter,
):
    loop(emitter)
"""
_LINE: Final = re.compile(r"^\s*([\d,]+) \([\s\d.]+%\)\s+(.*?)(?: \[(.*)\])?$")


def counts(loop: str, spans: int, folder: Path) -> Counter[str]:
    """Return instructions by function of a run that makes so many spans."""
    program = folder / "program.py"
    program.write_text(_PROGRAM.replace("{loop}", _LOOPS[loop].replace("\n", "\n    ")))
    out = folder / f"{spans}.out"
    run = [sys.executable, str(program)]
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *run, str(spans)]
    environment = {
        **clean_environment(),
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(Path.cwd()),
    }
    subprocess.run([*run, "0"], check=True, capture_output=True, env=environment)  # else the first compiles all modules
    subprocess.run(command, check=True, capture_output=True, env=environment)
    annotate = ["callgrind_annotate", "--threshold=100", str(out)]
    text = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    found: Counter[str] = Counter()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and "PROGRAM TOTALS" not in line:
            number, function, library = match.groups()
            name = function.rpartition(":")[2]
            found[f"{name} ({Path(library or '').name or '?'})"] += int(number.replace(",", ""))
    return found


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.where", description=__doc__)
    parser.add_argument("loops", nargs="*", choices=[[], *_LOOPS], metavar="LOOP", help=f"{', '.join(_LOOPS)} (all)")
    loops = parser.parse_args().loops
    if shutil.which("valgrind") is None:
        parser.error("needs Debian's valgrind")
    for loop in loops or _LOOPS:
        with tempfile.TemporaryDirectory(prefix="ringbuf-bench-") as folder:
            difference = counts(loop, 2 * _SPANS, Path(folder))
            difference.subtract(counts(loop, _SPANS, Path(folder)))
        total = sum(difference.values()) / _SPANS
        print(
            f"\n{loop}: {total:,.0f} instructions a span\n\n| instructions | share | function |\n| ---: | ---: | --- |"
        )
        for function, number in difference.most_common(_SHOWN):
            print(f"| {number / _SPANS:,.1f} | {100 * number / _SPANS / total:.0f} % | {function} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
