"""Bodies that a receiver keeps in a file before it answers: a kill of the receiver cuts the last one at most."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH = struct.Struct("<I")


class KeptBodies:
    """Appends bodies to a file, each in one write with its length before it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, body: bytes) -> None:
        os.write(self._file, _LENGTH.pack(len(body)) + body)


def bodies_in(path: Path, begin: int = 0) -> tuple[list[bytes], int]:
    """Return the whole bodies of such a file from a byte on, and where the next begins; none where there is no file."""
    if not path.exists():
        return [], begin
    with path.open("rb") as file:
        file.seek(begin)
        data = file.read()
    bodies, at = [], 0
    while at + _LENGTH.size <= len(data):
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        bodies.append(data[at + _LENGTH.size : end])
        at = end
    return bodies, begin + at
