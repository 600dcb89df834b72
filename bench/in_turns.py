"""Measures rows: ours and the peer in turns, in the same rounds."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from bench.measure import Figure, Side, take_turns
from bench.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.rows import Row


def measure_rows(rows: Iterable[Row], rounds: int) -> list[Result]:
    """Measure rows; those that share probes share their processes and rounds."""
    sets: dict[tuple[str, bool], list[Row]] = defaultdict(list)
    for row in rows:
        sets[row.group, row.is_pinned].append(row)
    results = []
    for (group, is_pinned), members in sets.items():
        sides = list(dict.fromkeys(side for row in members for side in _sides(row)))
        progress(f"{group}: {len(sides)} probes, {rounds} rounds …")
        # The last processor: interrupts and the rest of the system tend to be on the first.
        found = take_turns(sides, rounds, max(os.sched_getaffinity(0)) if is_pinned else None)
        results += [_result(row, found) for row in members]
    return results


def _sides(row: Row) -> tuple[Side, Side]:
    return Side(row.ours), Side(row.peer, row.peer_build)


def _result(row: Row, found: dict[Side, dict[str, Figure] | str]) -> Result:
    ours, peer = (found[side] for side in _sides(row))
    if isinstance(ours, str) or isinstance(peer, str):
        reason = ours if isinstance(ours, str) else str(peer)
        return Result(row.group, row.title, row.peer_title, "ns", row.aim, skipped=reason)
    mine, theirs = ours[row.figure], peer[row.peer_figure]
    ratio = mine.over(theirs) if row.is_limit else theirs.over(mine)
    details = {"ours": ours, "peer": peer}
    return Result(row.group, row.title, row.peer_title, "ns", row.aim, mine, theirs, ratio, details=details)


def progress(text: str) -> None:
    """Say on standard error what is going on, since a row takes seconds."""
    print(text, file=sys.stderr, flush=True)
