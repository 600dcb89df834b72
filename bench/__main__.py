"""`python -m bench`: measure every row beside its peer, print the table, and keep it as JSON and Markdown."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from bench.deliver import end_to_end, idle
from bench.cost.encode import ROWS as ENCODE_ROWS
from bench.in_turns import measure_rows, progress
from bench.results import describe_machine, print_table, write
from bench.rows import ROWS as DOOR_ROWS

ROWS: Final = (*DOOR_ROWS, *ENCODE_ROWS)
_ROUNDS: Final = 11
_QUICK_ROUNDS: Final = 3
_PROTOCOLS: Final = ("http", "grpc")
_MOST_TRIALS: Final = 5  # each takes some seconds, and all must hold
_TRIAL_SECONDS: Final = 3.0
_QUICK_TRIAL_SECONDS: Final = 1.0
_FILE_SECONDS: Final = 1.0  # about 550 bytes a span
_IDLE_SECONDS: Final = 10.0
_GROUPS: Final = (
    *dict.fromkeys(row.group for row in ROWS),
    *(f"end-to-end-{protocol}" for protocol in _PROTOCOLS),
    "file",
    "age",
    "idle",
)
LATEST: Final = Path(__file__).with_name("results") / "latest.json"


def main() -> int:
    """Run the benchmark, and return its exit code."""
    options = _options()
    machine = describe_machine()
    machine["rounds"] = options.rounds
    machine["load_before"] = os.getloadavg()[0]
    results = measure_rows([row for row in ROWS if row.group in options.only], options.rounds)
    seconds = _QUICK_TRIAL_SECONDS if options.quick else _TRIAL_SECONDS
    for protocol in _PROTOCOLS:
        if f"end-to-end-{protocol}" in options.only:
            trials = min(options.rounds, _MOST_TRIALS)
            progress(f"end-to-end-{protocol}: the highest rate without loss, then {trials} rounds …")
            results += end_to_end.measure(protocol, trials, seconds)
    if "file" in options.only:
        trials = min(options.rounds, _MOST_TRIALS)
        progress(f"file: the highest rate without loss, then {trials} rounds …")
        results += end_to_end.measure_file(trials, _FILE_SECONDS)
    if "age" in options.only:
        progress(f"age: {options.rounds} rounds …")
        results.append(end_to_end.measure_age(min(options.rounds, _MOST_TRIALS), seconds))
    if "idle" in options.only:
        trials = min(options.rounds, _MOST_TRIALS)
        progress(f"idle: {trials} rounds …")
        results += idle.measure(trials, _IDLE_SECONDS)
    machine["load_after"] = os.getloadavg()[0]
    print_table(results)
    print("Each figure is the median of the rounds [smallest … largest]; each ratio that of the rounds' ratios.")
    if options.output is not None:
        write(results, machine, options.output)
        print(f"Written: {options.output}, {options.output.with_suffix('.md')}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds instead of {_ROUNDS}")
    parser.add_argument("--rounds", type=int, help="so many rounds")
    parser.add_argument("--only", nargs="+", choices=_GROUPS, default=_GROUPS, help="these groups of rows")
    parser.add_argument(
        "--output", type=Path, help=f"where the JSON goes, and the Markdown beside it ({LATEST}, if all groups run)"
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    if options.rounds < 1:
        parser.error("--rounds must be greater than zero")
    # A part of the rows, or hurried ones, must not take the place of a whole run.
    if options.output is None and not options.quick and set(options.only) == set(_GROUPS):
        options.output = LATEST
    return options


if __name__ == "__main__":
    sys.exit(main())
