"""The memory that encoders append to."""

from __future__ import annotations

import pytest

from drain.otlp.output_buffer import OutputBuffer
from ringbuf._ringbuf import ffi


def test_bytes_stay_when_it_grows() -> None:
    buffer, expected = OutputBuffer(), b""
    for number in range(200):
        buffer.put(bytes([number]) * 5000)
        expected += bytes([number]) * 5000
    assert len(buffer) == 1_000_000
    assert bytes(buffer.view()) == expected


def test_what_was_written_in_place_counts_once_it_is_taken() -> None:
    buffer = OutputBuffer()
    buffer.put(b"ab")
    ffi.memmove(buffer.reserve(1000), b"cdef", 4)
    assert len(buffer) == 2
    buffer.grow(3)
    assert bytes(buffer.view()) == b"abcde"


@pytest.mark.parametrize("nbytes", [-1, 65_537])
def test_it_does_not_grow_beyond_its_memory(nbytes: int) -> None:
    buffer = OutputBuffer()
    with pytest.raises(ValueError, match="where there is room for 65536"):
        buffer.grow(nbytes)
    assert len(buffer) == 0


@pytest.mark.parametrize("data", [b"", b"x", b"xyz", b"x" * 4, b"x" * 70_000], ids=len)
@pytest.mark.parametrize("size", [8, 65_536])
def test_a_part_is_replaced_by_a_shorter_or_longer_one(data: bytes, size: int) -> None:
    buffer, content = OutputBuffer(), bytes(range(8)) * (size // 8)
    buffer.put(content)  # 65,536: as much as it has room for
    buffer.replace(2, 3, data)
    assert bytes(buffer.view()) == content[:2] + data + content[5:]
    assert len(buffer) <= buffer._room


def test_it_keeps_its_memory_when_it_is_cleared() -> None:
    buffer = OutputBuffer()
    buffer.put(b"x" * 100_000)
    before = buffer.view()
    buffer.clear()
    buffer.put(b"y" * 100_000)
    assert bytes(before) == b"y" * 100_000
    buffer.clear(2)
    assert bytes(buffer.view()) == b"yy"


def test_a_view_outlives_the_growth_of_its_buffer() -> None:
    buffer = OutputBuffer()
    buffer.put(b"old")
    view = buffer.view()
    buffer.put(b"x" * 1_000_000)
    assert bytes(view) == b"old"
