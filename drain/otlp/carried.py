"""The OTLP that records carry, for a batch at a time: which records have the same scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from ringbuf.layout.attribute import LayoutField

TOO_LONG: Final = b"longer than its field"
"""What `carried` has for a length out of bounds: this very object."""


def carried(records: np.ndarray, field: LayoutField) -> list[bytes | None]:
    """Return the value that each record has: None where it is absent, TOO_LONG where its length is out of bounds.

    Args:
        records: array of the layout's dtype, one dimension.
        field: an attribute that is inline.
    """
    size = field.attribute.size or 0
    values = records[field.attribute.key]
    is_present = (records["present"] & np.uint32(1 << field.index)) != 0
    lengths = np.where(is_present, values["length"].astype(np.int64), -1).tolist()
    # Padded, since numpy gives bytes of this type only as a whole.
    data = np.ascontiguousarray(values["data"]).view(f"V{size}").ravel().tolist()
    return [
        None if length < 0 else TOO_LONG if length > size else content[:length]
        for length, content in zip(lengths, data, strict=True)
    ]


def by_scope(records: np.ndarray, field: LayoutField) -> dict[bytes | None, np.ndarray | slice]:
    """Return the indices of the records of each scope, in the order in which the scopes come first.

    A length out of bounds is a scope too, TOO_LONG: it is not sound.

    Args:
        records: array of the layout's dtype, one dimension.
        field: the `scope` of that layout.
    """
    scopes = carried(records, field)
    if scopes and scopes.count(scopes[0]) == len(scopes):  # one library's batch: nothing to copy
        return {scopes[0]: slice(None)}
    rows: dict[bytes | None, list[int]] = {}
    for row, scope in enumerate(scopes):
        rows.setdefault(scope, []).append(row)
    return {scope: np.array(found) for scope, found in rows.items()}
