"""Which rings a subcommand is about: all of a directory, or those that are named."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple
from urllib.parse import unquote

import typer

from drain.rings.directory import LOCK_NAME, RING_SUFFIX
from drain.tools.looking.command_line import EXIT_INCOMPLETE, fail
from drain.tools.looking.nearest import nearest
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.span_text import printable
from ringbuf.exceptions import RingBufferError
from ringbuf.ring.directory import default_ring_dir

if TYPE_CHECKING:
    from collections.abc import Collection

_TRIES: Final = 5
_MAX_PID_DIGITS: Final = 32


def complete_ring(incomplete: str) -> list[str]:
    """Return the names of rings in the default directory that begin so: what a shell offers."""
    try:
        names = [unquote(path.stem) for path in ring_paths(default_ring_dir())]
        return [name for name in names if name.startswith(incomplete)]
    except OSError:
        return []


RingDirOption = Annotated[
    Path,
    typer.Option(
        "--ring-dir",
        metavar="PATH",
        help="The ring directory; RINGBUF_DIR, too. [default: /dev/shm/ringbuf-<uid>]",
        default_factory=default_ring_dir,
        show_default=False,
    ),
]
RingsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RING",
        help="Rings: files, or names, beginnings of names or pids in the ring directory; none: all of it.",
        autocompletion=complete_ring,
        show_default=False,
    ),
]
RingArgument = Annotated[
    str,
    typer.Argument(
        metavar="RING",
        help="A file, or a name, the beginning of a name or a pid in the ring directory.",
        autocompletion=complete_ring,
    ),
]
ServiceOption = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Rings of this service, or a pattern.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]


class Unreadable(NamedTuple):
    """A file of the directory that could not be looked into."""

    path: Path
    reason: str


def ring_paths(ring_dir: Path) -> list[Path]:
    """Return the ring files of a directory, by name.

    Raises:
        OSError: the directory cannot be listed.
    """
    try:
        with os.scandir(ring_dir) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(RING_SUFFIX))
    except FileNotFoundError as error:
        hint = f"{error.strerror}: the first producer makes it; another is named by --ring-dir or RINGBUF_DIR"
        raise FileNotFoundError(error.errno, hint, str(ring_dir)) from None


def select(ring_dir: Path, wanted: list[str] | None) -> list[Path]:
    """Return the files that are meant; ends the command when there is none.

    A word is the whole name of a ring, else the whole name of a service, else the beginning of a name or a pid. In a
    file's name the service is percent-encoded; both ways of writing it are taken.

    Args:
        ring_dir: where rings are looked for that are no path.
        wanted: files, or names, beginnings of names or pids; empty or None: all of the directory.
    """
    if not wanted:
        return ring_paths(ring_dir)
    found: dict[Path, None] = {}
    for word in wanted:
        if "/" in word or (word.endswith(RING_SUFFIX) and Path(word).exists()):
            found[Path(word)] = None
            continue
        of_directory = ring_paths(ring_dir)
        matches = [path for path in of_directory if word in (path.name, path.stem, unquote(path.stem))]
        matches = matches or [path for path in of_directory if word == _service_of(path.stem)]
        matches = matches or [path for path in of_directory if _means(word, path.stem)]
        if not matches:
            fail(f"no ring {word!r} in {ring_dir}; `ringbuf list` shows those that are there", EXIT_INCOMPLETE)
        found.update(dict.fromkeys(matches))
    return list(found)


def select_one(ring_dir: Path, wanted: str) -> Path:
    """Return the one file that is meant; ends the command when it is none or several."""
    found = select(ring_dir, [wanted])
    if len(found) > 1:
        names = ", ".join(printable(unquote(path.stem), 96) for path in found[:5])
        fail(f"{wanted!r} may mean {len(found)} rings: {names}{' …' if found[5:] else ''}", EXIT_INCOMPLETE)
    return found[0]


def observe(paths: list[Path], service: str | None = None) -> tuple[list[ObservedRing], list[Unreadable]]:
    """Attach to rings, and say which of the files are none; a file that is gone by now is neither.

    Args:
        paths: the files.
        service: a pattern: only rings of such a service.
    """
    rings: list[ObservedRing] = []
    unreadable: list[Unreadable] = []
    for path in paths:
        try:
            ring = ObservedRing(path)
        except FileNotFoundError:
            continue
        except (RingBufferError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else getattr(error, "reason", str(error))
            unreadable.append(Unreadable(path, str(reason)))
            continue
        if service is not None and not fnmatchcase(ring.service, service):
            ring.close()
            continue
        rings.append(ring)
    return rings, unreadable


def doubt_of_service(paths: list[Path], service: str | None, found: Collection[ObservedRing]) -> str:
    """Return why there is no ring of a service, with the nearest; empty where there is one, or no ring at all."""
    if service is None or found:
        return ""
    others, _ = observe(paths)
    services = sorted({ring.service for ring in others})
    for ring in others:
        ring.close()
    if not services:
        return ""
    return f"no ring of a service {service!r}{nearest(service, services)}"


def drain_of(ring_dir: Path) -> int | None:
    """Return the pid of the drain that serves the directory, None when none is seen; no lock is taken for it.

    A drain in another PID namespace holds its lock too, but is not seen from here.
    """
    try:
        lock = ring_dir / LOCK_NAME
        inode = f":{lock.stat().st_ino}"
        # The kernel's list is read in pieces; while others take and give back locks, a line may fall between two.
        holder = int(lock.read_text().partition("\n")[0])
        is_likely = Path(f"/proc/{holder}").exists()
        for _ in range(_TRIES if is_likely else 1):
            for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
                fields = line.split()
                if "FLOCK" in fields and any(field.endswith(inode) for field in fields):
                    return int(fields[fields.index("WRITE") + 1])
    except (OSError, ValueError):
        return None
    return None


def _means(word: str, stem: str) -> bool:
    """Whether a word is the beginning of a ring's name or its pid: names are `<service>-<pid>-<8 hex digits>`."""
    is_pid = word.isdigit() and len(word) < _MAX_PID_DIGITS and stem.rsplit("-", 2)[1:-1] == [word]
    return stem.startswith(word) or unquote(stem).startswith(word) or is_pid


def _service_of(stem: str) -> str:
    return unquote(stem.rsplit("-", 2)[0])
