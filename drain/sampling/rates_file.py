"""The rates of the last seconds in a file: thresholds that follow them do not begin anew with the next drain."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drain.sampling.hold.files import read_own, whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.sampling.rates import RateState

_MOST_BYTES: Final = 1 << 20
_MOST_SECONDS: Final = 16  # of one rate
_SECOND: Final = 1_000_000_000


def write_rates(path: Path, states: Mapping[str, RateState]) -> None:
    """Put rates into a file.

    Raises:
        OSError: there is no room; it is as it was.
    """
    content = json.dumps({"boot_id": _boot_id(), "rates": states}).encode()
    with whole_file(path, len(content)) as fd:
        os.pwrite(fd, content, 0)


def read_rates(path: Path, now_nano: int) -> dict[str, RateState]:
    """Return the rates of a file; none where it is not there, of another boot, or not what `write_rates` makes.

    Args:
        path: of it.
        now_nano: CLOCK_MONOTONIC; what lies behind it cannot be.
    """
    try:
        document = json.loads(read_own(path, _MOST_BYTES))
        if document["boot_id"] != _boot_id():
            return {}
        return {str(name): _checked(state, now_nano // _SECOND) for name, state in document["rates"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _checked(state: Any, now: int) -> RateState:
    """Return a state whose seconds are in order.

    Raises:
        ValueError: it is none.
    """
    seconds = [(int(at), float(amount)) for at, amount in state["seconds"][:_MOST_SECONDS]]
    first = None if state["first"] is None else int(state["first"])
    times = [at for at, _ in seconds]
    is_sound = times == sorted(set(times)) and all(0 <= amount < math.inf for _, amount in seconds)
    if not is_sound or (times and (first is None or not 0 <= first <= times[0] or times[-1] > now)):
        raise ValueError("no rate")
    return {"first": first if times else None, "seconds": seconds}


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
