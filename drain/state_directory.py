"""Where a drain keeps what must outlive it, if nobody says where: a folder for each ring directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

STATE_OFF: Final = "off"
"""Instead of a folder: nothing is kept on disk."""

SPOOL_FOLDER: Final = "spool"
"""In it: batches that wait."""

DEAD_LETTERS_FOLDER: Final = "dead-letters"
"""In it: batches that were refused for good."""

_FOLDER: Final = "ringbuf-drain"
_LONGEST_NAME: Final = 100
_DIGITS: Final = 8


def default_state_dir(ring_dir: Path) -> Path | None:
    """Return a folder under `$XDG_STATE_HOME` or `~/.local/state`; None where there is no home directory.

    Args:
        ring_dir: two that are the same directory, by links, have the same folder.

    Source: XDG Base Directory Specification 0.8, by which a relative path is ignored.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    if not Path(home).is_absolute():
        try:
            user = Path.home()
        except RuntimeError:  # neither HOME nor an entry of this user
            return None
        if not user.is_dir():
            return None
        home = str(user / ".local" / "state")
    path = str(ring_dir.resolve())
    name = path.strip("/").replace("/", "-")[-_LONGEST_NAME:]
    return Path(home, _FOLDER, f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGITS]}")
