"""Records that were copied out of a ring, in the place of their OTLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from drain.otlp.encoder import Encoder


class CopiedRecords:
    """Records of one ring: in the place of `drain.otlp.encoder.Encoded`, of which they have all but the cost.

    Args:
        encoder: of the ring, whose layout `WRITERS.takes`.
        records: array of its layout's dtype, one dimension; nobody writes to it any more.

    Attributes:
        encoder: as given.
        records: as given, those that are no span among them.
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
        self.records = records
        self.size = max(self.body_bytes, self.records.nbytes)

    @property
    def body(self) -> bytes:
        """The spans' OTLP; empty when there is none."""
        return self.encoder.encode(self.records).body
