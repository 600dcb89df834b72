"""Takes the records of one ring until its standard input is closed. `python -m bench.emit.consumer PATH PAUSE_SECONDS`."""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

from bench.emit.ring import Taker


def main() -> None:
    """Say that it is ready, then take."""
    taker, pause = Taker(Path(sys.argv[1])), float(sys.argv[2])
    print("ready", flush=True)
    while True:
        if not taker.take() and select.select([sys.stdin], [], [], 0)[0]:
            break
        if pause:
            time.sleep(pause)
    taker.close()


if __name__ == "__main__":
    main()
