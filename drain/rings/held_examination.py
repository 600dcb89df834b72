"""What a drain that died of a fault left in the hold: handled by another process first, before anybody waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from drain.sampling.hold.unsafe import Unsafe

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.otlp.request import Encoding

_PAUSES_SECONDS: Final = (1.0, 5.0)  # before it is started again, as `examination` has it
MOST_SECONDS: Final = 300.0
"""For how long a start waits for it; a million spans take some seconds. Where that is not enough, what was found until
then is passed over, and the rest is read: while a start takes no end, all rings fill up."""

# Of all modules only sys is there before the drain's own path is: the working directory is not looked into.
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; import drain.rings.held_examiner as it; it.main()"


def examine_held(
    folder: Path, *, encoding: Encoding, batch_spans: int, rules: Path | None, log: FilteringBoundLogger
) -> dict[str, Unsafe]:
    """Return what of a hold is not to be handled, by file; it takes about a second, and longer where there is any.

    Args:
        folder: of the hold.
        encoding: what the exporter sends.
        batch_spans: how many records are handled in one go, at most.
        rules: the file with those by which the drain decides; None: they are in none.
        log: for trouble.
    """
    job = {
        "folder": str(folder),
        "encoding": encoding,
        "batch_spans": batch_spans,
        "rules": None if rules is None else str(rules),
        "parent": os.getpid(),
    }
    found: dict[str, Unsafe] = {}
    for pause in (*_PAUSES_SECONDS, None):
        try:
            return _verdicts(json.dumps(job).encode())
        except subprocess.TimeoutExpired as error:  # another time it would take as long, and nothing is read meanwhile
            log.warning("the hold cannot be examined in time", reason=str(error))
            found = _read(error.output or b"")
            break
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # no process, no memory, or it died itself
            log.warning("the hold cannot be examined now", reason=str(error))
            if pause is not None:
                time.sleep(pause)
    log.error("the hold is read without examination", but_for_files=len(found))
    return found


def _verdicts(job: bytes) -> dict[str, Unsafe]:
    flags = ["-I"] if sys.flags.isolated else []
    ended = subprocess.run(  # noqa: S603 - this interpreter, and its own path
        [sys.executable, *flags, "-c", _START, *sys.path],
        input=job,
        stdout=subprocess.PIPE,
        timeout=MOST_SECONDS,
        process_group=0,  # Ctrl-C is for the drain
        check=True,
    )
    if ended.stdout != b"\n" and not ended.stdout.endswith(b"\n\n"):
        raise ValueError("its process ended before it had seen all")
    return _read(ended.stdout)


def _read(output: bytes) -> dict[str, Unsafe]:
    """Return the verdicts that were written whole."""
    lines = filter(None, output.split(b"\n")[:-1])
    return {name: Unsafe(frozenset(slots), reason) for name, slots, reason in map(json.loads, lines)}
