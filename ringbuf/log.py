"""The logger `ringbuf`, and how it is told of what happens where spans are emitted.

A span may be emitted anywhere: in a signal handler, which interrupts who holds a lock, or in a logging handler that is
itself traced. A thread of its own says what there is to say, so that emitting neither waits nor comes back to itself.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from logging import getLogger
from typing import Final
from weakref import WeakValueDictionary

__all__ = ["logger", "wait_until_told", "warn_aside"]

logger: Final = getLogger("ringbuf")

# By their id(). Not a WeakSet: one cannot be looked through while another thread adds to it.
_telling: Final[WeakValueDictionary[int, threading.Thread]] = WeakValueDictionary()


def warn_aside(message: str, *arguments: object) -> None:
    """Log a warning from another thread, soon. Where none can be started (the process ends), nothing is said."""
    thread = threading.Thread(target=_warn, args=(message, *arguments), name="ringbuf-warning", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return
    _telling[id(thread)] = thread


def _warn(message: str, *arguments: object) -> None:
    with suppress(Exception):  # a handler's trouble is the program's own, and no traceback of ours
        logger.warning(message, *arguments)


def wait_until_told(timeout: float) -> None:
    """Wait until all warnings so far are logged, for at most `timeout` seconds each."""
    for reference in _telling.valuerefs():
        thread = reference()
        if thread is not None:
            thread.join(timeout)
