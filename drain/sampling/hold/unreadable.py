"""What can still be said of a chunk that cannot be used: how many records it had, by their origin."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.sampling.hold.chunk import Fate
from drain.sampling.hold.files import open_own
from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from pathlib import Path

_WORD_BYTES: Final = 4
_CHECKED_FROM: Final = dict(ffi.typeof("rb_segment").fields)["bytes"].offset


def published_in(path: Path) -> Counter[bytes]:
    """Return how many records of each origin wait in a chunk that was cut, or whose head says what cannot be.

    Words lie at the end: where a file was cut nobody knows what was settled, and this is at most.
    Each segment is believed as far as its checksum goes; what a later version has made is not counted at all.
    """
    try:
        content = _content_of(path)
    except OSError:
        return Counter()
    waiting: Counter[bytes] = Counter()
    head: Any = ffi.new("rb_chunk_head *")
    ffi.memmove(head, content[: lib.RB_CHUNK_HEAD_BYTES], min(len(content), lib.RB_CHUNK_HEAD_BYTES))
    if head.version > lib.RB_CHUNK_VERSION:
        return waiting
    has_words = head.file_bytes == len(content)
    at, slots, number = lib.RB_CHUNK_HEAD_BYTES, 0, None
    while at + lib.RB_SEGMENT_HEAD_BYTES <= len(content):
        raw = content[at : at + lib.RB_SEGMENT_HEAD_BYTES]
        segment: Any = ffi.new("rb_segment *")
        ffi.memmove(segment, raw, len(raw))
        number = segment.number if number is None else number
        is_sound = segment.number == number != 0 and zlib.crc32(raw[_CHECKED_FROM:]) == segment.crc32
        least = lib.RB_SEGMENT_HEAD_BYTES + segment.count * lib.RB_CORE_BYTES
        if not is_sound or segment.first_slot != slots or segment.bytes < least:
            break
        slots += segment.count
        at += segment.bytes
        count = segment.count
        if has_words and _WORD_BYTES * slots <= len(content):
            words = np.frombuffer(content, "<u4", count, len(content) - _WORD_BYTES * slots)
            count = int(((words == Fate.WAITING) | (words > Fate.LOST)).sum())
        waiting[bytes(segment.origin)] += count
    return waiting


def _content_of(path: Path) -> bytes:
    """Return what a file of ours has, of a chunk's bytes at most."""
    fd = open_own(path)
    try:
        return os.pread(fd, min(os.fstat(fd).st_size, lib.RB_MAX_CHUNK_BYTES), 0)
    finally:
        os.close(fd)
