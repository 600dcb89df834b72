"""Whose ring files a drain takes in, and how large they may be."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from ringbuf.wording import counted


@dataclass(frozen=True, slots=True)
class Admission:
    """Which files a drain takes in.

    Attributes:
        uids: owners beside the drain's own user.
        gids: groups whose files are taken, whoever owns them.
        max_ring_bytes: larger files are left alone.
    """

    uids: frozenset[int]
    gids: frozenset[int]
    max_ring_bytes: int

    def refusal(self, status: os.stat_result) -> str | None:
        """Return why this file is not even looked into, None when it is.

        Args:
            status: of the open file.
        """
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_uid != os.geteuid() and status.st_uid not in self.uids and status.st_gid not in self.gids:
            return f"belongs to uid {status.st_uid}, gid {status.st_gid}; see --allow-uid and --allow-gid"
        if status.st_nlink > 1:
            return f"has {status.st_nlink} names"
        if status.st_size > self.max_ring_bytes:
            return f"has {counted(status.st_size, 'byte')}, --max-ring-bytes is {self.max_ring_bytes}"
        return None
