"""Names of rotated files: `spans.jsonl` becomes `spans-20261122T150102.123456Z.jsonl`, the moment of its rotation."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_STAMP = "%Y%m%dT%H%M%S.%fZ"
_STAMP_PATTERN = r"\d{8}T\d{6}\.\d{6}Z"


def rotated_files(path: Path) -> list[Path]:
    """Return the files that were rotated away from `path`, oldest first."""
    stem, suffixes = _parts(path)
    pattern = re.compile(re.escape(stem) + "-" + _STAMP_PATTERN + re.escape(suffixes))
    return sorted(other for other in path.parent.iterdir() if pattern.fullmatch(other.name))


def move_away(path: Path, keep: int, now: datetime | None = None) -> Path:
    """Rename `path` to its rotated name and remove the oldest rotated files beyond `keep` (0 keeps all).

    Raises:
        OSError: the file cannot be renamed, or an old one not removed.
    """
    stem, suffixes = _parts(path)
    moment = now or datetime.now(UTC)
    while (target := path.with_name(f"{stem}-{moment.strftime(_STAMP)}{suffixes}")).exists():
        moment = moment.replace(microsecond=(moment.microsecond + 1) % 1_000_000)
    path.rename(target)
    old = rotated_files(path)
    for file in old[: len(old) - keep] if keep else ():
        file.unlink()
    return target


def _parts(path: Path) -> tuple[str, str]:
    suffixes = "".join(path.suffixes)
    return path.name.removesuffix(suffixes), suffixes
