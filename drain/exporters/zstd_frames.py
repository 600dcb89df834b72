"""Where the whole zstd frames of a file end: a kill in the middle of a write leaves a part of one behind.

Source: RFC 8878, sections 3.1.1 and 3.1.1.2. Frames that follow each other are one valid zstd file.
"""

from __future__ import annotations

import os

import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"

_LONGEST_HEADER = 18
_BLOCK_HEADER = 3
_RLE = 1
_CHECKSUM = 4


def whole_frames_end(descriptor: int) -> int:
    """Return the offset behind the last frame that is there to its end, walking over block headers only."""
    end = 0
    while (next_end := _frame_end(descriptor, end)) is not None:
        end = next_end
    return end


def is_cut(descriptor: int) -> bool:
    """Return whether the file ends within a frame, which zstandard's stream reader does not tell."""
    end = whole_frames_end(descriptor)
    rest = os.pread(descriptor, len(MAGIC), end)
    return bool(rest) and rest == MAGIC[: len(rest)]


def _frame_end(descriptor: int, start: int) -> int | None:
    header = os.pread(descriptor, _LONGEST_HEADER, start)
    try:
        has_checksum = zstandard.get_frame_parameters(header).has_checksum
        position = start + zstandard.frame_header_size(header)
    except zstandard.ZstdError:
        return None
    last = False
    while not last:
        block_header = os.pread(descriptor, _BLOCK_HEADER, position)
        if len(block_header) < _BLOCK_HEADER:
            return None
        bits = int.from_bytes(block_header, "little")
        last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
        position += _BLOCK_HEADER + (1 if kind == _RLE else size)
    position += _CHECKSUM if has_checksum else 0
    return position if position <= os.fstat(descriptor).st_size else None
