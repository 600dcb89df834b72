"""`ringbuf list`: which rings there are, whose, and how full."""

from __future__ import annotations

import enum
import pwd
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from drain.tools.looking.command_line import EXIT_INCOMPLETE, fail
from drain.tools.looking.help import words_of
from drain.tools.looking.late_sampling import picture_in, summary, waiting_of
from drain.tools.looking.ring_selection import (
    JsonOption,
    RingDirOption,
    RingsArgument,
    ServiceOption,
    doubt_of_service,
    drain_of,
    observe,
    select,
)
from drain.tools.looking.span_text import age, json_text, printable
from drain.tools.looking.table import Column, bar, is_terminal, percent, write_table
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.sampling.hold.picture import Picture
    from drain.tools.looking.observed_ring import ObservedRing

DROPS: Final = ("full", "contended", "unsampled")
"""The reasons for which a producer does not write a span."""

_COLUMNS: Final = (
    Column("service", is_text=True, style="bold", keeps_end=True),
    Column("pid"),
    Column("process", rank=5, is_text=True),
    Column("user", rank=7, is_text=True),
    Column("state", is_text=True),
    Column("age", rank=3),
    Column("layout", rank=8, is_text=True),
    Column("", rank=6, is_text=True, style="cyan"),
    Column("fill"),
    Column("published", rank=4),
    Column("held", rank=2),
    Column("dropped", rank=1, is_text=True),
    Column("drain", rank=3, is_text=True),
    Column("ring", rank=9, is_text=True, keeps_end=True),
)


class State(enum.StrEnum):
    """What became of a ring's producer."""

    ALIVE = "alive"
    CLOSED = "closed"
    DEAD = "dead"


class Sort(enum.StrEnum):
    """What the order of the rows is by."""

    RING = "ring"
    SERVICE = "service"
    PID = "pid"
    AGE = "age"
    FILL = "fill"
    PUBLISHED = "published"
    PENDING = "pending"
    DROPS = "drops"


_ORDER: Final[dict[Sort, Callable[[dict[str, Any]], Any]]] = {
    Sort.RING: lambda entry: entry["ring"],
    Sort.SERVICE: lambda entry: entry["service"],
    Sort.PID: lambda entry: entry["pid"],
    Sort.AGE: lambda entry: entry["created_unix_nano"],
    Sort.FILL: lambda entry: -entry["fill"],
    Sort.PUBLISHED: lambda entry: -entry["published"],
    Sort.PENDING: lambda entry: -entry["pending"],
    # What is not sampled was not wanted: it comes after what is lost.
    Sort.DROPS: lambda entry: (
        -entry["dropped"]["full"] - entry["dropped"]["contended"],
        -entry["dropped"]["unsampled"],
    ),
}


def list_rings(
    rings: RingsArgument = None,
    *,
    ring_dir: RingDirOption,
    service: ServiceOption = None,
    state: Annotated[
        list[State] | None,
        typer.Option("--state", metavar=words_of(State), help="Only rings in this state; may be repeated."),
    ] = None,
    sort: Annotated[
        Sort, typer.Option("--sort", help="What the order is by; of counts and ages the greatest first.")
    ] = Sort.RING,
    as_json: JsonOption = False,
) -> None:
    """List rings: who writes them, whether it lives, how full they are.

    State: alive; closed by its producer, in good order; dead, its producer is gone without that. Fill: of the fullest
    lane. Held: spans that wait in the hold of late sampling. Dropped: spans not written, by reason. Drain: attached,
    none, gone (killed while attached) or set aside.
    """
    paths = select(ring_dir, rings)
    found, unreadable = observe(paths, service)
    if doubt := doubt_of_service(paths, service, found):
        fail(doubt, EXIT_INCOMPLETE)
    drain_pid = drain_of(ring_dir)
    picture = picture_in(ring_dir)
    entries = [describe(ring, drain_pid is not None, picture) for ring in found]
    names = {ring.name: ring.shown_name for ring in found}
    for ring in found:
        ring.close()
    entries = sorted((entry for entry in entries if not state or entry["state"] in state), key=_ORDER[sort])
    if as_json:
        for entry in entries:
            typer.echo(json_text(entry))
        for path, reason in unreadable:
            typer.echo(json_text({"ring": path.name, "unreadable": reason}))
    else:
        if entries:
            columns: tuple[Column, ...] = _COLUMNS
            rows = [_row(entry, names[entry["ring"]]) for entry in entries]
            if picture is None:  # nobody samples late
                at = [column.title for column in columns].index("held")
                columns, rows = columns[:at] + columns[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
            write_table(columns, rows)
        _write_rest(len(entries), " or ".join(state or ()), f"{ring_dir}", drain_pid, picture)
        for path, reason in unreadable:
            typer.echo(f"ringbuf: {printable(path.name)}: {printable(reason)}", err=True)
    if unreadable:
        raise typer.Exit(EXIT_INCOMPLETE)


def describe(ring: ObservedRing, is_served: bool, picture: Picture | None) -> dict[str, Any]:
    """Return what `list` says of a ring, as `--json` has it.

    Args:
        ring: as of its last poll.
        is_served: whether a drain is seen that serves the directory.
        picture: of late sampling; None: there is none.
    """
    sums = ring.sums()
    drain = ring.drain
    return {
        "ring": ring.name,
        "service": ring.service,
        "pid": int(ring.header.pid),
        "process": ring.process,
        "user": user_name(ring.uid),
        "state": ring.life,
        "created_unix_nano": int(ring.header.created_unix_nano),
        "layout": scope_of(ring),
        "lanes": int(ring.header.lane_count),
        "capacity_slots": int(ring.header.capacity_slots),
        "fill": round(ring.fill, 4),
        "published": sums.published,
        "pending": sums.pending,
        "held": None if picture is None else waiting_of(ring, picture),
        "dropped": {name: getattr(sums, name) for name in DROPS},
        "truncated": sums.truncated,
        "invalid_values": sums.invalid_values,
        "drain": "gone" if drain == "attached" and not is_served else drain,
    }


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def scope_of(ring: ObservedRing) -> str:
    """Return name and version of the layout's scope."""
    return f"{ring.layout.scope_name} {ring.layout.scope_version}".strip()


def drops_of(entry: dict[str, Any]) -> str:
    """Return the drops by reason, without the reasons that did not occur."""
    return " ".join(f"{name}:{count:,}" for name, count in entry["dropped"].items() if count) or "0"


def _row(entry: dict[str, Any], name: str) -> list[str]:
    return [
        printable(entry["service"], 64, keep_end=True) or "-",
        str(entry["pid"]),
        printable(entry["process"], 24) or "-",
        printable(entry["user"], 24),
        entry["state"],
        age(time.time_ns() - entry["created_unix_nano"]),
        printable(entry["layout"], 40) or "-",
        bar(entry["fill"]),
        percent(entry["fill"]),
        f"{entry['published']:,}",
        f"{entry['held'] or 0:,}",
        drops_of(entry),
        entry["drain"],
        printable(name, 96, keep_end=True),
    ]


def _write_rest(count: int, states: str, ring_dir: str, drain_pid: int | None, picture: Picture | None) -> None:
    if not is_terminal() and count:
        return  # whoever reads the table with a program reads no more than the table
    served = f"drain: pid {drain_pid}" if drain_pid is not None else "no drain"
    those = f" that {'is' if count == 1 else 'are'} {states}" if states else ""
    typer.echo(f"{counted(count, 'ring') if count else 'no rings'}{those} in {ring_dir}; {served}")
    if picture is not None:
        typer.echo(summary(picture))
