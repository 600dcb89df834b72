"""What a folder of dead letters holds, for a look that changes nothing, also beside the drain that writes there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drain.delivery.letter_file import SUFFIX, headers_of

if TYPE_CHECKING:
    from pathlib import Path

    from drain.delivery.letter_file import LetterHeader


@dataclass(slots=True)
class Refused:
    """The batches that were refused for one reason.

    Attributes:
        batches: how many.
        spans: of them.
        first_unix_nano: when the first was refused.
        last_unix_nano: when the last was.
    """

    batches: int
    spans: int
    first_unix_nano: int
    last_unix_nano: int


@dataclass(slots=True)
class LettersLook:
    """What a folder of dead letters holds.

    Attributes:
        files: how many.
        file_bytes: of them together.
        by_reason: what was refused, by the backend's words.
        cut: a line for each file whose last letter is not whole: it is being written, or a kill came between.
        notes: a line for each file in which no letter can be read.
    """

    files: int = 0
    file_bytes: int = 0
    by_reason: dict[str, Refused] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """Of all reasons."""
        return sum(refused.batches for refused in self.by_reason.values())

    @property
    def spans(self) -> int:
        """Of all reasons."""
        return sum(refused.spans for refused in self.by_reason.values())

    @property
    def first_unix_nano(self) -> int | None:
        """When the first of them was refused; None where there is none."""
        return min((refused.first_unix_nano for refused in self.by_reason.values()), default=None)

    def count(self, header: LetterHeader) -> None:
        """Count a letter."""
        unix_nano = header.unix_nano
        refused = self.by_reason.setdefault(header.reason, Refused(0, 0, unix_nano, unix_nano))
        refused.batches += 1
        refused.spans += header.spans
        refused.first_unix_nano = min(refused.first_unix_nano, unix_nano)
        refused.last_unix_nano = max(refused.last_unix_nano, unix_nano)


def look_at_letters(folder: Path) -> LettersLook:
    """Look at a folder of dead letters; one that is not there holds nothing.

    Raises:
        OSError: it cannot be read.
    """
    look = LettersLook()
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    except FileNotFoundError:
        return look
    for path in paths:
        if path.is_symlink() or not path.is_file():
            continue
        try:
            _count_file(look, path)
        except FileNotFoundError:  # replayed, or gone for the bounds, this moment
            continue
        except OSError as error:
            look.notes.append(f"{path}: {error.strerror}")
    return look


def _count_file(look: LettersLook, path: Path) -> None:
    has_letters = False
    with path.open("rb") as file:
        look.file_bytes += path.stat().st_size
        look.files += 1
        try:
            for header in headers_of(file):
                look.count(header)
                has_letters = True
        except ValueError as error:
            (look.cut if has_letters else look.notes).append(f"{path}: {error}")
