"""What a state directory holds, as tables for people and as an object for programs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from drain.spool.spool_time import SpoolTime
from drain.tools.looking.span_text import age, moment, printable
from drain.tools.looking.table import Column, write_table
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from drain.commands.spool_backend import BackendLook
    from drain.delivery.letter_look import LettersLook
    from drain.settings.settings import Settings
    from drain.spool.database import Stored
    from drain.spool.look import SpoolLook

_MOST_ROWS: Final = 20
_UNITS: Final = ("B", "KiB", "MiB", "GiB")
_STEP: Final = 1024
_ANY: Final = "(any)"  # of several, or there was one only
_NOT_KNOWN: Final = "?"  # the clock was not set yet, and the machine has been started anew since


def as_object(
    state_dir: Path, settings: Settings, spool: SpoolLook, backend: BackendLook | None, letters: LettersLook
) -> dict[str, Any]:
    """Return it for `--json`: times in UTC, null where a time is not known, bounds as they are in the settings here."""
    clock = SpoolTime()
    return {
        "state_dir": str(state_dir),
        "is_open": spool.holder is not None,
        "pid": spool.holder or None,
        "backend": None if backend is None or backend.note else _backend_object(backend),
        "spool": {
            "batches": [
                {
                    "id": stored.id,
                    "spans": stored.spans,
                    "bytes": stored.body_bytes,
                    "encoding": stored.encoding,
                    "destination": stored.destination or None,
                    "since": _since(clock, stored),
                    "age_seconds": clock.known_age_seconds(stored.spooled),
                    "services": dict(stored.services),
                }
                for stored in spool.batches
            ],
            "services": {service: asdict(sums) for service, sums in (spool.sums or {}).items()},
            "file_bytes": spool.file_bytes,
            "set_aside_bytes": spool.set_aside_bytes,
            "max_bytes": settings.spool_max_bytes,
            "max_age_seconds": settings.spool_max_age,
            "when_full": settings.spool_full,
        },
        "dead_letters": {
            "batches": letters.batches,
            "spans": letters.spans,
            "since": None if letters.first_unix_nano is None else moment(letters.first_unix_nano),
            "files": letters.files,
            "file_bytes": letters.file_bytes,
            "max_files": settings.dead_letter_files,
            "max_bytes": settings.dead_letter_bytes,
            "reasons": [
                {
                    "reason": reason,
                    "batches": refused.batches,
                    "spans": refused.spans,
                    "since": moment(refused.first_unix_nano),
                    "last": moment(refused.last_unix_nano),
                }
                for reason, refused in letters.by_reason.items()
            ],
        },
    }


def _backend_object(backend: BackendLook) -> dict[str, Any]:
    return {
        "next_attempt_seconds": backend.next_attempt_seconds,
        "failing_seconds": backend.failing_seconds,
        "last_error": backend.last_error or None,
        "endpoints": dict(backend.endpoints or {}),
    }


def write(
    state_dir: Path,
    settings: Settings,
    spool: SpoolLook,
    backend: BackendLook | None,
    letters: LettersLook,
    *,
    shows_all: bool,
) -> None:
    """Write it for people to standard output."""
    clock = SpoolTime()
    typer.echo(f"{state_dir}: {_who_has_it(spool.holder)}")
    spans = sum(stored.spans for stored in spool.batches)
    expires = f"; they expire after {age(int(settings.spool_max_age * 1e9))}" if settings.spool_max_age else ""
    waits = "cannot be read" if spool.note else f"{_batches(len(spool.batches))}, {_spans(spans)} wait"
    bound = f"{size(spool.file_bytes)} of at most {size(settings.spool_max_bytes)}"
    typer.echo(f"spool: {waits}; {bound}, when full {settings.spool_full}{expires}")
    if spool.set_aside_bytes:
        typer.echo(f"set aside as damaged: {size(spool.set_aside_bytes)}, which `ringbuf-drain replay` reads")
    if spool.batches or backend is not None:
        for line in _attempts(backend):
            typer.echo(line)
    if spool.batches:
        typer.echo()
        _write_shares("service", ((name, one, n) for one in spool.batches for name, n in one.services.items()), clock)
        if any(stored.destination for stored in spool.batches):
            _write_shares("destination", ((one.destination or _ANY, one, one.spans) for one in spool.batches), clock)
        _write_batches(spool.batches if shows_all else spool.batches[:_MOST_ROWS], clock)
        if not shows_all and len(spool.batches) > _MOST_ROWS:
            typer.echo(f"… and {len(spool.batches) - _MOST_ROWS:,} newer ones: --all")
        typer.echo()
    kept = f"{_batches(letters.batches)}, {_spans(letters.spans)} in {counted(letters.files, 'file', 'files')}"
    bound = f"{size(settings.dead_letter_bytes)} and {counted(settings.dead_letter_files, 'file')}"
    typer.echo(f"dead letters: {kept}; {size(letters.file_bytes)} of at most {bound}")
    if letters.by_reason:
        typer.echo()
        _write_reasons(letters, shows_all=shows_all)


def described(stored: Stored) -> str:
    """Return a batch in words."""
    services = ", ".join(printable(service, 64) for service in stored.services)
    return f"batch {stored.id}, {_spans(stored.spans)} of {services}, stored {_age(SpoolTime(), stored)} ago"


def size(count: int) -> str:
    """Return bytes in the unit that fits.

    >>> size(812), size(1536), size(1 << 30)
    ('812 B', '1.5 KiB', '1 GiB')
    """
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:,.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def _batches(count: int) -> str:
    return counted(count, "batch", "batches")


def _spans(count: int) -> str:
    return counted(count, "span", "spans")


def _who_has_it(holder: int | None) -> str:
    if holder is None:
        return "no drain has it"
    return f"a drain has it (process {holder})" if holder else "a drain has it (in another container)"


def _attempts(backend: BackendLook | None) -> Iterator[str]:
    """Yield when the backend is tried next, and what it said last; None: there is no drain."""
    if backend is None:
        yield "next attempt, last error: none before a drain is started"
    elif backend.note:
        yield f"next attempt, last error: {printable(backend.note, most=1000)}"
    else:
        wait = backend.next_attempt_seconds
        yield f"next attempt: {f'in {age(int(wait * 1e9))}' if wait else 'now'}; last error: {_last_error(backend)}"
        for name, error in (backend.endpoints or {}).items():
            yield f"last error of {printable(name, 200)}: {printable(error or 'none was given', most=1000)}"


def _last_error(backend: BackendLook) -> str:
    if not backend.failing_seconds:
        return "none, it takes what it is sent"
    said = printable(backend.last_error or "none was given", most=1000)
    return f"{said} (it has taken nothing for {age(int(backend.failing_seconds * 1e9))})"


def _since(clock: SpoolTime, stored: Stored) -> str | None:
    known = clock.known_age_seconds(stored.spooled)
    return None if known is None else moment(time.time_ns() - int(known * 1e9))


def _seconds(text: str | None) -> str:
    """Return a time in UTC to the second."""
    return _NOT_KNOWN if text is None else text[: len("2026-01-01T00:00:00")] + "Z"


def _age(clock: SpoolTime, stored: Stored) -> str:
    known = clock.known_age_seconds(stored.spooled)
    return _NOT_KNOWN if known is None else age(int(known * 1e9))


def _write_shares(of: str, shares: Iterable[tuple[str, Stored, int]], clock: SpoolTime) -> None:
    """Write what waits of each service, or for each destination: its name, a batch, and its spans in that."""
    spans: Counter[str] = Counter()
    batches: Counter[str] = Counter()
    first: dict[str, Stored] = {}
    for name, stored, count in shares:
        spans[name] += count
        batches[name] += 1
        first.setdefault(name, stored)
    columns = (
        Column(of, is_text=True, keeps_end=True),
        *map(Column, ("spans", "batches")),
        Column("since", 1),
        Column("age"),
    )
    rows = [
        (
            printable(name, 64, keep_end=True),
            f"{count:,}",
            f"{batches[name]:,}",
            _seconds(_since(clock, first[name])),
            _age(clock, first[name]),
        )
        for name, count in spans.most_common()
    ]
    write_table(columns, rows)
    typer.echo()


def _write_batches(batches: Sequence[Stored], clock: SpoolTime) -> None:
    columns = (
        *map(Column, ("batch", "spans", "size")),
        Column("encoding", 2, is_text=True),
        Column("since", 1),
        Column("age"),
        Column("services", is_text=True),
    )
    rows = [
        (
            str(stored.id),
            f"{stored.spans:,}",
            size(stored.body_bytes),
            stored.encoding,
            _seconds(_since(clock, stored)),
            _age(clock, stored),
            printable(", ".join(stored.services)),
        )
        for stored in batches
    ]
    write_table(columns, rows)


def _write_reasons(letters: LettersLook, *, shows_all: bool) -> None:
    ordered = sorted(letters.by_reason.items(), key=lambda one: one[1].last_unix_nano, reverse=True)
    shown = ordered if shows_all else ordered[:_MOST_ROWS]
    columns = (*map(Column, ("batches", "spans")), Column("since", 1), Column("last"), Column("reason", is_text=True))
    rows = [
        (
            f"{refused.batches:,}",
            f"{refused.spans:,}",
            _seconds(moment(refused.first_unix_nano)),
            _seconds(moment(refused.last_unix_nano)),
            printable(reason or "none was given"),
        )
        for reason, refused in shown
    ]
    write_table(columns, rows)
    if len(shown) < len(ordered):
        typer.echo(f"… and {counted(len(ordered) - len(shown), 'reason')} of longer ago: --all")
