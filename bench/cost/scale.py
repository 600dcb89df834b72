"""How cost and rate grow with rings, producers, capacity and slot size; and the sizing rule, put to the test.

`python -m bench.cost.scale` prints tables; `--write` also puts them into bench/results/scale.json and docs/scale.svg.
The curves are of C (scale.c): what Python adds does not depend on any of these.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import ringbuf
from bench.cost.encode import records
from bench.deliver.end_to_end import Sink, drain
from bench.deliver.sender import paced
from bench.emit.native import compile_c
from bench.measure import Figure
from drain.otlp.encoder import Encoder
from drain.otlp.gzip_members import gzip
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, site

SOURCE: Final = Path(__file__).with_name("scale.c")
RESULTS: Final = Path(__file__).parents[1] / "results" / "scale.json"
CURVES: Final[dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]]] = {
    # curve: scale.c's mode, its points, the figures that a point gives
    "capacity": ("burst", tuple(1 << n for n in range(10, 19)), ("emit ns", "take ns")),
    "slot_bytes": ("burst", (128, 256, 512, 1024), ("emit ns", "take ns")),
    "rings": ("burst", tuple(1 << n for n in range(9)), ("emit ns", "take ns", "idle look ns")),
    "clocks": ("clocks", (1,), ("CLOCK_REALTIME ns", "CLOCK_MONOTONIC ns", "bare TSC ns")),
    "producers": ("many", tuple(1 << n for n in range(7)), ("spans/s", "drops/s", "emit ns", "take ns")),
}
PICTURE: Final = Path(__file__).parents[2] / "docs" / "scale.svg"
# Three that differ in lightness, too, on white and on black.
_LINES: Final = ("#3b82f6", "#d97706", "#8b949e")
_FONT_POINTS: Final = 9  # a phone shows the picture in about its own size
DRAWN: Final = ("capacity", "slot_bytes", "rings", "producers")
_CAPACITY: Final = 8192
_SLOT_BYTES: Final = 128
_RATE: Final = 200_000.0
_STALL_SECONDS: Final = 0.5
# What a record waits in the ring beside a stall: the batch delay, a request and the drain's nap. docs/performance.md
_TURN_SECONDS: Final = 0.15


def curve(name: str, program: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure one curve; the rounds go over all its points in turn."""
    mode, points, titles = CURVES[name]
    found: dict[int, list[list[float]]] = {point: [] for point in points}
    for _ in range(rounds):
        for point in points:
            found[point].append(_run(program, mode, name, point))
    return [
        {
            "point": point,
            **{title: Figure.of(values) for title, values in zip(titles, zip(*all_of, strict=True), strict=False)},
        }
        for point, all_of in found.items()
    ]


def _run(program: Path, mode: str, name: str, point: int) -> list[float]:
    slot_bytes = point if name == "slot_bytes" else _SLOT_BYTES
    capacity = {"capacity": point, "rings": 1024}.get(name, _CAPACITY)
    count = point if name in ("rings", "producers") else 1
    with tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as ring_dir:
        command: list[str | Path] = [program, mode, ring_dir, str(slot_bytes), str(capacity), str(count)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in result.stdout.split()]


def stages(rounds: int) -> dict[str, Figure]:
    """Measure what the drain does to a span, stage by stage: ns of processor time, and bytes on the wire."""
    spans = records(8192)
    encoder = Encoder(DATAPLANE_LAYOUT, {"service.name": "bench"})
    body = packed = b""
    found: dict[str, list[float]] = {"encode ns": [], "gzip ns": [], "bytes": [], "bytes, gzip": []}
    for _ in range(rounds):
        encode_nano = gzip_nano = 0
        for _ in range(20):
            begin = time.thread_time_ns()
            body = encoder.encode(spans).body
            middle = time.thread_time_ns()
            packed = gzip(body)
            gzip_nano += time.thread_time_ns() - middle
            encode_nano += middle - begin
        found["encode ns"].append(encode_nano / (20 * len(spans)))
        found["gzip ns"].append(gzip_nano / (20 * len(spans)))
        found["bytes"].append(len(body) / len(spans))
        found["bytes, gzip"].append(len(packed) / len(spans))
    return {title: Figure.of(values) for title, values in found.items()}


def capacity_for(rate: float, stall_seconds: float) -> int:
    """Return the sizing rule's capacity: the power of two that holds what comes while the drain stalls.

    Args:
        rate: spans a second, of one lane.
        stall_seconds: the longest time for which the drain may not run.
    """
    needed = int(rate * (stall_seconds + _TURN_SECONDS))
    return max(4, 1 << (needed - 1).bit_length())


