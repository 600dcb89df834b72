"""Memory that encoders append to, and that stays when it is cleared.

A batch of megabytes in memory that is new each time costs a page fault for every 4 KiB: more than encoding it.
"""

from __future__ import annotations

from typing import Any, Final

from ringbuf._ringbuf import ffi

# cffi's own zero-fills.
_new_uncleared: Final = ffi.new_allocator(should_clear_after_alloc=False)
_LEAST_ROOM: Final = 1 << 16


class OutputBuffer:
    """A growing array of bytes. One thread at a time may use it.

    >>> buffer = OutputBuffer()
    >>> buffer.put(b"??? world")
    >>> buffer.replace(0, 3, b"hello")
    >>> bytes(buffer.view()), len(buffer)
    (b'hello world', 11)
    >>> buffer.clear()
    >>> len(buffer)
    0
    """

    def __init__(self) -> None:
        self._room = _LEAST_ROOM
        self._memory: Any = _new_uncleared("uint8_t[]", self._room)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def reserve(self, nbytes: int) -> Any:
        """Make room for `nbytes` bytes more; return the `uint8_t *` at which they go. `grow` makes them part of it."""
        needed = self._used + nbytes
        if needed > self._room:
            room = max(needed, 2 * self._room)
            memory = _new_uncleared("uint8_t[]", room)
            ffi.memmove(memory, self._memory, self._used)
            self._memory, self._room = memory, room
        return self._memory + self._used

    def grow(self, nbytes: int) -> None:
        """Take `nbytes` bytes that were written where `reserve` said.

        Raises:
            ValueError: there are not so many: what `view` shows would reach beyond the memory.
        """
        if not 0 <= nbytes <= self._room - self._used:
            raise ValueError(f"{nbytes} bytes where there is room for {self._room - self._used}")
        self._used += nbytes

    def put(self, data: bytes) -> None:
        """Append `data`."""
        ffi.memmove(self.reserve(len(data)), data, len(data))
        self._used += len(data)

    def replace(self, at: int, nbytes: int, data: bytes) -> None:
        """Put `data` in the place of `nbytes` bytes from index `at` on; what follows moves if it must."""
        change = len(data) - nbytes
        if change:
            self.reserve(max(0, change))
            rest = self._memory + at + nbytes
            ffi.memmove(rest + change, rest, self._used - at - nbytes)
            self._used += change
        ffi.memmove(self._memory + at, data, len(data))

    def clear(self, used: int = 0) -> None:
        """Forget all bytes but the first `used`; views of what is forgotten are no longer of use."""
        self._used = used

    def view(self) -> memoryview:
        """Return the bytes, not copied: good until the buffer is cleared and written again."""
        return memoryview(ffi.buffer(self._memory, self._used))
