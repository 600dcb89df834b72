"""A private ring for a measurement, and what empties it between the bursts, with the clock stopped."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import ringbuf
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ringbuf import Emitter

_COPIED_AT_ONCE = 4096


class Taker:
    """Takes records out of one ring and forgets them: copy, then release, as the drain does before it encodes.

    Args:
        path: of the ring.

    Raises:
        RingBufferError: it cannot be attached.
    """

    def __init__(self, path: Path) -> None:
        consumer = ffi.new("rb_consumer **")
        error = ffi.new("rb_error *")
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if lib.rb_attach(fd, lib.RB_CONSUME, 0, consumer, error) != lib.RB_OK:
                raise RingBufferError(f"{path}: {ffi.string(error.detail).decode()}")
        finally:
            os.close(fd)
        self._consumer = consumer[0]
        header = lib.rb_consumer_header(self._consumer)
        self._lanes = header.lane_count
        self._views = ffi.new("rb_lane_view[]", self._lanes)
        self._records = ffi.new("uint8_t[]", _COPIED_AT_ONCE * header.slot_bytes)
        self._outcome = ffi.new("rb_outcome *")

    def take(self) -> int:
        """Take what is there; return how many records that was."""
        taken = 0
        while self._checked(lib.rb_poll(self._consumer, self._views)):
            for lane in range(self._lanes):
                copied = self._checked(lib.rb_copy(self._consumer, lane, self._records, _COPIED_AT_ONCE))
                if copied:
                    self._outcome.delivered = copied
                    self._checked(lib.rb_release(self._consumer, lane, self._outcome))
                    taken += copied
        return taken

    def close(self) -> None:
        """Unmap the ring."""
        lib.rb_consumer_free(self._consumer)

    @staticmethod
    def _checked(status: int) -> int:
        if status < 0:
            raise RingBufferError(ffi.string(lib.rb_strerror(status)).decode())
        return status


@contextmanager
def shared_emitter(**arguments: Any) -> Iterator[Emitter]:
    """Configure the process's shared emitter in a directory of its own.

    Raises:
        RingBufferError: at the end, when spans were dropped: a figure that was made so would be none.
    """
    with tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as directory:
        emitter = ringbuf.configure("bench", ring_dir=directory, **arguments)
        try:
            yield emitter
            stats = emitter.stats()
            if stats.published != stats.attempts:
                raise RingBufferError(f"the measurement dropped spans: {stats}")
        finally:
            emitter.close()


@contextmanager
def emptied_emitter(**arguments: Any) -> Iterator[tuple[Emitter, Taker]]:
    """Do the same, and yield what empties the ring, too."""
    with shared_emitter(**arguments) as emitter:
        path = emitter.stats().path
        assert path is not None
        with closing(Taker(path)) as taker:
            yield emitter, taker
            taker.take()
