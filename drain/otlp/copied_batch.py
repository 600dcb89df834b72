"""Copied records on their way, of which a request is made: they become gzip when they are sent or stored.

The thread that reads rings then encodes nothing, and plain bytes are made only for those who want them: halves, another
encoding, a backend that takes no gzip after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.otlp.gzip_writers import WRITERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.otlp.copied_records import CopiedRecords


class CopiedBatch:
    """What a request is made of: records of several rings, in their order.

    Args:
        parts: of these rings.

    Attributes:
        body_bytes: of what `encode` returns.
        size: of the copies.
    """

    __slots__ = ("_parts", "body_bytes", "size")

    def __init__(self, parts: Sequence[CopiedRecords]) -> None:
        self._parts = parts
        self.body_bytes = sum(part.body_bytes for part in parts)
        self.size = sum(part.records.nbytes for part in parts)

    def encode(self) -> bytes:
        """Return them as a `TracesData` message."""
        return b"".join([part.body for part in self._parts])

    def gzip(self) -> bytes | None:
        """Return that message as a gzip member; None where it is to be encoded first."""
        return WRITERS.member(self._parts)
