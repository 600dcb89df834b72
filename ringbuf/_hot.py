"""In place of the extension where there is none: see `ringbuf._ringbuf`."""

from ringbuf._ringbuf import ffi, lib

__all__ = ["ffi", "lib"]
