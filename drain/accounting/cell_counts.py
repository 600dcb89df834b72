"""Counts by series and cell, in blocks that are there once something is counted in them.

A series' durations lie within a few powers of two of each other: of hundreds of cells it needs few.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringbuf._ringbuf import lib

_BLOCK_CELLS: Final[int] = lib.RB_BLOCK_CELLS
_BLOCK_BITS: Final = _BLOCK_CELLS.bit_length() - 1
_NOBODYS: Final = 0  # the block of zeros in the place of those that are not there


class CellCounts:
    """The counts; its caller sees to threads.

    Args:
        cells: of each series.

    Attributes:
        block_of: i4, shape (series, blocks of each), as `rb_span_series` has it.
        blocks: i8, shape (blocks, cells of each).
    """

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self.block_of = np.zeros((1, (cells - 1 >> _BLOCK_BITS) + 1), np.int32)
        self.blocks = np.zeros((2, _BLOCK_CELLS), np.int64)
        self._used = _NOBODYS + 1

    def make_room(self, rows: int) -> None:
        """Let there be so many series."""
        self.block_of = _grown(self.block_of, rows)

    def make_blocks(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Let cells of series have blocks; return which each has. Both int64, shape (n,)."""
        # Indices of one dimension: numpy takes twice as long over those of two.
        places = rows * self.block_of.shape[1] + (cells >> _BLOCK_BITS)
        blocks: np.ndarray = self.block_of.ravel()[places]
        if not blocks.all():
            missing = {*places[blocks == _NOBODYS].tolist()}
            end = self._used + len(missing)
            if end > len(self.blocks):
                self.blocks = _grown(self.blocks, max(end, len(self.blocks) + len(self.blocks) // 2))
            self.block_of.ravel()[[*missing]] = np.arange(self._used, end)
            self._used = end
            blocks = self.block_of.ravel()[places]
        return blocks

    def add(self, rows: np.ndarray, cells: np.ndarray, counts: np.ndarray) -> None:
        """Add counts, no two of them to the same cell of a series.

        Args:
            rows: which series; int64, shape (n,).
            cells: which cell of it.
            counts: above 0.
        """
        blocks = self.make_blocks(rows, cells)
        self.blocks.ravel()[blocks * _BLOCK_CELLS + (cells & _BLOCK_CELLS - 1)] += counts

    def rows(self) -> np.ndarray:
        """Return the series that have any, ascending."""
        return np.flatnonzero(self.block_of.any(axis=1))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the counts of series by cell: int64, shape (rows, cells)."""
        counts: np.ndarray = self.blocks[self.block_of[rows]].reshape(len(rows), -1)[:, : self._cells]
        return counts


def _grown(array: np.ndarray, rows: int) -> np.ndarray:
    grown = np.zeros((rows, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
