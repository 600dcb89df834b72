"""`ringbuf top`: rates, fill, drops, latencies and lag, live."""

from __future__ import annotations

import contextlib
import enum
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from drain.tools.looking.late_sampling import picture_in
from drain.tools.looking.ring_selection import (
    JsonOption,
    RingDirOption,
    RingsArgument,
    ServiceOption,
    doubt_of_service,
    drain_of,
    select,
)
from drain.tools.looking.span_text import json_text, printable
from drain.tools.looking.table import has_screen, is_terminal
from drain.tools.looking.watched_rings import WatchedRings
from drain.tools.top.frames import Frame, Frames, as_json
from drain.tools.top.keys import Keys
from drain.tools.top.screen import plain_screen, rich_screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

_NAP_SECONDS: Final = 0.05
_EXIT_SIGNAL: Final = 128


class By(enum.StrEnum):
    """What makes a row."""

    SERVICE = "service"
    RING = "ring"


def top(
    rings: RingsArgument = None,
    *,
    ring_dir: RingDirOption,
    service: ServiceOption = None,
    by: Annotated[By, typer.Option("--by", help="A row for each service, or for each ring.")] = By.SERVICE,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Seconds between two pictures.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One picture, after one interval.")] = False,
    as_json_lines: JsonOption = False,
) -> None:
    """Show rates, fill, drops and latencies, live.

    In a pipe or on a terminal without a cursor there is one picture after the other. Spans a second, fill and drops are
    counted by the producers; p50 and p99 are of the spans that were seen in the last ten pictures. Lag: since the end
    of the oldest span that the drain has not released. Of a drain that samples late: what waits in its hold, and what
    each rule kept since it began. q ends it, or Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _end)  # else the terminal would stay in its other screen
    paths = select(ring_dir, rings)
    watched = WatchedRings(paths, None if rings else ring_dir, service)
    if doubt := doubt_of_service(paths, service, watched.rings):  # a ring that comes later may be of it
        watched.complaints.append(doubt)
    frames = Frames(
        watched, lambda ring: printable(ring.shown_name if by is By.RING else ring.service, 96, keep_end=True) or "-"
    )

    keys = Keys()

    def pictures() -> Iterator[Frame]:
        while True:
            end = time.monotonic() + interval
            while (left := end - time.monotonic()) > 0:
                frames.look()
                if keys.quit_within(min(_NAP_SECONDS, left)):
                    return
            yield frames.take(picture_in(ring_dir))

    try:
        # A program that reads JSON from here has its keys for itself.
        with keys.opened() if is_terminal() and not as_json_lines else contextlib.nullcontext():
            if has_screen() and not once and not as_json_lines:
                _live(pictures(), ring_dir, by.value)
                return
            for frame in pictures():
                drain_pid = drain_of(ring_dir)
                if as_json_lines:
                    text = json_text(as_json(frame, drain_pid)) + "\n"
                else:
                    text = plain_screen(frame, by.value, str(ring_dir), drain_pid)
                sys.stdout.write(text if as_json_lines or once else text + "\n")
                sys.stdout.flush()
                _tell_complaints(watched)
                if once:
                    return
    finally:
        _tell_complaints(watched)  # of a live screen not before its end, since they would lie across it
        watched.close()


def _tell_complaints(watched: WatchedRings) -> None:
    complaints, watched.complaints = watched.complaints, []
    for complaint in complaints:
        typer.echo(f"ringbuf: {printable(complaint)}", err=True)


def _live(pictures: Iterator[Frame], ring_dir: Path, by: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - 100 ms that a pipe does not pay
    from rich.live import Live  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    console = Console()
    with Live(Text("looking …"), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        for frame in pictures:
            width, height = console.size
            live.update(rich_screen(frame, by, str(ring_dir), drain_of(ring_dir), width, height), refresh=True)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(_EXIT_SIGNAL + number)
