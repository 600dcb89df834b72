"""The command `ringbuf`, also `python -m drain.tools`; each subcommand is a file beside this one."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from drain.entry import enter

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: Final = {
    "list": "drain.tools.list_rings:list_rings",
    "stat": "drain.tools.stat_ring:stat_ring",
    "tail": "drain.tools.tail:tail",
    "trace": "drain.tools.trace.command:trace",
    "top": "drain.tools.top.command:top",
    "dump": "drain.tools.dump.command:dump",
    "clean": "drain.tools.clean:clean",
    "layout": "drain.tools.layout:layout",
    "report": "drain.tools.report.command:report",
}
"""Where the function of each subcommand is, `module:function`; it is imported only when its subcommand is asked for."""


def main() -> None:
    """Run the command."""
    # `ringbuf tail | head` ends as other programs do whose reader has gone.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    enter("ringbuf", _loaded)


def _loaded() -> Callable[[], object]:
    from drain.tools.looking.command_line import command_line  # noqa: PLC0415 - to say what is missing for it

    return lambda: command_line(COMMANDS)(prog_name="ringbuf")


if __name__ == "__main__":
    main()
