"""What is asked of the process that examines rings, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Suspect(NamedTuple):
    """A ring file.

    Attributes:
        name: in the ring directory.
        inode: a file that has the name now and another inode is passed over.
        bytes: of the file.
    """

    name: str
    inode: int
    bytes: int


@dataclass(slots=True)
class Verdict:
    """What became of a process that read a ring.

    Attributes:
        inode: of the ring.
        unsafe: by lane: positions of the records that kill.
        reason: why the whole ring must not be read; empty: it may, without the records in `unsafe`.
        is_attachable: whether at least its header can be read.
    """

    inode: int
    unsafe: dict[int, list[int]] = field(default_factory=dict)
    reason: str = ""
    is_attachable: bool = True
