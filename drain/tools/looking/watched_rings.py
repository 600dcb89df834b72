"""The rings of a directory over time: new ones are taken in, and those that are gone are let go."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from drain.tools.looking.ring_selection import observe, ring_paths
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drain.tools.looking.observed_ring import ObservedRing

_RESCAN_SECONDS: Final = 0.5


class WatchedRings:
    """Rings that are looked at again and again.

    Args:
        paths: the files to begin with.
        ring_dir: where new rings are looked for; None: nowhere.
        service: a pattern: only rings of such a service.
        clock: seconds that never go back.

    Attributes:
        rings: the attached ones, polled by the last `look`.
        complaints: what was wrong with files, each once; whoever tells them clears them.
    """

    def __init__(
        self,
        paths: list[Path],
        ring_dir: Path | None,
        service: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring_dir = ring_dir
        self._service = service
        self._clock = clock
        self._rescan_at = clock() + _RESCAN_SECONDS
        self._seen: set[tuple[str, int]] = set()  # name and inode, of those that were left alone too
        self._ended: set[ObservedRing] = set()
        self.rings: list[ObservedRing] = []
        self.complaints: list[str] = []
        self._take_in(paths)

    def look(self) -> None:
        """Poll the rings, and from time to time compare them with the directory."""
        # Before the poll: whoever looks after it sees the last that these rings had.
        self._ended = {ring for ring in self.rings if not ring.is_named}
        if self._ring_dir is not None and self._clock() >= self._rescan_at:
            self._rescan_at = self._clock() + _RESCAN_SECONDS
            try:
                self._take_in(ring_paths(self._ring_dir))
            except OSError as error:
                self.complaints.append(str(error))
                self._ring_dir = None
        for ring in list(self.rings):
            try:
                ring.poll()
            except RingFormatError as error:
                self.drop(ring, error.reason)

    def drop(self, ring: ObservedRing, reason: str = "") -> None:
        """Let go of a ring; with a reason, because it is not sound any more."""
        if reason:
            self.complaints.append(f"{ring.path.name}: {reason}")
        self.rings.remove(ring)
        ring.close()

    def let_go_of_ended(self) -> None:
        """Drop the rings whose file was gone before the last `look`; the caller has seen all that they had."""
        for ring in self._ended & set(self.rings):
            self.drop(ring)

    def close(self) -> None:
        """Let go of all rings, though one raises."""
        with contextlib.ExitStack() as closing:
            for ring in self.rings:
                closing.callback(self.drop, ring)

    def _take_in(self, paths: list[Path]) -> None:
        fresh: list[Path] = []
        for path in paths:
            try:
                identity = path.name, path.lstat().st_ino
            except OSError:
                identity = path.name, 0  # `observe` says why
            if identity not in self._seen:
                self._seen.add(identity)
                fresh.append(path)
        rings, unreadable = observe(fresh, self._service)
        self.rings += rings
        self.complaints += [f"{path.name}: {reason}" for path, reason in unreadable]
