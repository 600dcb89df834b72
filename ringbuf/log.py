"""The logger `ringbuf`, and how it is told of what happens where spans are emitted.

A span may be emitted anywhere: in a signal handler, which interrupts who holds a lock, or in a logging handler that is
itself traced. A thread of its own says what there is to say, so that emitting neither waits nor comes back to itself.
"""

from __future__ import annotations

import threading
from logging import getLogger
from typing import Final
from weakref import WeakSet

__all__ = ["logger", "wait_until_told", "warn_aside"]

logger: Final = getLogger("ringbuf")

_telling: Final[WeakSet[threading.Thread]] = WeakSet()


def warn_aside(message: str, *arguments: object) -> None:
    """Log a warning from another thread, soon. Where none can be started (the process ends), nothing is said."""
    thread = threading.Thread(target=logger.warning, args=(message, *arguments), name="ringbuf-warning", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return
    _telling.add(thread)


def wait_until_told(timeout: float) -> None:
    """Wait until all warnings so far are logged, for at most `timeout` seconds each."""
    for thread in tuple(_telling):
        thread.join(timeout)
