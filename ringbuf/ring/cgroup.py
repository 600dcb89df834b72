"""How much memory this process's control group allows: rings in a tmpfs count there, and then comes the OOM killer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["memory_limit"]

# Of version 2, and of the memory controller of version 1.
_UNIFIED: Final = ("", "memory.max")
_MEMORY: Final = ("memory", "memory.limit_in_bytes")


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the least limit of this process's control group and of those around it, in bytes; None: there is none.

    Args:
        root: where proc and sys are.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max) and cgroup-v1/memory.rst.
    """
    limits = [limit for folder, file in _folders(root) if (limit := _read(folder / file)) is not None]
    return min(limits, default=None)


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Go through the group's folders, from its own up to the mount: where that is a container's, it is the first."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mount, file = _UNIFIED
        elif "memory" in controllers.split(","):
            mount, file = _MEMORY
        else:
            continue
        base = root / "sys/fs/cgroup" / mount
        own = base / path.strip("/")
        yield own, file
        for folder in own.parents:
            if not folder.is_relative_to(base):
                break
            yield folder, file


def _read(path: Path) -> int | None:
    """Return a limit; None for "max", and where the file cannot be read: other groups' need not be there."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
