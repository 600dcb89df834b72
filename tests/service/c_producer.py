"""Rings made through the C API, where a test needs what `Emitter` does not offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.ring.resource import resource_to_json
from tests.service.draining import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class CProducer:
    """A producer of the C API with one lane."""

    def __init__(
        self,
        ring_dir: Path,
        *,
        first_position: int = 0,
        capacity: int = 64,
        layout: bytes | None = None,
        resource: bytes | None = None,
        slot_bytes: int | None = None,
    ) -> None:
        self._layout = LAYOUT.to_json() if layout is None else layout
        self._resource = resource_to_json({"service.name": "shop"}) if resource is None else resource
        kept = [
            ffi.new("char[]", bytes(ring_dir)),
            ffi.new("char[]", b"shop"),
            ffi.from_buffer(self._layout),
            ffi.from_buffer(self._resource),
        ]
        config: Any = ffi.new(
            "rb_config *",
            {
                "ring_dir": kept[0],
                "service_name": kept[1],
                "layout_json": ffi.cast("char *", kept[2]),
                "resource_json": ffi.cast("char *", kept[3]),
                "layout_bytes": len(self._layout),
                "resource_bytes": len(self._resource),
                "slot_bytes": slot_bytes or LAYOUT.slot_bytes,
                "span_name_count": 1,
                "lane_count": 1,
                "capacity_slots": capacity,
                "file_mode": 0o600,
                "root_always": 1,
                "first_position": first_position,
            },
        )
        path = ffi.new("char[]", lib.RB_MAX_PATH_BYTES)
        error: Any = ffi.new("rb_error *")
        self._producer = lib.rb_producer_new()
        status = lib.rb_open(self._producer, config, path, error)
        assert status == lib.RB_OK, ffi.string(error.detail)

    def emit(self, numbers: Iterable[int]) -> int:
        values = list(numbers)
        records = np.zeros(len(values), LAYOUT.dtype)
        records["number"] = records["start_unix_nano"] = values
        records["present"] = 1
        records["flags"] = 0x101
        pointer = ffi.cast("rb_record *", records.ctypes.data)
        hot.rb_fill_ids(self._producer, pointer, len(values), LAYOUT.slot_bytes)
        return int(hot.rb_emit_batch(self._producer, pointer, len(values)))

    def close(self) -> None:
        lib.rb_close(self._producer)
        lib.rb_producer_free(self._producer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
