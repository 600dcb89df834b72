"""Zstandard by libzstd at its fastest level: what goes out over HTTP, and into files, where that is asked for."""

from __future__ import annotations

_FASTEST = 1


def zstd(body: bytes) -> bytes:
    """Return a zstd frame (RFC 8878) with its content's size and checksum."""
    import zstandard  # noqa: PLC0415 - loaded by whoever compresses

    # A compressor serves one thread at a time, and this is called from several.
    return zstandard.ZstdCompressor(level=_FASTEST, write_checksum=True).compress(body)
