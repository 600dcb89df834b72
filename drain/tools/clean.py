"""`ringbuf clean`: removes rings whose producer is gone, when no drain is there to do it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from drain.rings.directory import DirectoryLockedError, FileId, RingDirectory
from drain.tools.looking.command_line import EXIT_DONE, EXIT_INCOMPLETE, EXIT_LOCKED, EXIT_USAGE, fail
from drain.tools.looking.ring_selection import (
    RingDirOption,
    observe,
    ring_paths,
)
from drain.tools.looking.span_text import printable
from ringbuf.exceptions import RingFormatError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drain.tools.looking.observed_ring import ObservedRing


def clean(
    ring_dir: RingDirOption,
    force: Annotated[bool, typer.Option("--force", help="Also those that hold spans, which are lost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: for scripts.")] = False,
) -> None:
    """Remove rings of producers that are gone, with nothing to deliver.

    It asks first. With --force also those that hold spans: how many are lost is said before. A living producer's ring
    is never touched. A drain that serves the directory does all this by itself: then nothing is done, and the exit code
    is 75.
    """
    if not ring_dir.is_dir():
        fail(f"{ring_dir}: there is no such directory", EXIT_INCOMPLETE)
    try:
        # Its lock is the drain's: as long as we have it, no drain begins to read what we remove.
        directory = RingDirectory(ring_dir)
    except DirectoryLockedError as error:
        fail(f"{error}, and removes what is left over by itself", EXIT_LOCKED)
    with contextlib.closing(directory):
        raise typer.Exit(_clean(directory, ring_dir, is_forced=force, is_sure=yes))


def _clean(directory: RingDirectory, ring_dir: Path, *, is_forced: bool, is_sure: bool) -> int:
    rings, unreadable = observe(ring_paths(ring_dir))
    with contextlib.ExitStack() as cleanup:
        for ring in rings:
            cleanup.callback(ring.close)
        ended = [ring for ring in rings if is_ended(ring)]
        doomed = [ring for ring in ended if is_forced or not ring.pending]
        kept = [ring for ring in ended if ring not in doomed]
        for path, reason in unreadable:
            typer.echo(f"ringbuf: left alone: {printable(path.name)}: {printable(reason)}", err=True)
        if kept:
            spans = sum(ring.pending for ring in kept)
            typer.echo(
                f"{counted(len(kept), 'ring')} of producers that are gone, with {counted(spans, 'span')}: deliver them "
                f"with `{_delivering(ring_dir, kept)}` (or another --exporter), or give them up with --force"
            )
        if not doomed:
            typer.echo(f"nothing to remove in {ring_dir}; {counted(len(rings) - len(ended), 'ring')} in use")
            return EXIT_DONE
        lost = sum(ring.pending for ring in doomed)
        for ring in doomed:
            typer.echo(f"{printable(ring.shown_name)}  {ring.life}  {counted(ring.pending, 'span')}")
        question = f"remove {counted(len(doomed), 'ring')}" + (f" and LOSE {counted(lost, 'span')}" if lost else "")
        if not is_sure and not _asked(question):
            typer.echo("nothing removed")
            return EXIT_INCOMPLETE
        removed = [ring for ring in doomed if _remove(directory, ring)]
        typer.echo(f"removed {counted(len(removed), 'ring')}" + (f", lost {counted(lost, 'span')}" if lost else ""))
        return EXIT_DONE if len(removed) == len(doomed) else EXIT_INCOMPLETE


def _delivering(ring_dir: Path, rings: Sequence[ObservedRing]) -> str:
    """Return the command that delivers what is in rings."""
    owners = sorted({ring.path.stat().st_uid for ring in rings} - {os.geteuid()})
    allowed = [word for uid in owners for word in ("--allow-uid", str(uid))]
    return shlex.join(["ringbuf-drain", "--once", "--ring-dir", str(ring_dir), *allowed, "--output", "spans.jsonl"])


def is_ended(ring: ObservedRing) -> bool:
    """Return whether nothing more can come: the producer is gone, or has closed the ring.

    The order matters: the tails are read again after the producer is known to be gone.
    """
    if ring.life not in ("dead", "closed"):
        return False
    try:
        ring.poll()
    except RingFormatError:
        return False
    return ring.life in ("dead", "closed")


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        fail(f"{question}? There is nobody to ask: say --yes", EXIT_USAGE)
    sys.stdout.write(f"{question}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(directory: RingDirectory, ring: ObservedRing) -> bool:
    try:
        return directory.remove(ring.path.name, FileId(*ring.identity))
    except OSError as error:
        typer.echo(f"ringbuf: {printable(ring.path.name)}: {error.strerror}", err=True)
        return False
