"""`ringbuf tail`: the spans as they come, without taking them from the drain."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from drain.tools.looking.command_line import EXIT_INCOMPLETE, fail
from drain.tools.looking.filter_doubts import doubts
from drain.tools.looking.ring_selection import (
    JsonOption,
    RingDirOption,
    RingsArgument,
    ServiceOption,
    doubt_of_service,
    select,
)
from drain.tools.looking.span_filter import SpanFilter, with_span_filter
from drain.tools.looking.span_text import json_object, json_text, line, printable
from drain.tools.looking.table import has_colour
from drain.tools.looking.watched_rings import WatchedRings
from ringbuf.exceptions import RingFormatError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from drain.tools.looking.observed_ring import ObservedRing

_NAP_SECONDS: Final = 0.02  # a drain keeps a span for --batch-delay, 0.2 seconds, unless a batch is full before
_COMPLAINT_SECONDS: Final = 1.0
_STATUS_ERROR: Final = 2


class Seen(NamedTuple):
    """A span that matched, written down when the ring still had it."""

    end_unix_nano: int
    text: str


@with_span_filter
def tail(
    rings: RingsArgument = None,
    *,
    ring_dir: RingDirOption,
    wanted: SpanFilter,
    service: ServiceOption = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="Begin with so many of the spans that are there.")
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on with those that come.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show spans as they come, without taking them from the drain.

    A span can be seen from its emission until the drain has delivered it. Those that the drain was done with before
    they were looked at are counted, and told on standard error as missed.
    """
    paths = select(ring_dir, rings)
    if not paths:
        typer.echo(f"ringbuf: no rings in {printable(str(ring_dir), 400)}{' yet' if follow else ''}", err=True)
    watched = WatchedRings(paths, None if rings else ring_dir, service)
    no_service = doubt_of_service(paths, service, watched.rings)
    doubt = no_service or "; ".join(doubts(wanted, (ring.layout for ring in watched.rings)))
    if doubt and not follow:
        watched.close()
        fail(doubt, EXIT_INCOMPLETE)
    if doubt:  # a ring that comes later may have what is asked for
        typer.echo(f"ringbuf: {doubt}", err=True)
    tailing = _Tail(watched, wanted, json_line if as_json else coloured_line if has_colour() else line)
    try:
        _write(tailing.newest(lines))
        if not follow:
            if tailing.tell_complaints():
                raise typer.Exit(EXIT_INCOMPLETE)
            return
        while True:
            seen = tailing.next()
            _write(seen)
            tailing.tell_now_and_then()
            if not seen:
                time.sleep(_NAP_SECONDS)
    finally:
        tailing.tell_complaints()
        tailing.tell_missed()
        watched.close()


class _Tail:
    """What was seen of some rings, and what was missed."""

    def __init__(
        self, watched: WatchedRings, wanted: SpanFilter, write: Callable[[ObservedRing, np.void], str]
    ) -> None:
        self._watched = watched
        self._wanted = wanted
        self._write = write
        self._masks: dict[object, Callable[[np.ndarray], np.ndarray]] = {}
        self._missed = 0
        self._told = 0
        self._tell_at = 0.0

    def newest(self, count: int) -> list[Seen]:
        """Return the last `count` of the matching spans that the rings have."""
        found: list[Seen] = []
        for ring in list(self._watched.rings):
            for lane in ring.lanes:
                of_lane: list[Seen] = []
                while (more := self._look(ring, lane, count)) is not None:
                    # Of a lane no more than these: a ring may have millions.
                    of_lane = (of_lane + more)[-count:] if count else []
                found += of_lane
        return sorted(found)[-count:] if count else []

    def next(self) -> list[Seen]:
        """Return the matching spans that came since the last call, in the order of their ends."""
        self._watched.look()
        looks = [self._look(ring, lane) for ring in list(self._watched.rings) for lane in ring.lanes]
        if all(look is None for look in looks):
            self._watched.let_go_of_ended()
        return sorted(span for look in looks for span in look or ())

    def tell_now_and_then(self) -> None:
        """Tell what went wrong, and what was missed, at most once a second."""
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _COMPLAINT_SECONDS
            self.tell_complaints()
            self.tell_missed()

    def tell_complaints(self) -> bool:
        """Tell what was wrong with files; return whether anything was."""
        complaints = self._watched.complaints
        for complaint in complaints:
            typer.echo(f"ringbuf: {printable(complaint)}", err=True)
        self._watched.complaints = []
        return bool(complaints)

    def tell_missed(self) -> None:
        """Tell how many more spans were missed."""
        if self._missed > self._told:
            typer.echo(
                f"ringbuf: missed {counted(self._missed, 'span')}, released before they were looked at", err=True
            )
            self._told = self._missed

    def _look(self, ring: ObservedRing, lane: int, most: int | None = None) -> list[Seen] | None:
        """Return what matches of the next records of a lane, of these the last `most`; None: no record is there."""
        before = ring.positions[lane]
        try:
            records, missed = ring.peek(lane)
        except RingFormatError as error:
            self._watched.drop(ring, error.reason)
            return None
        self._missed += missed
        if ring.positions[lane] == before:
            return None
        mask = self._masks.get(ring.layout)
        if mask is None:
            mask = self._masks[ring.layout] = self._wanted.of(ring.layout)
        matching = records[mask(records)]
        if most is not None:
            matching = matching[max(0, len(matching) - most) :]
        return [Seen(int(record["end_unix_nano"]), self._write(ring, record)) for record in matching]


def json_line(ring: ObservedRing, record: np.void) -> str:
    """Return a span as one line of JSON."""
    return json_text(json_object(ring, record))


def coloured_line(ring: ObservedRing, record: np.void) -> str:
    """Return a span as a line for a terminal: what failed is red."""
    text = line(ring, record)
    return typer.style(text, fg="red") if record["status"] == _STATUS_ERROR else text


def _write(seen: list[Seen]) -> None:
    if seen:
        sys.stdout.write("".join(f"{span.text}\n" for span in seen))
        sys.stdout.flush()
