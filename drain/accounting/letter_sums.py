"""What became of the spans that were kept as dead letters: the numbers that must add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class LetterSums:
    """What became of a service's spans in the dead letters, since this drain began: `found + kept` are the others.

    Attributes:
        found: in the folder at the start, or put there by somebody else since.
        kept: refused by the backend for good, and written to the folder; `dead_lettered` of rings and spool.
        waiting: in the folder.
        deleted: removed since the folder's bounds were reached: lost.
        taken: taken away by somebody else, `ringbuf-drain replay --remove` for one.
    """

    found: int = 0
    kept: int = 0
    waiting: int = 0
    deleted: int = 0
    taken: int = 0

    @property
    def unaccounted(self) -> int:
        """Kept spans of which nobody knows what became: 0, or the law is broken."""
        return self.found + self.kept - self.waiting - self.deleted - self.taken


LETTER_SUM_NAMES: Final = tuple(field.name for field in fields(LetterSums))


def all_letters(sums: Iterable[LetterSums]) -> LetterSums:
    """Return the sums over some services."""
    every = list(sums)
    return LetterSums(*(sum(getattr(one, name) for one in every) for name in LETTER_SUM_NAMES))


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """What is kept in the folder of dead letters.

    Attributes:
        services: what became of the spans of each service; where a letter does not say whose, they have no name.
        files: how many.
        file_bytes: of them together.
        max_bytes: that they may have.
        batches_kept: since the start.
        batches_failed: how often one could not be written, since the start.
    """

    services: Mapping[str, LetterSums]
    files: int
    file_bytes: int
    max_bytes: int
    batches_kept: int = 0
    batches_failed: int = 0

    @property
    def sums(self) -> LetterSums:
        """Over all services."""
        return all_letters(self.services.values())
