"""The command `ringbuf-drain`, also `python -m drain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.entry import enter, hold_signals

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run the command."""
    hold_signals()
    from drain.standard_streams import open_closed_streams  # noqa: PLC0415 - it takes time, in which signals may come

    open_closed_streams()
    enter("ringbuf-drain", _loaded)


def _loaded() -> Callable[[], object]:
    from drain.command import app  # noqa: PLC0415 - half a second, in which Ctrl-C is to end it quietly

    return lambda: app(prog_name="ringbuf-drain")


if __name__ == "__main__":
    main()
