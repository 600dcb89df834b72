"""In place of the extension where there is none: the same names, and never a ring.

Python takes the extension of this name where it is. Without it (macOS, Windows, a processor that the ring is not made
for) programs import and run as they do elsewhere, spans are counted as local, and one warning says so. What is not
here is what only the drain calls. test_without_extension.py compares the numbers with ringbuf.h's.
"""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any, Final, NamedTuple


class rb_record(ctypes.LittleEndianStructure):  # noqa: N801 - as ringbuf.h has it
    """The core of a record."""

    _fields_ = (
        ("start_unix_nano", ctypes.c_uint64),
        ("end_unix_nano", ctypes.c_uint64),
        ("trace_id", ctypes.c_uint8 * 16),
        ("span_id", ctypes.c_uint8 * 8),
        ("parent_span_id", ctypes.c_uint8 * 8),
        ("present", ctypes.c_uint32),
        ("name", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("status", ctypes.c_uint8),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class _Type(NamedTuple):
    """What is asked of a C type: `array` has a length, `primitive` has bytes."""

    kind: str
    length: int
    nbytes: int


class _Field(NamedTuple):
    offset: int
    type: _Type


def _core_fields() -> list[tuple[str, _Field]]:
    fields = []
    for name, kind in rb_record._fields_:
        length = getattr(kind, "_length_", 0)
        place = getattr(rb_record, name)
        fields.append((name, _Field(place.offset, _Type("array" if length else "primitive", length, place.size))))
    return fields


class Producer:
    """The counts of a process without a ring."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("published", "full", "contended", "unsampled", "truncated", "invalid_values"), 0)
        self.counts |= dict.fromkeys(("local", "pending", "capacity_slots", "consumer_state", "is_open"), 0)
        self.made_in = os.getpid()

    def __int__(self) -> int:
        return id(self)

    def count_local(self, count: int) -> None:
        """Count spans that have no ring; a forked child begins at zero."""
        if self.made_in != os.getpid():
            self.__init__()  # type: ignore[misc]
        self.counts["local"] += count


def _bytes_of(data: Any, *, require_writable: bool) -> memoryview:
    """Return the bytes of a buffer, or of numpy's records, which as such Python does not take: their fields jump."""
    if getattr(data, "shape", None) == ():
        data = data.tobytes()
    view = memoryview(data.view("u1") if hasattr(data, "dtype") else data)
    if require_writable and view.readonly:
        raise BufferError
    return view.cast("B")


class _Ffi:
    """What Python's code calls of cffi's."""

    NULL: Final = None
    errno: Final = 0

    def typeof(self, name: str) -> Any:
        return SimpleNamespace(fields=_core_fields()) if name == "rb_record" else name

    def sizeof(self, kind: Any) -> int:
        return kind.nbytes if isinstance(kind, _Type) else ctypes.sizeof(rb_record)

    def offsetof(self, _struct: str, name: str) -> int:
        return int(getattr(rb_record, name).offset)

    def new(self, kind: str, _value: object = None) -> Any:
        if kind.startswith("uint8_t["):
            return bytearray(int(kind[8:-1]))
        return rb_record() if kind == "rb_record *" else SimpleNamespace()

    def buffer(self, record: rb_record | bytearray) -> bytes:
        return bytes(record)

    def from_buffer(self, kind: Any, data: Any = None, *, require_writable: bool = False) -> Any:
        if not isinstance(kind, str) or kind != "rb_record *":
            return _bytes_of(kind if data is None else data, require_writable=require_writable)
        # What is packed for numpy is written to in place.
        make = rb_record.from_buffer if isinstance(data, bytearray) else rb_record.from_buffer_copy
        return make(data)

    def cast(self, _kind: str, value: Any) -> Any:
        return value

    def string(self, text: str) -> bytes:
        return text.encode()


def _why_no_ring() -> str:
    """Return why this file is imported, and not the extension of its name."""
    tree = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs 8 ms
    if os.path.exists(os.path.join(tree, "csrc", "ringbuf.h")):  # noqa: PTH110, PTH118 - the same
        return f"{tree} is ringbuf's source, which has no extension: leave that folder for the one that is installed"
    return "this build of ringbuf has no extension: a ring needs Linux on x86-64 or aarch64, and CPython"


class _Lib:
    """The constants of ringbuf.h, and its functions as they are without a ring."""

    WHY_NO_RING: Final = _why_no_ring()

    RB_ABI_MAJOR = 1
    RB_OK, RB_NO_RING, RB_BUSY, RB_E_ARGUMENT = 0, -1, -3, -4
    RB_OBSERVE, RB_CONSUME = 0, 1
    RB_CONSUMER_ATTACHED = 1
    RB_CORE_BYTES, RB_MAX_SLOT_BYTES, RB_MAX_JSON_BYTES, RB_MAX_PATH_BYTES = 64, 16384, 262144, 4096
    RB_MAX_ATTRIBUTES, RB_MAX_LANES = 32, 64
    RB_MIN_CAPACITY_SLOTS, RB_MAX_CAPACITY_SLOTS = 4, 1 << 24
    RB_SPAN_SAMPLED, RB_SPAN_HAS_IS_REMOTE, RB_SPAN_IS_REMOTE = 0x1, 0x100, 0x200
    RB_TYPE_BOOL, RB_TYPE_I8, RB_TYPE_I16, RB_TYPE_I32, RB_TYPE_I64 = range(5)
    RB_TYPE_U8, RB_TYPE_U16, RB_TYPE_U32, RB_TYPE_U64, RB_TYPE_F64 = range(5, 10)
    RB_TYPE_LABEL, RB_TYPE_HEX, RB_TYPE_STR, RB_TYPE_BYTES, RB_TYPE_OTLP, RB_TYPE_SCOPE = range(10, 16)

    def rb_producer_new(self) -> Producer:
        return Producer()

    def rb_stats(self, producer: Producer, counts: SimpleNamespace) -> int:
        producer.count_local(0)
        vars(counts).update(producer.counts)
        return self.RB_OK

    def rb_close(self, _producer: Producer) -> int:
        return self.RB_OK

    def rb_is_removed(self, _producer: Producer) -> int:
        return 0

    def rb_strerror(self, status: int) -> str:
        return f"status {status}"

    # What keeps the GIL in the extension: `_hot`.

    def rb_emit(self, _producer: Producer, _record: object) -> int:
        return self.RB_NO_RING

    def rb_emit_batch(self, _producer: Producer, _records: object, _count: int) -> int:
        return self.RB_NO_RING

    def rb_count_local(self, producer: Producer, count: int) -> None:
        producer.count_local(count)

    def rb_count_truncated(self, _producer: Producer, _count: int) -> None:
        """Without a ring there was no span either whose values could be cut."""

    def rb_count_invalid_values(self, _producer: Producer, _count: int) -> None:
        """The same."""

    def rb_is_set_aside(self, _producer: Producer) -> int:
        return 0

    def rb_dropped(self, _producer: Producer) -> int:
        return 0

    def rb_new_ids(self, _producer: Producer, trace_id: Any, span_id: Any) -> None:
        trace_id[0:16], span_id[0:8] = os.urandom(16), os.urandom(8)

    def rb_fill_ids(self, _producer: Producer, records: Any, count: int, slot_bytes: int) -> None:
        for start in range(0, count * slot_bytes, slot_bytes):
            core = rb_record.from_buffer(records, start)
            core.trace_id = core.trace_id if any(core.trace_id) else (ctypes.c_uint8 * 16)(*os.urandom(16))
            core.span_id = core.span_id if any(core.span_id) else (ctypes.c_uint8 * 8)(*os.urandom(8))


ffi: Final = _Ffi()
lib: Final = _Lib()
