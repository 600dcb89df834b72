"""What a command does before its libraries are loaded: signals are heeded, and what is not installed is named."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from drain.exit_codes import AT_ONCE, BROKEN, INTERRUPTED, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTED: Final = (signal.SIGUSR1, signal.SIGHUP)

noted: Final[set[int]] = set()
"""Signals that came before there was anybody to heed them, SIGUSR1 and SIGHUP."""

_ignored: Final[set[int]] = set()
"""Of these, what whoever started the process wants ignored: SIGHUP under nohup."""


def hold_signals() -> None:
    """Until the command has handlers of its own, let SIGTERM end the process, and SIGUSR1 and SIGHUP be noted.

    These two would end it. The first process of a container is not ended by any signal that it has no handler for.
    """
    for number in _NOTED:
        before = signal.signal(number, lambda number, _frame: noted.add(number))
        if before is signal.SIG_IGN:
            _ignored.add(number)
    signal.signal(signal.SIGTERM, _end)


def release_signals() -> None:
    """Let SIGUSR1 and SIGHUP do what they do to a command that is no service."""
    for number in _NOTED:
        signal.signal(number, signal.SIG_IGN if number in _ignored else _end)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(AT_ONCE + number)  # it is the first process of a container


def enter(name: str, load: Callable[[], Callable[[], object]]) -> None:
    """Load a command and run it.

    Until the command installs a handler of its own, SIGINT ends the process at once with exit code 130: a
    KeyboardInterrupt in the middle of an import comes out as an ImportError.

    Args:
        name: of the command.
        load: imports it and returns what runs it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(INTERRUPTED))
    try:
        load()()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("drain", "ringbuf"):
            raise
        sys.stderr.write(f"{name}: needs {missing}, which is not installed: pip install 'ringbuf-spans[drain]'\n")
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001 - Python's own code for it is 1, which says that spans were not delivered
        sys.excepthook(*sys.exc_info())
        sys.exit(BROKEN)
