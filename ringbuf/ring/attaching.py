"""Attaching to a ring, as all its readers do: the drain, the tools that look on, tests of programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingFormatError, RingVersionError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["attach", "document", "format_error"]


def attach(descriptor: int, access: int, path: Path, max_bytes: int = 0) -> Any:
    """Attach to the ring of an open file.

    Args:
        descriptor: of the file; it stays the caller's.
        access: `lib.RB_CONSUME` or `lib.RB_OBSERVE`.
        path: of the file, for messages.
        max_bytes: of the largest file that is taken; 0: any.

    Returns:
        An `rb_consumer *`, to be given to `rb_consumer_free`.

    Raises:
        RingVersionError: a ring of a later version.
        RingFormatError: no ring, or an unsound one.
        OSError: the file cannot be read or mapped.
    """
    consumer: Any = ffi.new("rb_consumer **")
    error: Any = ffi.new("rb_error *")
    status = lib.rb_attach(descriptor, access, max_bytes, consumer, error)
    detail = ffi.string(error.detail).decode(errors="replace")
    if status == lib.RB_E_SYSTEM:
        raise OSError(error.os_errno, detail, str(path))
    if status != lib.RB_OK:
        raise format_error(path, status, detail)
    return consumer[0]


def format_error(path: Path, status: int, detail: str = "") -> RingFormatError:
    """Return what to raise for an `enum rb_status` that speaks of a ring.

    Args:
        path: of the ring.
        status: which.
        detail: why, where more is known than the status says.
    """
    reason = detail or ffi.string(lib.rb_strerror(status)).decode()
    kind = RingVersionError if status == lib.RB_E_ABI_NEWER else RingFormatError
    return kind(str(path), reason, status)


def document(header: Any, name: str) -> bytes:
    """Return JSON out of a header that was checked.

    Args:
        header: what `rb_consumer_header` returns.
        name: "layout" or "resource".
    """
    start = ffi.cast("char *", header) + getattr(header, f"{name}_offset")
    return bytes(ffi.buffer(start, getattr(header, f"{name}_bytes")))
