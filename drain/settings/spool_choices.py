"""What an operator may choose about the spool, for the settings and for the spool itself."""

from __future__ import annotations

from typing import Final, Literal

WhenFull = Literal["backpressure", "drop-oldest"]
"""A full spool refuses batches, which then wait in the rings, or makes room."""

MIN_BYTES: Final = 1 << 20
"""Of the spool's files: less would hold no batch."""
