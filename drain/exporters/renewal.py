"""When an exporter leaves its connections for new ones."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drain.settings.otlp_environment import OtlpSettings

_FAILURES: Final = 2
_LOOK_SECONDS: Final = 1.0
_ROTATION_SECONDS: Final = 5.0
_ROTATION_PAUSE_SECONDS: Final = 0.1

T = TypeVar("T")


class Renewal:
    """Says when new connections are due: certificates, key or headers changed; age; failures in a row.

    A load balancer gives a new connection a backend that is well, and one that has died without a word is not noticed
    by those who write to it.

    Args:
        settings: the files, and the age.
        clock: seconds that never go back.
    """

    def __init__(self, settings: OtlpSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = _files(settings)
        self._max_age = settings.max_connection_age
        self._clock = clock
        self._trouble = RepeatedTrouble(structlog.get_logger(), clock)
        self._lock = threading.Lock()
        self._failures = 0
        self._made_at = self._looked_at = clock()
        self._seen = _stamps(self._files)

    def is_due(self) -> bool:
        """Whether new connections are to be made now; of several threads that ask, one hears so."""
        now = self._clock()
        with self._lock:
            is_old = 0 < self._max_age <= now - self._made_at
            if is_old or self._failures >= _FAILURES or self._has_changed(now):
                self._made_at = now
                self._failures = 0
                return True
            return False

    def note(self, *, has_failed: bool) -> None:
        """Note what came of an attempt.

        Args:
            has_failed: the backend was not there, said so, or did not answer in time.
        """
        with self._lock:
            self._failures = self._failures + 1 if has_failed else 0

    def was_not_made(self, error: ValueError) -> None:
        """The files do not fit together, as in the middle of a rotation: they are looked at again in a moment."""
        self._trouble.warn("certificates or headers have changed and cannot be used yet", reason=str(error))
        with self._lock:
            self._seen = ()

    def _has_changed(self, now: float) -> bool:
        if not self._files or now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        before, self._seen = self._seen, _stamps(self._files)
        return before != self._seen


def made_after_rotation(make: Callable[[], T], settings: OtlpSettings) -> T:
    """Return what `make` makes; a start in the middle of a rotation waits for its end.

    Args:
        make: raises ValueError where certificate and key do not fit together, or one is missing.
        settings: the files. Those that nobody touched lately are not waited for.

    Raises:
        ValueError: of `make`.
    """
    deadline = time.monotonic() + _ROTATION_SECONDS
    while True:
        try:
            return make()
        except ValueError:
            if time.monotonic() >= deadline or not _were_just_touched(_files(settings)):
                raise
        time.sleep(_ROTATION_PAUSE_SECONDS)


def _files(settings: OtlpSettings) -> tuple[Path, ...]:
    files = (settings.certificate, settings.client_certificate, settings.client_key, settings.headers_file)
    return tuple(file for file in files if file is not None)


def _were_just_touched(files: tuple[Path, ...]) -> bool:
    since = time.time() - _ROTATION_SECONDS
    return any(_changed_at(file) >= since for file in files)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_ctime
    except OSError:  # it is not there, or not for us
        return float("-inf")


def _stamps(files: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
