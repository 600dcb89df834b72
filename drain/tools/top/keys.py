"""Whether somebody has pressed q: the terminal's keys, one by one, without Enter and without an echo."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUIT: Final = frozenset(b"qQ\x04")  # and Ctrl-D, which is no end of input in this mode
_MOST_KEYS: Final = 1024


class Keys:
    """The keys that are pressed while it is open.

    Without a terminal to read from, or behind another program in its foreground, there are none.
    """

    def __init__(self) -> None:
        self._fd: int | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Take single keys from the terminal, and leave it at the end as it was."""
        fd = _terminal()
        if fd is None:
            yield
            return
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd, termios.TCSANOW)  # Ctrl-C stays a signal; keys that were pressed already count
            self._fd = fd
            yield
        finally:
            self._fd = None
            with contextlib.suppress(termios.error):  # the terminal has gone
                termios.tcsetattr(fd, termios.TCSADRAIN, before)

    def quit_within(self, seconds: float) -> bool:
        """Wait for so long at most; return at once, and True, when q is pressed."""
        ready, _, _ = select.select([] if self._fd is None else [self._fd], [], [], seconds)
        if not ready or self._fd is None:
            return False
        try:
            pressed = os.read(self._fd, _MOST_KEYS)
        except OSError:  # the terminal has gone
            pressed = b""
        if not pressed:
            self._fd = None  # else every wait would be over at once
        return not _QUIT.isdisjoint(pressed)


def _terminal() -> int | None:
    """Return the descriptor of the terminal whose keys are ours."""
    try:
        fd = sys.stdin.fileno()
        termios.tcgetattr(fd)
    except (AttributeError, OSError, ValueError, termios.error):  # closed, replaced, or no terminal
        return None
    try:
        # A process in the background would be stopped for changing the terminal's mode.
        return fd if os.tcgetpgrp(fd) == os.getpgrp() else None
    except OSError:  # it does not control this session: there are no jobs
        return fd
