"""Reads a ring through the C API alone: the drain's steps, one by one, without the drain."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.layout import SpanLayout

if TYPE_CHECKING:
    from pathlib import Path

# Of a header: there are few, and to read one takes as long as to attach its ring.
layout_of = functools.lru_cache(maxsize=64)(SpanLayout.from_json)
OUTCOMES = ("delivered", "spooled", "rejected", "dead_lettered", "invalid")


class RefusedError(Exception):
    """What rb_attach, or a call on an attached ring, said instead of a result."""

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(f"{status}: {detail or ffi.string(lib.rb_strerror(status)).decode()}")
        self.status = status
        self.detail = detail


class Consumer:
    """An attached ring.

    `layout` is the one in the header unless another is given: rings of the C tests have none.
    """

    def __init__(
        self, path: Path, *, observe: bool = False, max_bytes: int = 0, layout: SpanLayout | None = None
    ) -> None:
        fd = os.open(path, os.O_RDONLY if observe else os.O_RDWR)
        try:
            self.pointer = attach(fd, lib.RB_OBSERVE if observe else lib.RB_CONSUME, max_bytes)
        finally:
            os.close(fd)
        self.header = lib.rb_consumer_header(self.pointer)
        self.layout = layout or layout_of(self.json("layout"))
        self._views = ffi.new("rb_lane_view[]", self.header.lane_count)

    def json(self, name: str) -> bytes:
        """Return the header's layout or resource."""
        offset = getattr(self.header, f"{name}_offset")
        return bytes(ffi.buffer(ffi.cast("char *", self.header) + offset, getattr(self.header, f"{name}_bytes")))

    def poll(self) -> int:
        """Look at all lanes; return how many records are ready."""
        return checked(lib.rb_poll(self.pointer, self._views))

    def view(self, lane: int = 0) -> Any:
        """Return a fresh rb_lane_view of a lane."""
        self.poll()
        return self._views[lane]

    def copy(self, lane: int = 0, count: int = 1 << 24) -> np.ndarray[Any, np.dtype[np.void]]:
        """Copy at most `count` ready records out of a lane."""
        room = min(count, self.header.capacity_slots)
        buffer = bytearray(room * self.header.slot_bytes)
        pointer = ffi.from_buffer(buffer)
        got = checked(lib.rb_copy(self.pointer, lane, pointer, room))
        return np.frombuffer(buffer, self.layout.dtype)[:got]

    def release(self, count: int = 0, lane: int = 0, **outcome: int) -> None:
        """Release records of a lane: `count` as delivered, or as the outcome has it."""
        counts = {"delivered": count} | outcome
        checked(lib.rb_release(self.pointer, lane, ffi.new("rb_outcome *", counts)))

    def take(self, lane: int = 0) -> np.ndarray[Any, np.dtype[np.void]]:
        """Copy all that is ready in a lane and release it as delivered."""
        records = self.copy(lane)
        self.release(len(records), lane)
        return records

    def take_all(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Do so with every lane."""
        return joined([self.take(lane) for lane in range(self.header.lane_count)])

    def set_state(self, state: int) -> None:
        checked(lib.rb_set_consumer_state(self.pointer, state))

    def set_sleeping(self, sleeping: int) -> int:
        """Say that the drain sleeps; return whether records are ready after all."""
        return checked(lib.rb_set_sleeping(self.pointer, sleeping))

    def close(self) -> None:
        """Unmap the ring without a word in it: as a killed drain leaves it."""
        lib.rb_consumer_free(self.pointer)
        self.pointer = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def attach(fd: int, access: int, max_bytes: int = 0) -> Any:
    """Return an `rb_consumer *`, or raise RefusedError with status and detail."""
    made = ffi.new("rb_consumer **")
    error = ffi.new("rb_error *")
    status = lib.rb_attach(fd, access, max_bytes, made, error)
    if status != lib.RB_OK:
        assert error.status == status
        raise RefusedError(status, ffi.string(error.detail).decode())
    return made[0]


def checked(result: int) -> int:
    """Return a result that is no status."""
    if result < 0:
        raise RefusedError(result)
    return result


def rings_in(ring_dir: Path) -> list[Path]:
    """Return the rings of a directory."""
    return sorted(ring_dir.glob("*.ring"))


def records_in(ring_dir: Path) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return what is ready in all rings of a directory (one layout), as delivered."""
    taken = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            taken.append(consumer.take_all())
    return joined(taken)


def joined(parts: list[np.ndarray[Any, np.dtype[np.void]]]) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return arrays of one dtype in a row; np.concatenate would move the fields together."""
    return np.frombuffer(b"".join(part.tobytes() for part in parts), parts[0].dtype)


def span_ids(records: np.ndarray[Any, np.dtype[np.void]]) -> list[bytes]:
    """Return the span ids of records."""
    return [bytes(span_id) for span_id in records["span_id"]]
