"""To which of several destinations the spans of a trace go, and records in the order of their destinations.

Rendezvous hashing (Thaler, Ravishankar 1998): a trace goes to the destination with the highest weight for it, so that
the order of the destinations says nothing, and when one comes or goes only its own traces move.
"""

from __future__ import annotations

import zlib
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MASK: Final = (1 << 64) - 1
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
MOST_DESTINATIONS: Final = (1 << 16) - 1
_ID_BYTES: Final = 16
_RING_SIZE: Final = 36_000
_RING_POINTS: Final = 100  # of each name


class TraceHomes(Protocol):
    """What says which of several destinations is the home of a trace."""

    @property
    def names(self) -> Sequence[str]:
        """Of the destinations."""
        ...

    def assign(self, records: np.ndarray) -> np.ndarray:
        """Return the index of each record's home in `names`: uint16, shape (n,)."""
        ...

    def home(self, trace_id: bytes) -> str:
        """Return the home of one trace."""
        ...


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
        _check_names(names)
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


class CollectorRing:
    """The traces' homes where the Collector's `loadbalancing` exporter sends them, in a fleet that has both.

    Each name has 100 points on a circle of 36,000: CRC-32 of the name and a byte that counts them. A trace goes to the
    next point from where CRC-32 of its id is. Of names whose points fall on each other, the first in order has it.

    Source: opentelemetry-collector-contrib, `exporter/loadbalancingexporter/consistent_hashing.go`.

    Args:
        names: of gateways, each once; what the Collector has is HOST:PORT of it, as it is written there.

    Attributes:
        names: as given.

    Raises:
        ValueError: there is none, one is there twice, or there are too many.

    Example:
        >>> CollectorRing(["http://endpoint-1", "http://endpoint-2"]).home(bytes([128, 128, *[0] * 14]))
        'http://endpoint-2'
    """

    def __init__(self, names: Sequence[str]) -> None:
        _check_names(names)
        self.names = tuple(names)
        owners: dict[int, int] = {}
        for index, host_and_port in sorted(enumerate(map(_collectors_name, names)), key=itemgetter(1)):
            for number in range(_RING_POINTS):
                owners.setdefault(zlib.crc32(host_and_port.encode() + bytes([number])) % _RING_SIZE, index)
        self._points = np.array(sorted(owners), np.uint32)
        self._owners = np.array([owners[point] for point in sorted(owners)], np.uint16)

    def assign(self, records: np.ndarray) -> np.ndarray:
        """Return the index of each record's home in `names`: uint16, shape (n,).

        Args:
            records: one dimension, of a layout's dtype.
        """
        ids = np.ascontiguousarray(records["trace_id"]).view(np.uint8).reshape(len(records), _ID_BYTES)
        sums = np.full(len(ids), _CRC_OF_ZEROS, np.uint32)
        for at in range(_ID_BYTES):  # a CRC of several bytes is the sum, without carry, of what each adds
            sums ^= _CRC_OF_BYTE[at][ids[:, at]]
        return self._owner_at(sums % _RING_SIZE)

    def home(self, trace_id: bytes) -> str:
        """Return the home of one trace: the readable form of `assign`, to which tests hold it."""
        place = zlib.crc32(trace_id) % _RING_SIZE
        return self.names[int(self._owner_at(np.array([place], np.uint32))[0])]

    def _owner_at(self, places: np.ndarray) -> np.ndarray:
        following = np.searchsorted(self._points, places) % len(self._points)
        owners: np.ndarray = self._owners[following]
        return owners


def _collectors_name(name: str) -> str:
    """Return HOST:PORT of an endpoint as it is written, HOST where it has no port.

    >>> _collectors_name("http://gateway-1:4317/otlp"), _collectors_name("dns:///gateway-1")
    ('gateway-1:4317', 'gateway-1')
    """
    return name.rpartition("://")[2].lstrip("/").partition("/")[0]


def _crc_tables() -> tuple[int, np.ndarray]:
    """Return CRC-32 of 16 zeros, and what each byte at each place adds to it: uint32, shape (16, 256)."""
    of_zeros = zlib.crc32(bytes(_ID_BYTES))
    adds = np.zeros((_ID_BYTES, 256), np.uint32)
    for at in range(_ID_BYTES):
        for byte in range(256):
            adds[at, byte] = of_zeros ^ zlib.crc32(bytes(at) + bytes([byte]) + bytes(_ID_BYTES - at - 1))
    return of_zeros, adds


_CRC_OF_ZEROS, _CRC_OF_BYTE = _crc_tables()


def _check_names(names: Sequence[str]) -> None:
    if not 0 < len(names) <= MOST_DESTINATIONS or len(set(names)) < len(names):
        raise ValueError(f"{len(names)} destinations, of which some are the same, or too many or few")


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
