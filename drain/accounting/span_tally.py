"""Spans of one look summed up by code and cell in one pass, where they are of few codes, as nearly always."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from drain.accounting.exemplars import ExemplarReservoir

# A place for each code that the layout may have, and cells of as many as occur: half a megabyte, where it is touched.
_CODES: Final = 1 << 15
_CELLS: Final = 1 << 14


class SpanTally:
    """Memory that spans are summed up in. One thread at a time may use it.

    Args:
        cells: of each code.
        reservoir: says which spans may be exemplars; None: there are to be none.
        bucket_of_cell: of the reservoir's buckets; int64, shape (cells,); None: each is one.
    """

    def __init__(self, cells: int, reservoir: ExemplarReservoir | None, bucket_of_cell: np.ndarray | None) -> None:
        room = max(1, _CELLS // cells)
        self._codes, self._nanos = np.empty(room, np.int64), np.empty(room)
        self._cells = [np.empty(room * cells, np.int64) for _ in range(3)]
        self._exemplars = None if reservoir is None else reservoir.empty(room * cells)
        self._bucket_of_cell = ffi.NULL if bucket_of_cell is None else ffi.from_buffer("int64_t[]", bucket_of_cell)
        self._buckets = 0 if reservoir is None else reservoir.buckets
        counts, last = (np.empty(room * cells, np.uint32) for _ in range(2))
        self._made_in = [
            ffi.from_buffer("uint32_t[]", np.zeros(_CODES, np.uint32)),
            *(ffi.from_buffer("int64_t[]", self._codes), ffi.from_buffer("double[]", self._nanos)),
            *(ffi.from_buffer("uint32_t[]", counts), ffi.from_buffer("uint32_t[]", last)),
            *(ffi.from_buffer("int64_t[]", array) for array in self._cells),
        ]
        places, codes, nanos, counts_at, last_at, *listed = self._made_in
        flags = 0 if reservoir is None else reservoir.flags
        self._tally = ffi.new("rb_span_tally *", (places, _CODES, room, codes, nanos, counts_at, last_at, flags, 0))
        self._listed = ffi.new("rb_tally_cells *", (*listed, ffi.NULL, 0))

    def codes(self, form: Any, records: Any, count: int) -> np.ndarray | None:
        """Sum spans up; return the codes that occur, int64; None where there are more than there is room for.

        Args:
            form: the `rb_span_form *`.
            records: their bytes, a cffi buffer.
            count: how many.
        """
        if lib.rb_tally_spans(form, records, count, self._tally) != count:
            return None
        return self._codes[: self._tally.found].copy()

    def cells(
        self, form: Any, records: Any, count: int, rows: np.ndarray, *, with_exemplars: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Return what was summed up last.

        Args:
            form: the same.
            records: the same.
            count: the same.
            rows: of the codes that occur, those of their series; int64.
            with_exemplars: they are wanted.

        Returns:
            sums of durations by code, float64; index into the codes, cell and count of each cell that counted anything,
            int64; and the exemplars.
        """
        wanted = self._exemplars if with_exemplars else None
        self._listed.exemplars = ffi.NULL if wanted is None else ffi.from_buffer("rb_exemplar[]", wanted.view(np.uint8))
        written = lib.rb_list_tally(
            *(form, records, count, self._tally, ffi.from_buffer("int64_t[]", rows)),
            *(self._buckets, self._bucket_of_cell, self._listed),
        )
        at, cells, counts = (array[:written].copy() for array in self._cells)
        exemplars = None if wanted is None else wanted[: self._listed.exemplar_count].copy()
        return self._nanos[: self._tally.found].copy(), at, cells, counts, exemplars
