"""Batches that the backend refused for good: gathered in files of a folder, from where they can be sent again.

A letter is durable before its batch is settled. It goes behind the others of the newest file, under the file's lock
(flock), or begins a file. `ringbuf-drain replay` has that lock from before it reads a file until it has removed it, and
so works beside a drain.

What is kept is bounded. Beyond the bounds the oldest file is deleted, and its spans are counted (`LetterSums.deleted`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from drain.accounting.letter_sums import LetterStatus, LetterSums
from drain.accounting.sums import MAX_SERVICES, OTHER_SERVICES
from drain.delivery.letter_file import SUFFIX, Stock, letter_of, services_in, take_stock
from drain.log import RepeatedTrouble
from drain.private_folder import ensure_private_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.otlp.request import Request

# What is deleted at once is a file: of the bound in bytes at most such a part.
_FILE_SHARE: Final = 16
_LARGEST_FILE_BYTES: Final = 16 << 20
_LOOK_SECONDS: Final = 0.25
_KEEP_SECONDS: Final = 2.0  # that a thread with other work waits for the disk
_DIGITS: Final = 20  # of a time in nanoseconds, with which a file's name begins
_NOTHING: Final = Stock(0, {}, 0)
_NO_SPANS: Final[Mapping[str, int]] = MappingProxyType({})


class DeadLetters:
    """A folder of refused batches, bounded; any thread may use it.

    Args:
        folder: made with mode 0700 if it is not there.
        max_files: the oldest go when there are more.
        max_bytes: the oldest go when they take more together; the newest stays even if it alone takes more.
        log: where trouble is told.
        unix_nano: the time of day.

    Raises:
        RingBufferError: the folder is not ours alone.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_files: int,
        max_bytes: int,
        log: FilteringBoundLogger,
        unix_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        ensure_private_folder(folder)
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._trouble = RepeatedTrouble(log.bind(dead_letters=str(folder)))
        self._unix_nano = unix_nano
        self._lock = threading.Lock()
        self._busy_lock = threading.Lock()
        self._busy = 0  # how often a letter was not tried for a disk that hung
        self._looker: threading.Thread | None = None
        self._files: dict[str, Stock] = {}
        self._newest = ""  # to which the next letter may go
        self._status = LetterStatus({}, 0, 0, max_bytes)
        for left in folder.glob("*.part"):
            left.unlink()  # a kill had left it: the batch is where it came from
        self._look()
        self._mend()

    def keep(self, request: Request, reason: str, endpoint: str) -> bool:
        """Write a batch; return whether it is on disk for good.

        Args:
            request: what was refused.
            reason: of the backend.
            endpoint: of the backend.
        """
        now = self._unix_nano()
        letter = letter_of(request, reason, endpoint, now)
        # A disk that hangs holds the thread that writes, but not those that have batches to send.
        if not self._lock.acquire(timeout=_KEEP_SECONDS):
            self._trouble.warn("dead letter cannot be kept, it waits", spans=request.spans, reason="the disk is busy")
            with self._busy_lock:
                self._busy += 1
            return False
        try:
            return self._is_written(request, letter, self._next_name(now))
        finally:
            self._lock.release()

    def status(self) -> LetterStatus:
        """Return what is kept, after a look at what others took away; a disk that hangs is waited for a moment only."""
        looker = self._looker
        if looker is None or not looker.is_alive():
            looker = self._looker = threading.Thread(target=self._look_again, name="dead-letters", daemon=True)
            try:
                looker.start()
            except RuntimeError:  # no thread is to be had
                self._looker = None
                return self._now()
        looker.join(_LOOK_SECONDS)
        return self._now()

    def _now(self) -> LetterStatus:
        status = self._status
        return replace(status, batches_failed=status.batches_failed + self._busy)

    # ---- writing ----

    def _is_written(self, request: Request, letter: bytes, name: str) -> bool:
        try:
            services = services_in(request)
            if not self._append(letter, services):
                self._begin(name, letter, services)
        except OSError as error:
            self._status = replace(self._status, batches_failed=self._status.batches_failed + 1)
            self._trouble.warn("dead letter cannot be kept, it waits", spans=request.spans, reason=error.strerror)
            return False
        self._status = replace(self._status, batches_kept=self._status.batches_kept + 1)
        try:
            self._remove_oldest()
        except OSError as error:  # the new one is kept, and must not be kept again
            self._trouble.warn("dead letters are too many, and cannot be removed", reason=str(error))
        return True

    def _append(self, letter: bytes, services: Mapping[str, int]) -> bool:
        """Put a letter behind the others of the newest file; return whether it could go there."""
        before = self._files.get(self._newest)
        most = min(_LARGEST_FILE_BYTES, self._max_bytes // _FILE_SHARE)
        if before is None or before.end + len(letter) > most:
            return False
        descriptor = self._locked(self._newest, before.end)
        if descriptor is None:
            return False
        try:
            try:
                _write(descriptor, letter)
                os.fdatasync(descriptor)
            except BaseException:
                self._newest = ""  # of what was written nobody knows how much is on the disk
                os.ftruncate(descriptor, before.end)
                raise
        finally:
            os.close(descriptor)
        end = before.end + len(letter)
        self._count(self._newest, Stock(end, Counter(before.services) + Counter(services), end), kept=services)
        return True

    def _locked(self, name: str, file_bytes: int) -> int | None:
        """Return a descriptor of a file with its lock; None where somebody reads, has taken or has changed it."""
        with contextlib.ExitStack() as stack:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(self._folder / name, flags)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
            except OSError:
                return None
            if status.st_nlink != 1 or status.st_size != file_bytes:
                return None
            stack.pop_all()
            return descriptor

    def _next_name(self, now: int) -> str:
        """Return a name behind all others in their order, whatever the clock was set to."""
        times = [int(name[:_DIGITS]) for name in self._files if name[:_DIGITS].isdecimal()]
        return f"{max([now, *(time + 1 for time in times)]):0{_DIGITS}}-{secrets.token_hex(4)}{SUFFIX}"

    def _begin(self, name: str, letter: bytes, services: Mapping[str, int]) -> None:
        part = self._folder / f"{name}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(descriptor, letter)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            part.rename(self._folder / name)
            sync_folder(self._folder)
        except BaseException:
            # Under neither name: what is not kept is tried again.
            for left in (part, self._folder / name):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise
        self._count(name, Stock(len(letter), services, len(letter)), kept=services)
        self._newest = name

    def _mend(self) -> None:
        """Cut off what a kill in the middle of a write has left behind the last letter of a file, and go on there."""
        for name, stock in sorted(self._files.items()):
            if 0 < stock.end < stock.file_bytes:
                descriptor = self._locked(name, stock.file_bytes)
                if descriptor is None:
                    continue
                try:
                    os.ftruncate(descriptor, stock.end)
                finally:
                    os.close(descriptor)
                self._count(name, stock._replace(file_bytes=stock.end))
            if stock.end:
                self._newest = name

    # ---- what is there ----

    def _count(
        self, name: str, now: Stock, *, kept: Mapping[str, int] = _NO_SPANS, deleted: Mapping[str, int] = _NO_SPANS
    ) -> None:
        """Note what a file holds now; what of the change was neither kept nor deleted is others' doing."""
        before = self._files.get(name, _NOTHING)
        services = dict(self._status.services)
        for service in {**before.services, **now.services, **kept, **deleted}:
            known = service if service in services or len(services) < MAX_SERVICES else OTHER_SERVICES
            more = now.services.get(service, 0) - before.services.get(service, 0)
            ours = kept.get(service, 0), deleted.get(service, 0)
            services[known] = _changed(services.get(known, LetterSums()), more, *ours)
        files = {**self._files, name: now}
        if now is _NOTHING:  # it is gone
            del files[name]
        self._files, self._status = (
            files,
            replace(
                self._status,
                services=services,
                files=len(files),
                file_bytes=self._status.file_bytes + now.file_bytes - before.file_bytes,
            ),
        )

    def _look_again(self) -> None:
        with self._lock:
            try:
                self._look()
            except OSError as error:
                self._trouble.warn("dead letters cannot be looked at", reason=str(error))

    def _look(self) -> None:
        """Take stock: `replay --remove` and people take files away, and may put some there."""
        there: dict[str, int] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # taken away this moment
                        there[entry.name] = entry.stat(follow_symlinks=False).st_size
        for name in self._files.keys() - there.keys():
            self._count(name, _NOTHING)
        for name, file_bytes in there.items():
            if self._files.get(name, _NOTHING).file_bytes != file_bytes:
                self._count(name, self._stock_of(name, file_bytes))

    def _stock_of(self, name: str, file_bytes: int) -> Stock:
        try:
            with (self._folder / name).open("rb") as file:
                return take_stock(file)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:  # somebody else put it there: it counts by its size
            self._trouble.warn("dead letters cannot be read", file=name, reason=error.strerror)
            return Stock(file_bytes, {}, 0)

    def _remove_oldest(self) -> None:
        if not self._is_too_much():
            return
        self._look()
        for name in sorted(self._files):  # by time, which the names begin with
            if not self._is_too_much():
                return
            services = self._files[name].services
            try:
                (self._folder / name).unlink()
            except FileNotFoundError:
                self._count(name, _NOTHING)
                continue
            self._count(name, _NOTHING, deleted=services)
            self._trouble.error(
                "dead letters are too many: the oldest are deleted, their spans are lost",
                file=name,
                spans=sum(services.values()),
            )

    def _is_too_much(self) -> bool:
        files, file_bytes = self._status.files, self._status.file_bytes
        return files > 1 and (files > self._max_files or file_bytes > self._max_bytes)


def _changed(sums: LetterSums, more: int, kept: int, deleted: int) -> LetterSums:
    """Return a service's sums after a file has so many more spans of it, of which some were kept, or were deleted."""
    others = more - kept + deleted
    return LetterSums(
        found=sums.found + max(0, others),
        kept=sums.kept + kept,
        waiting=sums.waiting + more,
        deleted=sums.deleted + deleted,
        taken=sums.taken + max(0, -others),
    )


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
