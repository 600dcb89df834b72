"""`python -m bench`: measure every row beside its peer, print the table, and keep it as JSON and Markdown.

With --beside REV the same code measures another revision of ringbuf in the peers' place, in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.build import RevisionError, build_revision, describe_revision
from bench.cost.encode import ROWS as ENCODE_ROWS
from bench.deliver import end_to_end, idle
from bench.in_turns import measure_rows, progress
from bench.results import describe_machine, print_table, write
from bench.rows import ROWS as DOOR_ROWS
from bench.rows import beside as rows_beside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.build import Build
    from bench.results import Result
    from bench.rows import Row

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
_WITHOUT_PROBES: Final = len(_PROTOCOLS) + 3  # the last groups: their rows are made as they are measured
LATEST: Final = Path(__file__).with_name("results") / "latest.json"


def is_asked_for(row: Row, names: Iterable[str]) -> bool:
    """Whether a row is one of these: by its group, or by a part of its title or of its peer's."""
    return any(row.group == name or (name not in _GROUPS and name in row.title_beside_peer) for name in names)


def main() -> int:
    """Run the benchmark, and return its exit code."""
    options = _options()
    if options.list:
        for row in ROWS:
            if is_asked_for(row, options.only):
                print(f"{row.group:<12} {row.title_beside_peer}")
        print(*(group for group in _GROUPS[-_WITHOUT_PROBES:] if group in options.only), sep="\n")
        return 0
    build = None
    if options.beside is not None:
        progress(f"{options.beside}: built, unless it was before …")
        try:
            build = build_revision(options.beside)
        except RevisionError as error:
            print(f"python -m bench: error: --beside: {error}", file=sys.stderr)
            return 2
    machine = describe_machine()
    machine["revision"] = describe_revision()
    machine["beside"] = "" if build is None else build.name
    machine["rounds"] = options.rounds
    machine["load_before"] = os.getloadavg()[0]
    results = _measure(options, build)
    machine["load_after"] = os.getloadavg()[0]
    print_table(results)
    print("Each figure is the median of the rounds [smallest … largest]; each ratio that of the rounds' ratios.")
    if options.output is not None:
        write(results, machine, options.output)
        print(f"Written: {options.output}, {options.output.with_suffix('.md')}")
    return 0


def _measure(options: argparse.Namespace, build: Build | None) -> list[Result]:
    """Return what was asked for, beside the peers or beside another build."""
    rows = [row for row in ROWS if is_asked_for(row, options.only)]
    results = measure_rows(rows if build is None else rows_beside(rows, build), options.rounds)
    seconds = _QUICK_TRIAL_SECONDS if options.quick else _TRIAL_SECONDS
    trials = min(options.rounds, _MOST_TRIALS)
    for protocol in _PROTOCOLS:
        if f"end-to-end-{protocol}" in options.only:
            progress(f"end-to-end-{protocol}: the highest rate without loss, then {trials} rounds …")
            results += end_to_end.measure(protocol, trials, seconds, build)
    if "file" in options.only:
        progress(f"file: the highest rate without loss, then {trials} rounds …")
        results += end_to_end.measure_file(trials, _FILE_SECONDS, build)
    if "age" in options.only:
        progress(f"age: {trials} rounds …")
        results.append(end_to_end.measure_age(trials, seconds, build))
    if "idle" in options.only:
        progress(f"idle: {trials} rounds …")
        results += idle.measure(trials, _IDLE_SECONDS, build)
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds instead of {_ROUNDS}")
    parser.add_argument("--rounds", type=int, help="so many rounds")
    parser.add_argument(
        "--only",
        nargs="+",
        default=_GROUPS,
        metavar="NAME",
        help=f"these rows, by a part of their titles, or these groups of rows: {', '.join(_GROUPS)}",
    )
    parser.add_argument(
        "--beside",
        metavar="REV",
        help="build this revision of the repository, and measure it in the peers' place: each ratio is how many times "
        "cheaper or faster this checkout is",
    )
    parser.add_argument("--list", action="store_true", help="measure nothing: print what is asked for, by group")
    parser.add_argument(
        "--output", type=Path, help=f"where the JSON goes, and the Markdown beside it ({LATEST}, if all groups run)"
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    if options.rounds < 1:
        parser.error("--rounds must be greater than zero")
    for name in options.only:
        if name not in _GROUPS and not any(is_asked_for(row, [name]) for row in ROWS):
            parser.error(f"--only {name!r} is no group, and in the title of no row: see --list")
    # A part of the rows, or hurried ones, must not take the place of a whole run.
    if options.output is None and not options.quick and set(options.only) == set(_GROUPS):
        options.output = LATEST if options.beside is None else LATEST.with_name("beside.json")
    return options


if __name__ == "__main__":
    sys.exit(main())
