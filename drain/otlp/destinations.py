"""To which of several destinations the spans of a trace go, and records in the order of their destinations.

Rendezvous hashing (Thaler, Ravishankar 1998): a trace goes to the destination with the highest weight for it, so that
the order of the destinations says nothing, and when one comes or goes only its own traces move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MASK: Final = (1 << 64) - 1
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
MOST_DESTINATIONS: Final = (1 << 16) - 1


class Rendezvous:
    """The traces' homes among destinations with these names.

    Args:
        names: each once; only they, and not their order, say where a trace goes.

    Attributes:
        names: as given.

    Raises:
        ValueError: there is none, one is there twice, or there are too many.

    Example:
        >>> Rendezvous(["http://a:4318", "http://b:4318"]).home(bytes(range(16)))
        'http://b:4318'
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not 0 < len(names) <= MOST_DESTINATIONS or len(set(names)) < len(names):
            raise ValueError(f"{len(names)} destinations, of which some are the same, or too many or few")
        self.names = tuple(names)
        self._seeds = np.array([_seed(name) for name in names], np.uint64)

    def assign(self, records: np.ndarray) -> np.ndarray:
        """Return the index of each record's home in `names`: uint16, shape (n,).

        Args:
            records: contiguous, one dimension, of a layout's dtype.
        """
        homes = np.empty(len(records), np.uint16)
        seeds = ffi.from_buffer("uint64_t[]", self._seeds)
        _check(
            lib.rb_rendezvous(_pointer(records), len(records), records.itemsize, seeds, len(self._seeds), _u16(homes))
        )
        return homes

    def home(self, trace_id: bytes) -> str:
        """Return the home of one trace: the readable form of `assign`, to which tests hold it."""
        first, last = (int.from_bytes(trace_id[at : at + 8], "little") for at in (0, 8))
        weights = ((_mixed((_mixed(first ^ seed) + last) & _MASK), -seed) for seed in map(int, self._seeds))
        return max(zip(weights, self.names, strict=True))[1]


def grouped(records: np.ndarray, destinations: np.ndarray, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the records of each destination that has any, in the order that they had.

    Args:
        records: contiguous, one dimension; at least one.
        destinations: of each of them: uint16, shape (n,), below `count`.
        count: of destinations.
    """
    first = int(destinations[0])
    if (destinations == first).all():
        yield first, records  # as they are: nothing is copied
        return
    ordered, ends = np.empty(len(records), records.dtype), np.empty(count, np.uint64)
    ends_pointer = ffi.from_buffer("uint64_t[]", ends, require_writable=True)
    _check(
        lib.rb_group(
            _pointer(records),
            len(records),
            records.itemsize,
            _u16(np.ascontiguousarray(destinations)),
            count,
            _pointer(ordered),
            ends_pointer,
        )
    )
    start = 0
    for destination, end in enumerate(map(int, ends)):
        if end > start:
            yield destination, ordered[start:end]
        start = end


def _seed(name: str) -> int:
    """Return FNV-1a 64 of the name in UTF-8, mixed once more: names that differ in a digit have seeds that do not."""
    digest = _FNV_OFFSET
    for byte in name.encode():
        digest = (digest ^ byte) * _FNV_PRIME & _MASK
    return _mixed(digest)


def _mixed(word: int) -> int:
    """Return what the finalizer of SplitMix64 makes of a word."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def _pointer(records: np.ndarray) -> Any:
    # Not the array itself: numpy gives no buffer of fields that are out of order.
    return ffi.from_buffer("uint8_t[]", records.view(np.uint8))


def _u16(array: np.ndarray) -> Any:
    return ffi.from_buffer("uint16_t[]", array)


def _check(status: int) -> None:
    if status != lib.RB_OK:
        raise ValueError(f"records cannot be sorted by destination (status {status})")
