"""Gzip by ISA-L at its fastest level: what spool and dead letters hold, and what goes out over HTTP."""

from __future__ import annotations

_WINDOW_BITS = 31  # a window of 2^15 bytes, with gzip's header and trailer
_FASTEST = 1


def gzip(body: bytes) -> bytes:
    """Return a gzip member (RFC 1952).

    Example:
        >>> gunzip(gzip(b"spans"))
        b'spans'
    """
    from isal import isal_zlib  # noqa: PLC0415 - loaded by whoever compresses

    return isal_zlib.compress(body, _FASTEST, _WINDOW_BITS)


def gunzip(data: bytes) -> bytes:
    """Return the content of all gzip members, which follow each other.

    Raises:
        ValueError: a member is not sound or not whole, or something else follows it.

    Example:
        >>> gunzip(gzip(b"sp") + gzip(b"ans"))
        b'spans'
    """
    contents = members(data)
    return contents[0] if len(contents) == 1 else b"".join(contents)


def members(data: bytes) -> list[bytes]:
    """Return the content of each gzip member.

    Raises:
        ValueError: as above.
    """
    from isal import isal_zlib  # noqa: PLC0415 - loaded by whoever decompresses
    from isal.igzip_lib import IsalError  # noqa: PLC0415 - likewise

    parts = []
    while True:
        member = isal_zlib.decompressobj(_WINDOW_BITS)
        try:
            parts.append(member.decompress(data))
        except IsalError as error:  # type: ignore[misc]  # isal's stub has it as an instance
            raise ValueError(f"gzip: {error}") from None
        if not member.eof:
            raise ValueError("gzip: the last member is cut")
        data = member.unused_data
        if not data:
            return parts
