"""What a command does before its libraries are loaded: Ctrl-C ends it quietly, and what is not installed is named."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_INTERRUPTED: Final = 130
_EXIT_USAGE: Final = 2


def enter(name: str, load: Callable[[], Callable[[], object]]) -> None:
    """Load a command and run it.

    Until the command installs a handler of its own, SIGINT ends the process at once with exit code 130: a
    KeyboardInterrupt in the middle of an import comes out as an ImportError.

    Args:
        name: of the command.
        load: imports it and returns what runs it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))
    try:
        load()()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("drain", "ringbuf"):
            raise
        sys.stderr.write(f"{name}: needs {missing}, which is not installed: pip install 'ringbuf-spans[drain]'\n")
        sys.exit(_EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
