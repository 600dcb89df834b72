"""The number of a batch: by it a reader of messages knows what came twice, and what did not come."""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

_TEXT: Final = re.compile(r"([0-9a-f]{16})/([0-9]{1,18})/([0-9]{1,18})/([0-9]{1,18})")


class BatchNumber(NamedTuple):
    """Which spans of which batch a request has; kept over retries and, in the spool, over restarts.

    Attributes:
        drain: 16 hex digits, of one run of one drain.
        number: of the batch, counted from 1 in that run.
        first: how many spans of the batch are before the request's first one.
        spans: of the whole batch.
    """

    drain: str
    number: int
    first: int
    spans: int

    def text(self) -> str:
        """Return it as the spool has it.

        >>> BatchNumber("00f1e2d3c4b5a697", 7, 0, 512).text()
        '00f1e2d3c4b5a697/7/0/512'
        """
        return f"{self.drain}/{self.number}/{self.first}/{self.spans}"

    @classmethod
    def parse(cls, text: str | None) -> BatchNumber | None:
        """Return the number that `text` made; None where it is none."""
        found = _TEXT.fullmatch(text or "")
        return None if found is None else cls(found[1], int(found[2]), int(found[3]), int(found[4]))

    def after(self, spans: int) -> BatchNumber:
        """Return the same for what begins so many spans later."""
        return self._replace(first=self.first + spans)


class BatchNumbers:
    """Numbers the batches of one run of a drain."""

    def __init__(self) -> None:
        self._drain = secrets.token_hex(8)
        self._number = 0

    def next(self, spans: int) -> BatchNumber:
        """Return the number of a new batch with so many spans."""
        self._number += 1
        return BatchNumber(self._drain, self._number, 0, spans)
