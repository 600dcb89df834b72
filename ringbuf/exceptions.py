"""What ringbuf raises of its own; bad arguments are plain ValueError and TypeError."""

from __future__ import annotations

__all__ = ["LayoutError", "RingBufferError", "RingCreateError", "RingFormatError", "RingVersionError"]


class RingBufferError(Exception):
    """The base of all of them."""


class RingCreateError(RingBufferError):
    """A ring could not be made: the message says what to do about it."""


class RingFormatError(RingBufferError):
    """A file is no sound ring.

    Attributes:
        path: the file.
        reason: what is wrong with it, in words.
        status: the `enum rb_status` of ringbuf.h, 0 where the reason lies in the JSON.
    """

    def __init__(self, path: str, reason: str, status: int = 0) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.status = status


class RingVersionError(RingFormatError):
    """A sound ring of a newer major version: not for this reader, and not to be set aside."""


class LayoutError(RingBufferError, ValueError):
    """A layout's JSON that does not describe records: not JSON, or an attribute that does not lie in the slot."""
