"""Records of rings straight to gzip: one member, of the same bytes as the encoder's bodies one after the other.

The plain bytes are never made (csrc/otlp/gzip): a layout says which parts of a span are constant, so the matches of
DEFLATE need not be searched for. tests/property/test_direct_gzip.py holds the member to the encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError, RingBufferError

if TYPE_CHECKING:
    from drain.otlp.encode_plan import EncodePlan
    from drain.otlp.encoder import Encoder

_MAX_LAYOUTS: Final = 16  # of which a writer keeps what it knows: some 130 KB each
_MOST_AROUND: Final = 65_000  # what stands before the spans is one stored block


class Member(NamedTuple):
    """A gzip member.

    Attributes:
        data: the whole member.
        plain_bytes: what it decompresses to.
        spans: how many spans it has.
    """

    data: bytes
    plain_bytes: int
    spans: int


class DirectGzip:
    """Writes gzip members from records. One thread at a time may use it.

    Raises:
        RingBufferError: this processor is not supported, or there is no memory.
    """

    def __init__(self) -> None:
        made = ffi.new("rb_gzip **")
        _check(lib.rb_gzip_new(made, ffi.NULL))
        self._gzip = ffi.gc(made[0], lib.rb_gzip_free)
        self._layouts: dict[EncodePlan, Any] = {}
        self._spans = 0
        lib.rb_gzip_begin(self._gzip)

    @staticmethod
    def is_supported() -> bool:
        """Return whether this processor has carry-less products: without them nothing would be gained."""
        return bool(lib.rb_gzip_is_supported())

    def refusal(self, encoder: Encoder) -> str | None:
        """Return why the records of a layout cannot be added; None when they can.

        Raises:
            RingBufferError: there is no memory.
        """
        try:
            self._layout_of(encoder.plan)
        except LayoutError as error:
            return str(error)
        around = encoder.surrounding
        if len(around.resource) + len(around.scope) > _MOST_AROUND:
            return f"resource and scope take more than {_MOST_AROUND:,} bytes"
        return None

    def add(self, encoder: Encoder, records: np.ndarray) -> tuple[int, int]:
        """Add what `encoder.encode(records)` makes; return the numbers of spans and of invalid records.

        Args:
            encoder: of the ring.
            records: array of its layout's dtype, one dimension.

        Raises:
            LayoutError: see refusal(); the member stays as it is.
            ValueError: the array's dtype is not the layout's.
            RingBufferError: there is no memory; this object is of no use any more.
        """
        if records.dtype != encoder.layout.dtype or records.ndim != 1:
            raise ValueError(f"records must be one dimension of the layout's dtype, not {records.dtype}")
        if (refusal := self.refusal(encoder)) is not None:
            raise LayoutError(refusal)
        around, counts = ffi.new("rb_gzip_around *"), ffi.new("uint64_t[2]")
        fields = [ffi.from_buffer(field) for field in encoder.surrounding]
        around[0] = [{"data": field, "bytes": len(field)} for field in fields]
        # Not the array itself: numpy gives no buffer of fields that are out of order.
        data = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(records).view(np.uint8))
        layout = self._layout_of(encoder.plan)
        _check(lib.rb_gzip_segment(self._gzip, layout, around, data, len(records), counts, counts + 1))
        self._spans += counts[0]
        return counts[0], counts[1]

    def finish(self) -> Member:
        """End the member and return it; the next one begins."""
        data, sizes = ffi.new("uint8_t **"), ffi.new("uint64_t[2]")
        _check(lib.rb_gzip_finish(self._gzip, data, sizes, sizes + 1))
        member = Member(ffi.buffer(data[0], sizes[0])[:], sizes[1], self._spans)
        self._spans = 0
        lib.rb_gzip_begin(self._gzip)
        return member

    def _layout_of(self, plan: EncodePlan) -> Any:
        layout = self._layouts.pop(plan, None)
        if layout is None:
            made, error = ffi.new("rb_gzip_layout **"), ffi.new("rb_error *")
            status = lib.rb_gzip_layout_new(self._gzip, plan.c_plan, made, error)
            if status == lib.RB_E_SYSTEM:
                _check(status)
            if status != lib.RB_OK:
                raise LayoutError(ffi.string(error.detail).decode())
            layout = ffi.gc(made[0], lib.rb_gzip_layout_free)
            if len(self._layouts) >= _MAX_LAYOUTS:
                del self._layouts[next(iter(self._layouts))]
        self._layouts[plan] = layout  # at the end: the first is the one that was not used for longest
        return layout


def _check(status: int) -> None:
    if status != lib.RB_OK:
        raise RingBufferError(f"gzip from records: {ffi.string(lib.rb_strerror(status)).decode()}")
