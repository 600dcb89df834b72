"""Records to emit, for tests that care about rings and not about spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    import ringbuf


def fresh_records(emitter: ringbuf.Emitter, count: int, *, flags: int = 0x101) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return valid records of the emitter's layout, each the root of a trace, sampled unless told otherwise."""
    made = emitter.layout.empty(count)
    emitter.fill_ids(made)
    made["flags"] = flags
    return made
