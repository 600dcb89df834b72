"""A soak, from its first process to its report.

    rage.py SECONDS SEED RINGS STATE FOLDER SMALL_DISKS

Prints the report as JSON; exit code 1 when a promise was broken.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.soak.ledger import CHILDREN, balance
from tests.soak.troubles import Troubles
from tests.soak.world import SoakError, World

MOST_DRAIN_BYTES = 400 << 20
MOST_SECONDS_BETWEEN_TROUBLES = 0.4


def rage(seconds: float, seed: int, rings: Path, state: Path, folder: Path, *, small_disks: bool) -> dict[str, Any]:
    """Do trouble for so long, let everything come home, and return the report."""
    world = World(rings, state, folder, seed)
    troubles = Troubles(world, small_disks=small_disks)
    broken = ""
    began = time.monotonic()
    with world.stack:
        try:
            while time.monotonic() < began + seconds:
                world.look()
                troubles.one()
                pause_ends = time.monotonic() + world.dice.random() * MOST_SECONDS_BETWEEN_TROUBLES
                while time.monotonic() < pause_ends:
                    troubles.take_back()
                    time.sleep(0.01)
            troubles.take_back(all_of_them=True)
            world.look()
            world.calm_down()
            world.come_home()
        except AssertionError as error:
            broken = f"{str(error) or 'an assertion failed'}: {world.last_words()}"
            troubles.take_back(all_of_them=True)
    found = balance(world.ledger, world.arrivals, world.refusals)
    if not broken:
        broken = "; ".join(
            what
            for what, is_so in {
                f"{found.lost} spans lost": found.lost,
                f"{found.invented} spans that nobody wrote": found.invented,
                f"the drain had {world.largest_drain_bytes >> 20} MiB": world.largest_drain_bytes > MOST_DRAIN_BYTES,
            }.items()
            if is_so
        )
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "broken": broken,
        "load": {**world.counts, "forked children": int(world.ledger[:, CHILDREN].sum())},
        "faults": {name: number for name, number in sorted(troubles.done.items()) if name != "nothing"},
        "bad inputs": {"rings wrecked": world.bad_inputs, "spans of theirs that came": world.arrivals.of_bad_rings},
        "spans": asdict(found),
        "drain": {"largest MiB": world.largest_drain_bytes >> 20, "most descriptors": world.most_descriptors},
    }


def main() -> None:
    seconds, seed, rings, state, folder, small_disks = sys.argv[1:]
    report = rage(
        float(seconds), int(seed), Path(rings), Path(state), Path(folder), small_disks=small_disks == "small-disks"
    )
    json.dump(report, sys.stdout, indent=1)
    sys.exit(1 if report["broken"] else 0)


# Run by its name, so that errors are of the classes that others catch.
if __name__ == "__main__":
    raise SystemExit(SoakError("python -c 'from tests.soak.rage import main; main()'"))
