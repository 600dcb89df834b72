"""The doorbell on which the drain sleeps: producers ring it, and so do the drain's own threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

from drain.rings.directory import file_id
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

    from drain.rings.directory import RingDirectory

DOORBELL_NAME: Final = "doorbell"


class Doorbell:
    """A futex word in the ring directory.

    Read `value`, look whether there is work, then `wait` with that value: a ring in between ends the wait at once.

    Args:
        directory: the ring directory.
        mode: of the file, if it has to be made: whoever may write a ring there must be able to write it.

    Attributes:
        pointer: the `rb_doorbell *`; another one after `renew`.

    Raises:
        RingBufferError: it cannot be made or mapped.
    """

    def __init__(self, directory: Path, mode: int) -> None:
        self.pointer = _opened(directory / DOORBELL_NAME, mode)
        self._renewing = threading.Lock()  # else a ring could use what is freed
        self._is_closed = False

    def renew(self, directory: RingDirectory) -> bool:
        """Make the file anew where it is gone, cut or another one; return whether it was.

        Producers that have the old file mapped go on ringing that: it is waited for as well.

        Args:
            directory: where it is to be.

        Raises:
            RingBufferError: it cannot be made or mapped; the doorbell is as it was.
        """
        if directory.is_here(DOORBELL_NAME, file_id(lib.rb_doorbell_fd(self.pointer))):
            return self._fill_up(directory)
        made = _opened(directory.path / DOORBELL_NAME, directory.doorbell_mode)
        with self._renewing:
            lib.rb_doorbell_follow(made, self.pointer)
            self.pointer = made
        return True

    def value(self) -> int:
        """Return the word as it is now."""
        value: int = lib.rb_doorbell_value(self.pointer)
        return value

    def wait(self, value: int, seconds: float) -> None:
        """Return when the word is not `value` any more, a signal came, or the time is over."""
        lib.rb_doorbell_wait(self.pointer, value, int(seconds * 1e9))

    def ring(self) -> None:
        """End the wait, now or the next with the present value; any thread may call it, at any time."""
        with self._renewing:
            if not self._is_closed:  # a scrape or a reload may be under way when the drain ends
                lib.rb_doorbell_ring(self.pointer)

    def close(self) -> None:
        """Unmap the word; nobody may wait any more."""
        with self._renewing:
            self._is_closed = True
            lib.rb_doorbell_free(self.pointer)

    def _fill_up(self, directory: RingDirectory) -> bool:
        """Give the file its page again if it was cut: the mappings of it are good again with that."""
        if not self._is_cut():
            return False
        lib.rb_doorbell_free(_opened(directory.path / DOORBELL_NAME, directory.doorbell_mode))
        return not self._is_cut()

    def _is_cut(self) -> bool:
        size_bytes: int = os.fstat(lib.rb_doorbell_fd(self.pointer)).st_size
        page_bytes: int = lib.RB_PAGE_BYTES
        return size_bytes < page_bytes


def _opened(path: Path, mode: int) -> Any:
    made: Any = ffi.new("rb_doorbell **")
    error: Any = ffi.new("rb_error *")
    if lib.rb_doorbell_open(bytes(path), mode, made, error) != lib.RB_OK:
        detail = ffi.string(error.detail).decode(errors="replace")
        raise RingBufferError(f"{path}: the doorbell cannot be made: {detail}")
    return made[0]
