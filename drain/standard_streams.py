"""Standard output and error, written without ever waiting: whoever reads them cannot hold up the drain.

A disk that is full, a reader that is gone or stands still, a descriptor that was closed: what cannot be written at once
is not written, and the caller hears so by an OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Final, Protocol, TextIO

STDOUT: Final = 1
STDERR: Final = 2
# Linux takes so much at once from whoever was told that a pipe has room (pipe(7), PIPE_BUF).
_PIPE_BUF: Final = 4096


class TextStream(Protocol):
    """What of a text file is used."""

    def write(self, text: str, /) -> int:
        """Write a text, or raise OSError."""
        ...

    def flush(self) -> None:
        """Let nothing be held back."""
        ...

    def isatty(self) -> bool:
        """Whether a person reads it."""
        ...


class StandardStream:
    """A descriptor as a text file of which each `write` is whole or raises OSError.

    Args:
        descriptor: of the process; later it may be closed or lead elsewhere.
    """

    def __init__(self, descriptor: int) -> None:
        self._lock = threading.Lock()
        self._is_torn = False
        self._own: int | None = None
        self._socket: socket.socket | None = None
        self._may_wait = False
        self._path = ""  # of a regular file: where it was when it was opened
        with contextlib.suppress(OSError):  # it is closed: each write will say so
            status = os.fstat(descriptor)
            mode = status.st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(descriptor))
            elif stat.S_ISREG(mode):
                self._own = os.dup(descriptor)  # whose position others share; it makes nobody wait
                if status.st_nlink:  # else the kernel calls it "… (deleted)", which is no name
                    self._path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            else:
                self._own = self._opened_anew(descriptor)

    def _opened_anew(self, descriptor: int) -> int:
        """Return a descriptor that does not wait, while those who share the given one with us still may."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:  # it was opened by another user
            self._may_wait = True
            return os.dup(descriptor)

    def write(self, text: str) -> int:
        """Write all of a text at once.

        Raises:
            OSError: not all of it could be written; what was begun is ended by a newline before the next.
        """
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self._put(b"\n" + data if self._is_torn else data)
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._own is not None and os.isatty(self._own)

    def reopen(self) -> None:
        """Go on in the file that has the name of this one now, if it is another or has to be made: it was rotated.

        The process's own standard descriptors of the old file go with it.

        Raises:
            OSError: it cannot be opened; what was open stays.
        """
        with self._lock:
            if self._own is None or not self._path:
                return
            before = os.fstat(self._own)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            new = os.open(self._path, flags, stat.S_IMODE(before.st_mode))
            if os.path.samestat(os.fstat(new), before):
                os.close(new)
                return
            for descriptor in {STDOUT, STDERR, *_descriptors(sys.stdout, sys.stderr)}:
                with contextlib.suppress(OSError):  # it is closed
                    if os.path.samestat(os.fstat(descriptor), before):
                        os.dup2(new, descriptor)
            os.dup2(new, self._own, inheritable=False)
            os.close(new)

    def close(self) -> None:
        """Give up what was opened here; the process's descriptor stays."""
        with self._lock:
            own, self._own = self._own, None
            if own is not None:
                os.close(own)
            if self._socket is not None:
                self._socket.close()

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._put_some(rest)
            rest = rest[written:]
            self._is_torn = bool(rest)

    def _put_some(self, data: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._own is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if not self._may_wait:
            return os.write(self._own, data)
        room = select.poll()
        room.register(self._own, select.POLLOUT)
        if not room.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self._own, data[:_PIPE_BUF])


def _descriptors(*streams: TextIO | None) -> list[int]:
    """Return the descriptors of files, of those that are files."""
    found = []
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):  # a test's, or closed
            found += [] if stream is None else [stream.fileno()]
    return found


def open_closed_streams() -> None:
    """Open /dev/null where a standard descriptor is closed.

    Else the next file that is opened gets its number, and what is written to "standard error" lands in a ring.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)  # what this process starts opens rings, too
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(STDOUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(STDERR, "w", closefd=False)
