"""Takes the records of one ring until its standard input is closed."""

from __future__ import annotations

import argparse
import select
import sys
import time
from pathlib import Path

from bench.emit.ring import Taker


def main() -> None:
    """Say that it is ready, then take."""
    parser = argparse.ArgumentParser(prog="python -m bench.emit.consumer", description=__doc__)
    parser.add_argument("path", type=Path, help="of the ring")
    parser.add_argument("pause", type=float, help="seconds between two looks; 0: none")
    options = parser.parse_args()
    taker, pause = Taker(options.path), options.pause
    print("ready", flush=True)
    while True:
        if not taker.take() and select.select([sys.stdin], [], [], 0)[0]:
            break
        if pause:
            time.sleep(pause)
    taker.close()


if __name__ == "__main__":
    main()
