"""What a start that fails ends with: 2 is for what starting again does not mend, and for nothing else."""

from __future__ import annotations

import errno
import os
import re
import socket
import sqlite3

import pytest

from drain.command import app
from drain.commands.failed_start import exit_code_of
from drain.commands.starting import say
from drain.exit_codes import EXIT_CODES, LOCKED, TROUBLE, USAGE
from drain.rings.directory import DirectoryLockedError
from drain.spool.store import SpoolLockedError
from ringbuf.exceptions import RingBufferError
from tests.python import ROOT
from tests.unit.settings.command_line import RUNNER

PASSING = ("ENOSPC", "EROFS", "EMFILE", "ENFILE", "EDQUOT", "EIO", "ENOMEM", "EADDRINUSE", "EAGAIN", "EINTR", "EBUSY")
MISTAKES = ("ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EADDRNOTAVAIL")


def wrapped(error: BaseException, *, is_hidden: bool) -> BaseException:
    """Return an error of ours that another one was the reason of."""
    try:
        try:
            raise error
        except type(error) as reason:
            raise ValueError("cannot work") from (None if is_hidden else reason)
    except ValueError as ours:
        return ours


@pytest.mark.parametrize(("names", "code"), [(PASSING, TROUBLE), (MISTAKES, USAGE)])
def test_a_trouble_that_passes_is_told_from_a_mistake(names: tuple[str, ...], code: int) -> None:
    for name in names:
        number = getattr(errno, name)
        error = OSError(number, os.strerror(number))
        assert exit_code_of(error) == code, name
        assert exit_code_of(wrapped(error, is_hidden=False)) == code, name
        assert exit_code_of(wrapped(error, is_hidden=True)) == code, name


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RingBufferError("others may write it"), USAGE),
        (ValueError("a header cannot be sent"), USAGE),
        (OSError("without a number"), USAGE),
        (MemoryError(), TROUBLE),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), TROUBLE),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), USAGE),
        (DirectoryLockedError("another drain"), LOCKED),
        (SpoolLockedError("another process"), LOCKED),
        (wrapped(SpoolLockedError("another process"), is_hidden=False), LOCKED),
    ],
)
def test_what_else_a_start_fails_of(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_database_on_a_full_disk_is_a_trouble_that_passes() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert exit_code_of(wrapped(full, is_hidden=False)) == TROUBLE
    assert exit_code_of(sqlite3.DatabaseError("file is not a database")) == USAGE


def test_the_operators_page_and_the_help_have_the_table() -> None:
    page = (ROOT / "docs/operations.md").read_text().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([0-9n +]+) \| (.*) \|$", page, re.MULTILINE))
    assert rows == EXIT_CODES
    told = " ".join(RUNNER.invoke(app, ["-h"], env={"COLUMNS": "100"}).output.partition("Exit codes:")[2].split())
    assert told == " ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (PermissionError(13, "Permission denied", b"/a\x1bb"), "'/a\\x1bb': Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("in words"), "in words"),
        ("a sentence", "a sentence"),
    ],
)
def test_a_reason_is_told_in_words(error: object, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    say(error)
    assert capfd.readouterr().err == f"ringbuf-drain: {words}\n"
