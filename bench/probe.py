"""Runs one probe in a process of its own, round by round, as the parent asks.

`python -m bench.probe NAME [CPU]`: answers each line on standard input with one line of JSON on standard output, the
figures of one round by name, in nanoseconds per operation unless the name says otherwise. It ends with its input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from bench.measure import Round, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Probe = Callable[[], AbstractContextManager[Round]]


_MODULES: Final = {
    "ringbuf": "bench.emit.ours",
    "sdk": "bench.emit.sdk",
    "native": "bench.emit.native",
    "lttng": "bench.emit.lttng",
    "encode": "bench.cost.encode",
    "numpy": "bench.emit.limits",
    "cffi": "bench.emit.limits",
}


def probe(name: str) -> Probe:
    """Return a probe by its name; only its family's libraries are imported."""
    found: Probe = import_module(_MODULES[name.partition(".")[0]]).PROBES[name]
    return found


def main() -> None:
    """Answer rounds until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.probe", description=__doc__)
    parser.add_argument("name", help="of the probe, as bench/rows.py has it")
    parser.add_argument("cpu", nargs="?", type=int, help="the processor that it is pinned to")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    try:
        with probe(options.name)() as run_round:
            run_round()  # warm up: imports, caches, branch predictors
            print(json.dumps({"ready": True}), flush=True)
            for _line in sys.stdin:
                print(json.dumps(run_round()), flush=True)
    except Skipped as reason:
        print(json.dumps({"skipped": str(reason)}), flush=True)


if __name__ == "__main__":
    main()
