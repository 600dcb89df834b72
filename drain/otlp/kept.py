"""What is written of spans that were sampled late, from a table beside their records: csrc/otlp/kept/kept.h."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeptRow(NamedTuple):
    """What spans that were kept alike state.

    Attributes:
        rule: the name of the rule that kept them: their attribute `ringbuf.sampling.rule`.
        threshold: T, their tracestate's `th`; None: it is not known what they stand for, and they state none.
        random: R, the `rv` of those that carry no tracestate; None: that of the trace's id.
        is_alone: each was kept for itself, late, and its trace was not: `ringbuf.sampling.late` is true.
    """

    rule: str
    threshold: int | None = None
    random: int | None = None
    is_alone: bool = False


class KeptTable:
    """Such rows, compiled; immutable.

    Args:
        rows: 1 to 65536 of them.

    Attributes:
        c_kept: the `rb_kept *`.
        protobuf_bound: by how much a span grows at most as protobuf.
        json_bound: the same as JSON.

    Raises:
        RingBufferError: too many rows, or there is no memory.
    """

    def __init__(self, rows: Sequence[KeptRow]) -> None:
        names = [row.rule.encode() for row in rows]
        c_rows = ffi.new("rb_kept_row[]", len(rows))
        for entry, row, name in zip(c_rows, rows, names, strict=True):
            entry.rule.data, entry.rule.bytes = ffi.from_buffer(name), len(name)
            entry.stated = 0 if row.threshold is None else 1 + row.threshold
            entry.random = 0 if row.random is None else 1 + row.random
            entry.is_alone = row.is_alone
        made, error = ffi.new("rb_kept **"), ffi.new("rb_error *")
        if lib.rb_kept_new(c_rows, len(rows), made, error) != lib.RB_OK:
            raise RingBufferError(f"no table of kept spans: {ffi.string(error.detail).decode()}")
        self.c_kept: Any = ffi.gc(made[0], lib.rb_kept_free)
        self.protobuf_bound: int = lib.rb_kept_protobuf_bound(self.c_kept)
        self.json_bound: int = lib.rb_kept_json_bound(self.c_kept)


class Kept(NamedTuple):
    """Which row each record of an array has.

    Attributes:
        table: of the rows.
        rows: u2, an index into it for each record.
    """

    table: KeptTable
    rows: np.ndarray

    def of(self, records: np.ndarray | slice) -> Kept:
        """Return those of some records, by their indices."""
        return Kept(self.table, np.ascontiguousarray(self.rows[records], np.uint16))
