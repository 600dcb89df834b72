"""The doorbell on which the drain sleeps: producers ring it, and so do the drain's own threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

DOORBELL_NAME: Final = "doorbell"


class Doorbell:
    """A futex word in the ring directory.

    Read `value`, look whether there is work, then `wait` with that value: a ring in between ends the wait at once.

    Args:
        directory: the ring directory.
        mode: of the file, if it has to be made: whoever may write a ring there must be able to write it.

    Attributes:
        pointer: the `rb_doorbell *`.

    Raises:
        RingBufferError: it cannot be made or mapped.
    """

    def __init__(self, directory: Path, mode: int) -> None:
        path = directory / DOORBELL_NAME
        made: Any = ffi.new("rb_doorbell **")
        error: Any = ffi.new("rb_error *")
        if lib.rb_doorbell_open(bytes(path), mode, made, error) != lib.RB_OK:
            detail = ffi.string(error.detail).decode(errors="replace")
            raise RingBufferError(f"{path}: the doorbell cannot be made: {detail}")
        self.pointer = made[0]

    def value(self) -> int:
        """Return the word as it is now."""
        value: int = lib.rb_doorbell_value(self.pointer)
        return value

    def wait(self, value: int, seconds: float) -> None:
        """Return when the word is not `value` any more, a signal came, or the time is over."""
        lib.rb_doorbell_wait(self.pointer, value, int(seconds * 1e9))

    def ring(self) -> None:
        """End the wait, now or the next with the present value; any thread may call it."""
        lib.rb_doorbell_ring(self.pointer)

    def close(self) -> None:
        """Unmap the word; no thread may use the doorbell any more."""
        lib.rb_doorbell_free(self.pointer)
