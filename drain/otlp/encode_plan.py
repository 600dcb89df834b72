"""The C encode plan of a layout, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import numpy as np

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.layout import SpanLayout

_plans: Final[WeakValueDictionary[tuple[SpanLayout, int], EncodePlan]] = WeakValueDictionary()


class EncodePlan:
    """A layout compiled for encoding; immutable, and freed with its last user.

    Args:
        layout: of the records.
        root_threshold: of the ring's header: 0, or 1 + T, up to 2**56.

    Attributes:
        c_plan: the `rb_plan *`.
        protobuf_bound: the most bytes that one record takes as protobuf.
        json_bound: the same as JSON.

    Raises:
        LayoutError: the plan would be too large, or an attribute lies outside the slot.
    """

    def __init__(self, layout: SpanLayout, root_threshold: int = 0) -> None:
        kept: list[Any] = []  # what the C struct points to: read only while the plan is made
        config = ffi.new("rb_plan_config *")
        config.span_names = _texts(layout.span_names, kept)
        config.span_name_count = len(layout.span_names)
        config.attributes = attributes = ffi.new("rb_plan_attribute[]", max(1, len(layout.fields)))
        config.attribute_count = len(layout.fields)
        config.slot_bytes = layout.slot_bytes
        config.root_threshold = root_threshold
        for entry, field in zip(attributes, layout.fields, strict=False):
            _fill(entry, field, kept)
        made, error = ffi.new("rb_plan **"), ffi.new("rb_error *")
        if lib.rb_plan_new(config, made, error) != lib.RB_OK:
            raise LayoutError(f"no encode plan: {ffi.string(error.detail).decode()}")
        self.c_plan: Any = ffi.gc(made[0], lib.rb_plan_free)
        self.protobuf_bound: int = lib.rb_plan_protobuf_bound(self.c_plan)
        self.json_bound: int = lib.rb_plan_json_bound(self.c_plan)


def plan_of(layout: SpanLayout, root_threshold: int = 0) -> EncodePlan:
    """Return the layout's plan, which all rings of that layout and threshold share."""
    plan = _plans.get((layout, root_threshold))
    if plan is None:
        plan = _plans[layout, root_threshold] = EncodePlan(layout, root_threshold)
    return plan


def stated_threshold(header: Any) -> int:
    """Return what a `rb_header` says of how roots are sampled: 1 + T; 0 where that is not known, or cannot be."""
    stated: int = header.root_threshold
    return stated if stated <= lib.RB_THRESHOLDS else 0


def find_spans(records: np.ndarray, layout: SpanLayout) -> np.ndarray:
    """Return which of these records are spans, as rb_record in ringbuf.h has it: bool, shape (n,).

    Args:
        records: array of the layout's dtype, one dimension.
        layout: its bounds.

    Raises:
        LayoutError: the layout has no plan.
    """
    return _found(records, layout)[0]


def only_spans(records: np.ndarray, layout: SpanLayout) -> np.ndarray:
    """Return those of these records that are spans; the array itself where all are. See `find_spans`."""
    found, count = _found(records, layout)
    return records if count == len(records) else records[found]


def _found(records: np.ndarray, layout: SpanLayout) -> tuple[np.ndarray, int]:
    contiguous, found = np.ascontiguousarray(records), np.empty(len(records), np.bool_)
    # Not the array itself: numpy gives no buffer of fields that are out of order.
    data = ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8))
    are_spans = ffi.from_buffer("uint8_t[]", found.view(np.uint8))
    return found, lib.rb_find_spans(plan_of(layout).c_plan, data, len(records), are_spans)


def _fill(entry: Any, field: LayoutField, kept: list[Any]) -> None:
    attribute = field.attribute
    entry.key = _texts([attribute.key], kept)[0]
    entry.type = attribute.row.code
    entry.offset = field.offset
    entry.size = attribute.size or field.nbytes
    if attribute.labels:
        entry.labels = _texts(attribute.labels, kept)
        entry.label_count = len(attribute.labels)


def _texts(texts: Sequence[str], kept: list[Any]) -> Any:
    array = ffi.new("rb_text[]", len(texts))
    for entry, text in zip(array, texts, strict=True):
        data = text.encode()
        entry.data = buffer = ffi.from_buffer(data)
        entry.bytes = len(data)
        kept.append(buffer)
    kept.append(array)
    return array
