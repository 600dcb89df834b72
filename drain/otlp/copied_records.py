"""Records that were copied out of a ring, in the place of their OTLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from drain.otlp.encoder import Encoder


class CopiedRecords:
    """Records of one ring: in the place of `drain.otlp.encoder.Encoded`, of which they have all but the cost.

    Args:
        encoder: of the ring, whose layout `WRITERS.takes`.
        records: array of its layout's dtype, one dimension; nobody writes to it any more. A part of another array is
            copied: it would keep the memory of all of it for as long as one of several destinations is away.

    Attributes:
        encoder: as given.
        records: as given, or the copy, those that are no span among them.
        spans: how many are spans.
        invalid: how many are not.
        body_bytes: of `body`.
        size: of what is larger, `body` or the records.

    Raises:
        ValueError: the array's dtype is not the layout's.
    """

    __slots__ = ("body_bytes", "encoder", "invalid", "records", "size", "spans")

    def __init__(self, encoder: Encoder, records: np.ndarray) -> None:
        self.encoder = encoder
        self.body_bytes, self.spans, self.invalid = encoder.measure(records)
        self.records = np.frombuffer(records.tobytes(), records.dtype) if _is_part(records) else records
        self.size = max(self.body_bytes, self.records.nbytes)

    @property
    def body(self) -> bytes:
        """The spans' OTLP; empty when there is none."""
        return self.encoder.encode(self.records).body


def _is_part(records: np.ndarray) -> bool:
    whole = records.base
    return isinstance(whole, np.ndarray) and whole.nbytes > records.nbytes
