"""Which files of a ring directory are opened, and which are left alone or tried again later."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING, Final

from drain.log import RepeatedTrouble
from drain.rings.ring import OPEN_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.rings.admission import Admission
    from drain.rings.directory import RingDirectory

# Kept free of rings: for the backend, the spool, and as many clients as the listener takes.
_OTHER_DESCRIPTORS: Final = 320
_RESCAN_SECONDS: Final = 1.0  # after trouble that lies in this process or machine, not in the file

_NOT_A_RING_ERRNOS: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EACCES, errno.EPERM})


class Intake:
    """Opens the files of one directory.

    Args:
        directory: this drain's own.
        admission: which files are taken in.
        log: a line for each file that is left alone.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        directory: RingDirectory,
        admission: Admission,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self.admission = admission
        self._directory = directory
        self._log = log
        self._trouble = RepeatedTrouble(log, clock)
        self._clock = clock
        self._left_alone: dict[int, str] = {}  # by inode: names of files that were refused, and said to be
        self._look_again_at: float | None = None
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._ring_descriptors = descriptors - min(_OTHER_DESCRIPTORS, descriptors // 2)

    @property
    def left_alone(self) -> int:
        """How many files of the directory are not read: refused, or of a newer version."""
        return len(self._left_alone)

    def is_due(self) -> bool:
        """Whether `names` may have something new to say."""
        again = self._look_again_at
        return self._directory.changed() or (again is not None and self._clock() >= again)

    def names(self) -> dict[str, int] | None:
        """Return the inode of each name that ends in `.ring`; None where the directory cannot be read now."""
        self._look_again_at = None
        try:
            names = self._directory.ring_files()
        except OSError as error:  # no descriptor, no memory: the rings that are attached go on
            self._look_again_at = self._clock() + _RESCAN_SECONDS
            self._trouble.warn("ring directory cannot be read now", reason=str(error))
            return None
        self._left_alone = {inode: name for inode, name in self._left_alone.items() if names.get(name) == inode}
        return names

    def is_left_alone(self, inode: int) -> bool:
        """Whether a file was refused, and said to be."""
        return inode in self._left_alone

    def opened(self, name: str, inode: int) -> int | None:
        """Open a file that is admitted; None where it is left alone, gone, another one, or not to be had now."""
        try:
            fd = os.open(name, OPEN_FLAGS, dir_fd=self._directory.fd)
            if fd >= self._ring_descriptors:  # the kernel gives the lowest that is free
                os.close(fd)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # noqa: TRY301 - met below like the one of the kernel
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NOT_A_RING_ERRNOS:
                self.leave_alone(name, inode, f"cannot be opened: {error.strerror}")
            else:
                self.try_again_later(name, error)
            return None
        status = os.fstat(fd)
        refusal = self.admission.refusal(status)
        if refusal is not None:
            self.leave_alone(name, status.st_ino, refusal)
        elif status.st_ino == inode:
            return fd
        os.close(fd)
        return None

    def leave_alone(self, name: str, inode: int, reason: str) -> None:
        """Do not look at a file again, and say why."""
        self._left_alone[inode] = name
        self._log.warning("file left alone", ring=name, reason=reason)

    def never_again(self, name: str, inode: int) -> None:
        """Do not look at a file again, of which all was said."""
        self._left_alone[inode] = name

    def try_again_later(self, name: str, error: OSError | MemoryError) -> None:
        """Look at the directory again soon: what is in the way is not in the file."""
        self._look_again_at = self._clock() + _RESCAN_SECONDS
        self._trouble.warn("ring cannot be attached now", ring=name, reason=str(error))

    def admit(self, admission: Admission) -> None:
        """Judge files by other rules from now on, those that were left alone once more."""
        self.admission = admission
        self._left_alone.clear()
        self._look_again_at = self._clock()

    def move_to(self, directory: RingDirectory) -> None:
        """Open the files of another directory from now on."""
        self._directory = directory
