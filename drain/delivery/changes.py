"""The lock of the delivery's parts, and whether anything has changed under it."""

from __future__ import annotations

import threading


class Changes(threading.Condition):
    """The lock, on which threads wait for a change.

    Attributes:
        number: of the last change; whoever remembers one knows whether there was another since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def note(self) -> None:
        """Let all that wait look again; under the lock."""
        self.number += 1
        self.notify_all()
