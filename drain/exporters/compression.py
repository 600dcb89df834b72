"""Compression of request bodies: gzip by ISA-L, zstd by libzstd, both at their fastest level."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSIONS = ("none", "gzip", "zstd")

_GZIP_WINDOW_BITS = 31  # a window of 2^15 bytes, with gzip's header and trailer
_FASTEST = 1


def gzip(body: bytes) -> bytes:
    """Return a gzip member (RFC 1952)."""
    from isal import isal_zlib  # noqa: PLC0415 - loaded by whoever compresses

    return isal_zlib.compress(body, _FASTEST, _GZIP_WINDOW_BITS)


def zstd(body: bytes) -> bytes:
    """Return a zstd frame (RFC 8878) with its content's size and checksum."""
    import zstandard  # noqa: PLC0415 - loaded by whoever compresses

    # A compressor serves one thread at a time, and exporters are called from several.
    return zstandard.ZstdCompressor(level=_FASTEST, write_checksum=True).compress(body)


def compressor(name: str) -> Callable[[bytes], bytes] | None:
    """Return the function that compresses so, None for "none".

    Raises:
        ValueError: the name is none of `COMPRESSIONS`.

    Example:
        >>> import zlib
        >>> zlib.decompress(compressor("gzip")(b"spans"), 31)
        b'spans'
    """
    match name:
        case "none":
            return None
        case "gzip":
            return gzip
        case "zstd":
            return zstd
        case _:
            raise ValueError(f"unknown compression {name!r}: choose one of {', '.join(COMPRESSIONS)}")
