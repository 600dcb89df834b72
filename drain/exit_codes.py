"""What `ringbuf-drain` ends with: one table, for the code, the help and docs/operations.md."""

from __future__ import annotations

from typing import Final

DELIVERED: Final = 0
UNDELIVERED: Final = 1
USAGE: Final = 2
BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h
TROUBLE: Final = 74  # EX_IOERR
LOCKED: Final = 75  # EX_TEMPFAIL
INTERRUPTED: Final = 130
AT_ONCE: Final = 128  # and the number of the signal

EXIT_CODES: Final = {
    "0": "All is delivered, or, where a service stops, safe in the spool.",
    "1": "Spans were rejected, dropped or dead-lettered, are left in rings, or could not be read.",
    "2": "It cannot work as it is configured or installed: starting it again does not help.",
    "70": "A fault of this program, or a thread that ended: start it again.",
    "74": "A trouble that passes: no space or descriptors, a read-only disk, a port in use: start it again.",
    "75": "Another drain serves the ring directory, or has the state directory.",
    "128 + n": "Ended at once by signal n: during the start, or by a second one. Nothing is lost by that.",
    "130": "Ctrl-C while it starts, checks or replays.",
}
"""By code: when, and what to do about it."""
