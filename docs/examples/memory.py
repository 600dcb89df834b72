"""FBMU: reads and writes on leased memory. `site.emit` is the fastest door: the caller has both times already."""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

from ringbuf.dataplane import LeaseId, OpType, Outcome, site

if TYPE_CHECKING:
    from random import Random

_OUTCOME_OF_BOUNDS = {True: Outcome.OK, False: Outcome.DENIED}

# Bound once, at import: the process may configure its emitter later.
_read = site(OpType.FBMU_READ)
_write = site(OpType.FBMU_WRITE)


class MemoryLease:
    """A region of memory that a tenant has leased, mapped into this process.

    Args:
        lease: the tenant's lease, made once and used for each span.
        region_bytes: size of the region.
    """

    def __init__(self, lease: LeaseId, region_bytes: int) -> None:
        self._lease = lease
        self._region = mmap.mmap(-1, region_bytes)
        self.region_bytes = region_bytes

    def read(self, offset: int, nbytes: int) -> bytes | None:
        """Return a copy of a part of the region, None where the lease does not reach."""
        start = time.time_ns()
        is_inside = offset + nbytes <= self.region_bytes
        data = self._region[offset : offset + nbytes] if is_inside else None
        _read.emit(self._lease, start, time.time_ns(), nbytes if is_inside else 0, _OUTCOME_OF_BOUNDS[is_inside])
        return data

    def write(self, offset: int, data: bytes) -> bool:
        """Change a part of the region; return whether the lease reaches there."""
        start = time.time_ns()
        is_inside = offset + len(data) <= self.region_bytes
        if is_inside:
            self._region[offset : offset + len(data)] = data
        _write.emit(self._lease, start, time.time_ns(), len(data) if is_inside else 0, _OUTCOME_OF_BOUNDS[is_inside])
        return is_inside

    def close(self) -> None:
        """Give the memory back."""
        self._region.close()


class MemoryWork:
    """One process's memory traffic: 4 to 128 KiB at random places, two reads to a write, some beyond the lease."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._leases = [MemoryLease(LeaseId(random.getrandbits(128)), 8 << 20) for _ in range(4)]
        self._data = random.randbytes(128 << 10)

    def step(self) -> None:
        """Do one operation."""
        random = self._random
        memory = random.choice(self._leases)
        nbytes = 4096 << random.randrange(6)
        # Near the end of the lease a large operation does not fit: about one in 200 is denied.
        offset = random.randrange(0, memory.region_bytes, 4096)
        if random.randrange(3) == 0:
            memory.write(offset, self._data[:nbytes])
        else:
            memory.read(offset, nbytes)

    def close(self) -> None:
        """Give the memory back."""
        for memory in self._leases:
            memory.close()