def sizing(rounds: int) -> list[dict[str, Any]]:
    """Stop a drain in the middle for a while, with the capacity of the rule and with less; count what is dropped."""
    rows = []
    by_rule = capacity_for(_RATE, _STALL_SECONDS)
    for capacity in (by_rule, by_rule // 2, by_rule // 4):
        dropped = [_dropped(capacity) for _ in range(rounds)]
        rows.append({"capacity": capacity, "by rule": capacity == by_rule, "dropped": Figure.of(dropped)})
    return rows


def _dropped(capacity: int) -> float:
    with ExitStack() as cleanup:
        ring_dir = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = cleanup.enter_context(Sink("http", keeps=False))
        pid = cleanup.enter_context(drain(ring_dir, "otlp-http", "--endpoint", sink.endpoint))
        emitter = cleanup.enter_context(ringbuf.Emitter("bench", ring_dir=ring_dir, capacity=capacity))
        emit, lease = site(OpType.FBMU_READ, emitter=emitter).emit, LeaseId(7)

        def burst(count: int) -> None:
            for _ in range(count):
                emit(lease, 1, 2, 4096)

        paced(burst, _RATE, 2.0)
        before = emitter.stats().full
        os.kill(pid, signal.SIGSTOP)
        try:
            paced(burst, _RATE, _STALL_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        paced(burst, _RATE, 1.0)
        lost = emitter.stats().full - before
        emitter.wait_drained(30.0)
        return float(lost)


def _shown(value: object) -> str:
    if isinstance(value, Figure):
        return f"{value.median:,.3g}" if value.median < 1000 else f"{value.median:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table of medians."""
    titles = list(rows[0])
    lines = [titles, ["---:"] * len(titles), *([_shown(row[title]) for title in titles] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(curves: dict[str, list[dict[str, Any]]], to: Path) -> None:
    """Draw the four curves one below the other, as wide as a phone, the spread of the rounds as a band.

    Args:
        curves: by name, as results/scale.json has them: each figure is [median, low, high].
        to: the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "ringbuf"  # ids that do not change from run to run
    figure, axes = plt.subplots(len(curves), 1, figsize=(4.8, 2.7 * len(curves)), layout="constrained")
    labels = {
        "capacity": "capacity, slots of 128 bytes",
        "slot_bytes": "slot, bytes",
        "rings": "rings",
        "producers": "producers (2 processors)",
    }
    for plot, (name, rows) in zip(axes.flat, curves.items(), strict=True):
        points = [row["point"] for row in rows]
        shown = ("spans/s",) if name == "producers" else CURVES[name][2]
        for title, colour in zip(shown, _LINES, strict=False):
            median, low, high = zip(*(row[title] for row in rows), strict=True)
            plot.plot(points, median, marker="o", ms=3, color=colour, label=title)
            plot.fill_between(points, low, high, color=colour, alpha=0.2)
        plot.set_xscale("log", base=2)
        plot.set_xlabel(labels[name], fontsize=_FONT_POINTS)
        plot.tick_params(labelsize=_FONT_POINTS)
        plot.set_ylim(bottom=0)
        plot.legend(frameon=False, fontsize=_FONT_POINTS)
        plot.spines[["top", "right"]].set_visible(False)
    picture = io.StringIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    plt.close(figure)
    to.write_text(follow_the_reader(picture.getvalue()))


def follow_the_reader(picture: str) -> str:
    """Return a picture of matplotlib whose background, text and axes are dark or light as the reader's browser is."""
    style = (
        "text,.ink{fill:#1f2328}.page{fill:#fff}.axis{stroke:#59636e}"
        "@media (prefers-color-scheme:dark){text,.ink{fill:#f0f6fc}.page{fill:#0d1117}.axis{stroke:#9198a1}}"
    )
    picture = re.sub(r' style="fill: #ffffff"', ' class="page"', picture)
    picture = re.sub(r' style="fill: none; stroke: #000000', ' class="axis" style="fill: none', picture)
    # The marks of axes are defined once with the black that they have, and used with it again.
    picture = re.sub(r'style="stroke: #000000; ', 'class="axis" style="', picture)
    return picture.replace("</style>", f"{style}</style>", 1)


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each point (5)")
    parser.add_argument("--only", nargs="+", choices=[*CURVES, "stages", "sizing"], help="these parts")
    parser.add_argument("--write", action="store_true", help=f"to {RESULTS} and docs/scale.svg")
    parser.add_argument("--draw", action="store_true", help=f"measure nothing: draw docs/scale.svg from {RESULTS.name}")
    options = parser.parse_args()
    if options.draw:
        _draw_what_is_written()
        return 0
    parts = options.only or [*CURVES, "stages", "sizing"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ringbuf-bench-") as folder:
        libraries = [f"-L{ringbuf.get_library_dir()}", "-lringbuf", "-pthread"]
        program = compile_c(SOURCE, Path(folder) / "scale", [f"-I{ringbuf.get_include()}"], libraries)
        for part in parts:
            print(f"{part}: {options.rounds} rounds …", file=sys.stderr, flush=True)
            if part == "stages":
                found[part] = [{"figure": title, "value": value} for title, value in stages(options.rounds).items()]
            elif part == "sizing":
                found[part] = sizing(min(3, options.rounds))
            else:
                found[part] = curve(part, program, options.rounds)
            print(f"\n{part}\n\n{table(found[part])}\n", flush=True)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            json.dumps(found, indent=1, default=lambda figure: [figure.median, figure.low, figure.high]) + "\n"
        )
        if set(DRAWN) <= found.keys():
            _draw_what_is_written()
    return 0


def _draw_what_is_written() -> None:
    written = json.loads(RESULTS.read_text())
    draw({name: written[name] for name in DRAWN}, PICTURE)


if __name__ == "__main__":
    sys.exit(main())
