"""Compression of request bodies, which each has for itself once it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drain.otlp.request import Request

COMPRESSIONS: Final = ("none", "gzip", "zstd")


def check_compression(name: str) -> None:
    """Raise where there is no such compression.

    Raises:
        ValueError: the name is none of `COMPRESSIONS`.
    """
    if name not in COMPRESSIONS:
        raise ValueError(f"unknown compression {name!r}: choose one of {', '.join(COMPRESSIONS)}")


def compressed(request: Request, name: str) -> bytes:
    """Return a request's body as it goes out; it is compressed once, however often it is sent.

    Args:
        request: whose body.
        name: one of `COMPRESSIONS`.

    Example:
        >>> import gzip
        >>> from drain.otlp.request import Request
        >>> gzip.decompress(compressed(Request(b"spans", 1, "protobuf"), "gzip"))
        b'spans'
    """
    match name:
        case "none":
            return request.body
        case "gzip":
            return request.gzip()
        case _:
            return request.zstd()
