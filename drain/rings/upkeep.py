"""The drain stays in its directory: what is removed from it is made anew, and the directory in its place taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.log import RepeatedTrouble
from drain.rings.directory import DirectoryLockedError, RingDirectory
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.rings.doorbell import Doorbell
    from drain.rings.reader import Reader

_LOOK_SECONDS: Final = 1.0


class Upkeep:
    """Looks after the ring directory once a second.

    Args:
        directory: locked for this drain.
        doorbell: in it.
        reader: of its rings.
        log: a line for each change.
        clock: seconds that never go back.

    Attributes:
        directory: the one that is served now.
        is_superseded: whether another drain serves it, so that this one must touch no ring any more.
    """

    def __init__(
        self,
        directory: RingDirectory,
        doorbell: Doorbell,
        reader: Reader,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self.directory = directory
        self.is_superseded = False
        self._doorbell = doorbell
        self._reader = reader
        self._log = log
        self._trouble = RepeatedTrouble(log, clock)
        self._clock = clock
        self._next_look = clock() + _LOOK_SECONDS
        self._locked_out = 0  # looks in a row that found another drain in the successor

    def look(self) -> None:
        """Do what is to be done, if it is time."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        try:
            if self.directory.is_elsewhere():
                self._take_up_successor()
            else:
                self._mend()
        except (RingBufferError, OSError) as error:
            self._trouble.warn("ring directory cannot be looked after", reason=str(error))

    def _mend(self) -> None:
        try:
            if self.directory.lock_again():
                self._log.warning("drain.lock was removed or replaced: made anew")
        except DirectoryLockedError as error:
            # Where directories can be locked, no drain gets as far as that: this one has its lock.
            self._give_up(error)
            return
        self._renew_doorbell(self.directory)
        self._reader.mend_quarantine()

    def _take_up_successor(self) -> None:
        try:
            directory = RingDirectory(self.directory.path)
        except DirectoryLockedError as error:
            self._locked_out += 1
            self._end_beside(error)
            return
        self._locked_out = 0
        try:
            self._renew_doorbell(directory)
            self._reader.move_to(directory)
        except BaseException:
            directory.close()
            raise
        self._log.warning("ring directory was replaced, its successor is taken up", path=str(directory.path))
        notes_crashes = self.directory.notes_crashes
        self.directory.close()
        self.directory = directory
        if notes_crashes:
            directory.note_crashes()

    def _renew_doorbell(self, directory: RingDirectory) -> None:
        if self._doorbell.renew(directory):
            self._log.warning("doorbell was removed, cut or replaced: made anew", path=str(directory.path))

    def _end_beside(self, error: DirectoryLockedError) -> None:
        """Read the rings to their end, which no other drain can reach now, and give up when there is none."""
        self._trouble.warn("ring directory was replaced, and its successor is another drain's", reason=str(error))
        self._reader.say_detached()
        # Not at once: the other cannot stay if it finds that the spool is this one's.
        if self._locked_out > 1 and not self._reader.rings:
            self._give_up(error)

    def _give_up(self, error: DirectoryLockedError) -> None:
        self.is_superseded = True
        self._log.error(
            "another drain has this one's place: this one ends",
            reason=str(error),
            pending=self._reader.pending,
            do="run one drain for a directory, and leave its drain.lock where it is",
        )
