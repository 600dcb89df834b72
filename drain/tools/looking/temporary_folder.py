"""A folder for what a command writes on its way. It goes with the command, also where a signal ends that."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_EXIT_SIGNAL: Final = 128  # and its number: what a shell makes of a program that a signal has ended


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a new folder, and remove it with all that is in it.

    A signal that would end the process without a word (SIGTERM; SIGHUP, when the terminal is closed) ends it as an
    exception does. One that is ignored, as under nohup, stays ignored, and one that C code has taken stays its own.

    Args:
        prefix: of its name.

    Raises:
        OSError: it cannot be made.
    """
    is_main = threading.current_thread() is threading.main_thread()  # others may set no handlers
    before = {number: signal.getsignal(number) for number in _ENDING if is_main}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, _end)
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(_EXIT_SIGNAL + number)
