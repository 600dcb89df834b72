"""`ringbuf-drain spool --drop` and `--dead-letter`: takes one batch out of a spool that no drain has, and counts it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Final, Literal

import typer

from drain.commands.spool import state_dir_of
from drain.commands.spool_text import described
from drain.commands.starting import cannot_start, log_of, say
from drain.delivery.dead_letters import DeadLetters
from drain.exit_codes import DELIVERED, INTERRUPTED, UNDELIVERED, USAGE
from drain.otlp.request import Request
from drain.spool.database import SpoolDatabase
from drain.spool.reserve import Reserve
from drain.spool.spool import DATABASE_NAME
from drain.spool.sqlite_errors import DamagedError, is_full, is_locked
from drain.spool.store import RESERVE_NAME, SpoolLockedError
from drain.state_directory import DEAD_LETTERS_FOLDER, SPOOL_FOLDER
from ringbuf.exceptions import RingBufferError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.settings.configuration import Configuration
    from drain.spool.database import Stored

Settled = Literal["dropped", "dead_lettered"]

_LOG_BYTES: Final = 1 << 20  # of the write-ahead log: one removal writes a few pages
_REASON: Final = "taken out of the spool by an operator (ringbuf-drain spool --dead-letter)"
_QUESTIONS: Final = {
    "dropped": "It is dropped: its spans are lost, and counted.",
    "dead_lettered": "It becomes a dead letter, which `ringbuf-drain replay` sends.",
}


class _GoneError(Exception):
    """There is no such batch."""


def settle(configuration: Configuration, identity: int, fate: Settled, *, is_sure: bool) -> int:
    """Take a batch out of the spool, and count what became of its spans; return the exit code.

    Args:
        configuration: the effective settings.
        identity: of the batch.
        fate: what becomes of it.
        is_sure: nobody is asked.
    """
    state_dir = state_dir_of(configuration)
    path = state_dir / SPOOL_FOLDER / DATABASE_NAME
    try:
        # Twice: the spool is not kept from a drain while somebody thinks.
        with _opened(path) as database:
            batch = _batch(database, identity)
        if not is_sure and not _is_confirmed(batch, fate):
            say("nothing is changed")
            return DELIVERED
        with _opened(path) as database:
            batch = _batch(database, identity)
            if fate == "dead_lettered":
                _keep(configuration, database, batch, state_dir / DEAD_LETTERS_FOLDER)
            _remove(database, batch, fate, Reserve(path.with_name(RESERVE_NAME), 0))
            left = counted(database.batches, "batch waits", "batches wait")
    except typer.Abort:
        return INTERRUPTED
    except _GoneError as error:
        say(error)
        return USAGE
    except DamagedError as error:
        say(f"{path}: {error}; a drain that is started sets aside what is damaged")
        return UNDELIVERED
    except (RingBufferError, sqlite3.Error, OSError) as error:
        cannot_start(error)
    typer.echo(f"{described(batch)}: {fate.replace('_', '-')}; {left}")
    return DELIVERED


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[SpoolDatabase]:
    """Have the spool for oneself."""
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        raise _GoneError(f"{path.parent}: there is no spool") from None
    if owner != os.geteuid():
        raise RingBufferError(f"{path}: belongs to uid {owner}: do this as that user, else its drain cannot go on")
    try:
        database = SpoolDatabase(path, _LOG_BYTES, _LOG_BYTES)
    except sqlite3.Error as error:
        if not is_locked(error):
            raise
        text = "a drain has this spool: stop it (SIGTERM; nothing is lost), do this again, and start it"
        raise SpoolLockedError(f"{path}: {text}") from error
    with contextlib.closing(database):
        yield database


def _batch(database: SpoolDatabase, identity: int) -> Stored:
    batch = database.batch(identity)
    if batch is None:
        raise _GoneError(f"no batch {identity} waits: `ringbuf-drain spool` shows those that do")
    return batch


def _is_confirmed(batch: Stored, fate: Settled) -> bool:
    if not _is_asked():
        cannot_start("there is nobody to ask: add --yes")
    return typer.confirm(f"{described(batch)}. {_QUESTIONS[fate]} Go on?", err=True)


def _is_asked() -> bool:
    return sys.stdin.isatty()


def _keep(configuration: Configuration, database: SpoolDatabase, batch: Stored, folder: Path) -> None:
    """Make it a dead letter, durably; a kill right behind that leaves it in both places, as it does of a drain.

    Raises:
        DamagedError: its body cannot be read.
        OSError: it cannot be kept.
    """
    request = Request.of_gzip(database.body(batch), batch.spans, batch.encoding)
    try:
        request.body  # noqa: B018 - read, so that what a disk has changed is found here and not by the backend
    except ValueError as error:
        raise DamagedError(f"batch {batch.id}: {error}") from None
    settings = configuration.settings
    letters = DeadLetters(
        folder, max_files=settings.dead_letter_files, max_bytes=settings.dead_letter_bytes, log=log_of(configuration)
    )
    if not letters.keep(request, _REASON, ""):
        raise OSError(f"{folder}: batch {batch.id} cannot be kept, it waits on; see the log above")


def _remove(database: SpoolDatabase, batch: Stored, fate: Settled, reserve: Reserve) -> None:
    """Remove it and count its spans, in one transaction; on a full disk in the room that is kept for that."""
    try:
        _commit_removal(database, batch, fate)
    except sqlite3.Error as error:
        if not is_full(error):
            raise
        reserve.give_up()
        database.checkpoint()
        _commit_removal(database, batch, fate)


def _commit_removal(database: SpoolDatabase, batch: Stored, fate: Settled) -> None:
    try:
        database.begin()
        database.remove(batch, {fate: batch.spans})
        database.commit()
    except BaseException:
        database.rollback()
        raise
