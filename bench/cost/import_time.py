"""What a producer pays before its first span: time of the import, and size of what is installed, beside the SDK.

Measures in turns, each time in a new interpreter, and prints medians with the smallest and the largest. Time is
processor time of the whole process less that of an interpreter that imports nothing, bytecode being cached by a first
round that is not counted. Sizes are of the distributions' files, with those of their dependencies.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PROBES: Final = {
    "nothing": "pass",
    "import ringbuf": "import ringbuf",
    "ringbuf: an emitter and a site": (
        "import logging, ringbuf, tempfile\n"
        "logging.disable()  # it warns that nobody drains\n"
        "layout = ringbuf.SpanLayout(span_names=['x'], attributes=[ringbuf.Attribute('n', 'u64')])\n"
        "with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:\n"
        "    emitter = ringbuf.Emitter('x', layout=layout, ring_dir=folder)\n"
        "    emitter.site('x', varying=['n']).emit(1, 2, 3)\n"
        "    emitter.close()\n"
    ),
    "OpenTelemetry: API": "from opentelemetry import trace",
    "OpenTelemetry: SDK, tracer, span": (
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "with TracerProvider().get_tracer('x').start_as_current_span('x', attributes={'n': 3}): pass\n"
    ),
    "the same, with the OTLP/HTTP exporter": (
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter\n"
        "with TracerProvider().get_tracer('x').start_as_current_span('x', attributes={'n': 3}): pass\n"
    ),
    "the same, with the OTLP/gRPC exporter": (
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter\n"
        "with TracerProvider().get_tracer('x').start_as_current_span('x', attributes={'n': 3}): pass\n"
    ),
}
DISTRIBUTIONS: Final = {
    "ringbuf-spans": "ringbuf-spans",
    "OpenTelemetry SDK": "opentelemetry-sdk",
    "the same, with the OTLP/HTTP exporter": "opentelemetry-exporter-otlp-proto-http",
    "the same, with the OTLP/gRPC exporter": "opentelemetry-exporter-otlp-proto-grpc",
}
_DEFAULT_ROUNDS: Final = 11


def import_milliseconds(rounds: int) -> dict[str, list[float]]:
    """Return the processor time of each probe in milliseconds, by round; `nothing` is subtracted from the others."""
    times: dict[str, list[float]] = {name: [] for name in PROBES}
    for turn in range(rounds + 1):
        taken = {name: _milliseconds(code) for name, code in _rotated(turn)}
        if turn == 0:
            continue  # bytecode and pages were cold
        for name, value in taken.items():
            times[name].append(value if name == "nothing" else value - taken["nothing"])
    return times


def _rotated(turn: int) -> list[tuple[str, str]]:
    probes = list(PROBES.items())
    first = turn % len(probes)
    return probes[first:] + probes[:first]


def _milliseconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def installed_bytes(distribution: str) -> tuple[int, list[str]]:
    """Return the bytes of a distribution's files with those of all that it requires, and their names.

    Bytecode is not counted. An editable install has its modules in the checkout; they are counted there.
    """
    names = sorted(_with_dependencies(distribution, set()))
    return sum(map(_own_bytes, names)), names


def _with_dependencies(name: str, seen: set[str]) -> set[str]:
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name not in seen:
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform or Python
            return seen
        seen.add(name)
        for requirement in required:
            if "extra ==" not in requirement:
                _with_dependencies(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0], seen)
    return seen


def _own_bytes(name: str) -> int:
    found = {file.locate() for file in metadata.files(name) or [] if not str(file).startswith("..")}
    if name == "ringbuf-spans":
        found |= {path for package in ("ringbuf", "drain") for path in (ROOT / package).rglob("*")}
    paths = (Path(str(path)) for path in found)
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.import_time", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=_DEFAULT_ROUNDS, help=f"({_DEFAULT_ROUNDS})")
    rounds = parser.parse_args().rounds
    print("| processor time | ms, median | smallest | largest |\n|---|---|---|---|")
    for name, values in import_milliseconds(rounds).items():
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")
    print("\n| installed | MiB | distributions |\n|---|---|---|")
    for name, distribution in DISTRIBUTIONS.items():
        size, names = installed_bytes(distribution)
        print(f"| {name} | {size / 2**20:.1f} | {len(names)}: {', '.join(names)} |")


if __name__ == "__main__":
    main()
