"""What a run found: as JSON, as a table for people, as Markdown for the documents."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench.measure import Figure

_HEAD: Final = ("what", "ours", "beside", "peer", "ratio", "aim")
_COMMAND: Final = "make bench ARGS='--only …'"
_PACKAGES: Final = ("ringbuf-spans", "opentelemetry-sdk", "numpy", "cffi", "grpcio", "urllib3", "isal")


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its figures.

    Attributes:
        group: of the row.
        title: what was measured.
        peer_title: beside whom.
        unit: "ns" or "ms" (a time), "%" (of a core) or "MB": less is better; "spans/s" (a rate): more is.
        aim: of the ratio, in words.
        ours: our figure.
        peer: the peer's.
        ratio: how many times cheaper or faster we are; of a limit, how many times the limit we need.
        skipped: why there is no figure.
        details: other figures of the two probes.
    """

    group: str
    title: str
    peer_title: str
    unit: str
    aim: str
    ours: Figure | None = None
    peer: Figure | None = None
    ratio: Figure | None = None
    skipped: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table: each figure as median [smallest … largest]."""
        if self.ours is None or self.peer is None or self.ratio is None:
            return (self.title, "-", self.peer_title, "-", f"skipped: {self.skipped}", self.aim)
        return (
            self.title,
            _shown(self.ours, self.unit),
            self.peer_title,
            _shown(self.peer, self.unit),
            f"{_digits(self.ratio.median)} [{_digits(self.ratio.low)} … {_digits(self.ratio.high)}]",
            self.aim,
        )


def print_table(results: list[Result]) -> None:
    """Print the results: with rich on a terminal, as plain text elsewhere."""
    rows = [result.cells() for result in results]
    if sys.stdout.isatty():
        table = Table(show_lines=False)
        for at, name in enumerate(_HEAD):
            table.add_column(name, justify="left" if at in (0, 2) else "right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    for row in (_HEAD, *rows):
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def markdown(results: list[Result], machine: dict[str, Any]) -> str:
    """Return the results as a table of Markdown under a line about the machine."""
    found = (
        f"{machine['cpu']}, {machine['cpus']} cores, {machine['system']}, Python {machine['python']}",
        f"OpenTelemetry SDK {machine['packages'].get('opentelemetry-sdk', '-')}",
        f"{machine['when']}",
        f"{machine['rounds']} rounds",
        f"load average {machine['load_before']:.1f} before, {machine['load_after']:.1f} after",
    )
    head = (*_HEAD, _COMMAND)
    lines = ["; ".join(found) + ".", "", "| " + " | ".join(head) + " |", "|" + len(head) * "---|"]
    lines += ["| " + " | ".join((*result.cells(), f"`{result.group}`")) + " |" for result in results]
    return "\n".join(lines) + "\n"


def write(results: list[Result], machine: dict[str, Any], to: Path) -> None:
    """Write the results as JSON, and beside it as Markdown."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps({"machine": machine, "rows": [asdict(result) for result in results]}, indent=1) + "\n")
    to.with_suffix(".md").write_text(markdown(results, machine))


def describe_machine() -> dict[str, Any]:
    """Return what a reader must know to compare the figures."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "compiler": _first_line(["cc", "--version"]),
        "packages": packages,
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
    }


def _first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.partition("\n")[0]


def _shown(figure: Figure, unit: str) -> str:
    scale, name = 1.0, unit
    if unit == "ns" and figure.median >= 10_000:
        scale, name = 1e-3, "µs"
    low, middle, high = (_digits(scale * value) for value in (figure.low, figure.median, figure.high))
    return f"{middle} {name} [{low} … {high}]"


def _digits(value: float) -> str:
    """Return three digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
