"""`ringbuf-drain spool`: what waits in a state directory, and what was refused for good."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from drain.commands.spool_backend import ask_drain
from drain.commands.spool_text import as_object, write
from drain.commands.starting import cannot_start, say
from drain.delivery.letter_look import look_at_letters
from drain.exit_codes import DELIVERED, UNDELIVERED
from drain.spool.look import look_at_spool
from drain.spool.spool import DATABASE_NAME
from drain.state_directory import DEAD_LETTERS_FOLDER, SPOOL_FOLDER, STATE_OFF
from drain.tools.looking.span_text import json_text, printable
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from pathlib import Path

    from drain.settings.configuration import Configuration


def look(configuration: Configuration, *, as_json: bool, shows_all: bool) -> int:
    """Show what the state directory holds; return the exit code.

    No lock is taken, and nothing is written but to a temporary folder. A drain that has the spool is asked for its next
    attempt.

    Args:
        configuration: the effective settings.
        as_json: one object on one line, in the place of tables.
        shows_all: each batch has its row, however many there are.
    """
    state_dir = state_dir_of(configuration)
    for warning in configuration.warnings:
        say(warning)
    try:
        spool = look_at_spool(state_dir / SPOOL_FOLDER)
        letters = look_at_letters(state_dir / DEAD_LETTERS_FOLDER)
    except (RingBufferError, OSError) as error:
        cannot_start(error)
    backend = None if spool.holder is None else ask_drain(configuration.settings.listen, spool.holder)
    if as_json:
        typer.echo(json_text(as_object(state_dir, configuration.settings, spool, backend, letters)))
    else:
        write(state_dir, configuration.settings, spool, backend, letters, shows_all=shows_all)
    # Beside a drain the last letter of a file may be one that it is writing.
    notes = [*([spool.note] if spool.note else ()), *letters.notes, *(letters.cut if spool.holder is None else ())]
    for note in notes:
        say(printable(note, most=1000))
    return UNDELIVERED if notes else DELIVERED


def state_dir_of(configuration: Configuration) -> Path:
    """Return the state directory, or end the process where there is none to look into."""
    state_dir, origin = configuration.settings.state_dir, configuration.origins["state_dir"]
    if state_dir is None:
        cannot_start(f"a drain with these settings keeps nothing on disk (state directory: {STATE_OFF}): name one")
    try:
        names = {entry.name for entry in os.scandir(state_dir)}
    except OSError as error:
        if origin == "default" and isinstance(error, FileNotFoundError):
            return state_dir  # no drain has run yet
        cannot_start(error)
    if DATABASE_NAME in names:
        cannot_start(f"{state_dir}: this is the spool alone; name the state directory, {state_dir.absolute().parent}")
    return state_dir
