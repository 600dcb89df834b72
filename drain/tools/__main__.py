"""The command `ringbuf`, also `python -m drain.tools`; each subcommand is a file beside this one."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

COMMANDS: Final = {
    "list": "drain.tools.list_rings:list_rings",
    "stat": "drain.tools.stat_ring:stat_ring",
    "tail": "drain.tools.tail:tail",
    "top": "drain.tools.top.command:top",
    "dump": "drain.tools.dump.command:dump",
    "clean": "drain.tools.clean:clean",
    "layout": "drain.tools.layout:layout",
    "report": "drain.tools.report.command:report",
}
"""Where the function of each subcommand is, `module:function`; it is imported only when its subcommand is asked for."""

_EXIT_USAGE: Final = 2
_EXIT_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command."""
    # `ringbuf tail | head` ends as other programs do whose reader has gone.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the subcommand is loaded: a KeyboardInterrupt in the middle of an import comes out as an ImportError.
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_EXIT_INTERRUPTED))
    try:
        from drain.tools.looking.command_line import command_line  # noqa: PLC0415 - after SIGPIPE, and to say what is missing

        command_line(COMMANDS)(prog_name="ringbuf")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("drain", "ringbuf"):
            raise
        sys.stderr.write(f"ringbuf: needs {missing}, which is not installed: pip install 'ringbuf-spans[drain]'\n")
        sys.exit(_EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
