"""How many different ids there are: exactly up to a million, estimated beyond, from 8 MiB of hashes.

The estimate is that of the k smallest hashes (Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"):
if the k-th smallest of n hashes that are spread evenly lies at a share s of their range, n is about (k - 1) / s. Its
standard error is 1 / sqrt(k), here 0.1 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST: Final = 1 << 20
_RANGE: Final = 2.0**64


class Distinct:
    """Counts distinct ids of 16 bytes.

    Args:
        most: so many are counted exactly.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._hashes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._new: list[NDArray[np.uint64]] = []
        self._new_count = 0
        self.is_exact = True

    def add(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> None:
        """Count ids, each as its two halves."""
        hashes = np.unique(_mixed(_mixed(high.astype(np.uint64)) ^ low.astype(np.uint64)))
        if not self.is_exact:
            hashes = hashes[hashes <= self._hashes[-1]]
        self._new.append(hashes)
        self._new_count += len(hashes)
        if self._new_count >= max(self._most // 4, 1):
            self._settle()

    def count(self) -> int:
        """Return how many there are; `is_exact` says whether that is an estimate."""
        self._settle()
        if self.is_exact:
            return len(self._hashes)
        return round((self._most - 1) / (float(self._hashes[-1]) / _RANGE))

    def _settle(self) -> None:
        hashes = np.unique(np.concatenate([self._hashes, *self._new]))
        if len(hashes) > self._most:
            self.is_exact = False
            hashes = hashes[: self._most].copy()
        self._hashes = hashes
        self._new = []
        self._new_count = 0


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread 64 bits over 64 bits, one to one: splitmix64's finaliser."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
