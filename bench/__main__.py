"""`python -m bench`: measure every row beside its peer, print the table, and keep it as JSON and Markdown."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import end_to_end, idle
from bench.encode import ROWS as ENCODE_ROWS
from bench.measure import Figure, take_turns
from bench.results import Result, describe_machine, print_table, write
from bench.rows import ROWS as DOOR_ROWS
from bench.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            _progress(f"end-to-end-{protocol}: the highest rate without loss, then {trials} rounds …")
            results += end_to_end.measure(protocol, trials, seconds)
    if "file" in options.only:
        trials = min(options.rounds, _MOST_TRIALS)
        _progress(f"file: the highest rate without loss, then {trials} rounds …")
        results += end_to_end.measure_file(trials, _FILE_SECONDS)
    if "age" in options.only:
        _progress(f"age: {options.rounds} rounds …")
        results.append(end_to_end.measure_age(min(options.rounds, _MOST_TRIALS), seconds))
    if "idle" in options.only:
        trials = min(options.rounds, _MOST_TRIALS)
        _progress(f"idle: {trials} rounds …")
        results += idle.measure(trials, _IDLE_SECONDS)
    machine["load_after"] = os.getloadavg()[0]
    print_table(results)
    print("Each figure is the median of the rounds [smallest … largest]; each ratio that of the rounds' ratios.")
    if options.output is not None:
        write(results, machine, options.output)
        print(f"Written: {options.output}, {options.output.with_suffix('.md')}")
    return 0


def measure_rows(rows: Iterable[Row], rounds: int) -> list[Result]:
    """Measure rows; those that share probes share their processes and rounds."""
    sets: dict[tuple[str, bool], list[Row]] = defaultdict(list)
    for row in rows:
        sets[row.group, row.is_pinned].append(row)
    results = []
    for (group, is_pinned), members in sets.items():
        names = list(dict.fromkeys(name for row in members for name in (row.ours, row.peer)))
        _progress(f"{group}: {len(names)} probes, {rounds} rounds …")
        # The last processor: interrupts and the rest of the system tend to be on the first.
        found = take_turns(names, rounds, max(os.sched_getaffinity(0)) if is_pinned else None)
        results += [_result(row, found) for row in members]
    return results


def _result(row: Row, found: dict[str, dict[str, Figure] | str]) -> Result:
    ours, peer = found[row.ours], found[row.peer]
    if isinstance(ours, str) or isinstance(peer, str):
        reason = ours if isinstance(ours, str) else str(peer)
        return Result(row.group, row.title, row.peer_title, "ns", row.aim, skipped=reason)
    mine, theirs = ours[row.figure], peer[row.peer_figure]
    ratio = mine.over(theirs) if row.is_limit else theirs.over(mine)
    details = {"ours": ours, "peer": peer}
    return Result(row.group, row.title, row.peer_title, "ns", row.aim, mine, theirs, ratio, details=details)


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


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
