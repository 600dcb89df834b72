"""What `replay` reads: rings, dead letters, spool databases, OTLP JSON lines and protobuf, told apart by their content.

Nothing here writes to what it reads: rings and databases are copied first, since reading them properly changes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

import zstandard
from google.protobuf.message import DecodeError
from isal import igzip
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.delivery.letter_file import FORMAT as DEAD_LETTER_FORMAT
from drain.delivery.letter_file import SUFFIX as DEAD_LETTER_SUFFIX
from drain.delivery.letter_file import read_letters
from drain.exporters.zstd_frames import is_cut
from drain.otlp.batch_number import BatchNumber
from drain.otlp.json_lines import from_json_line
from drain.otlp.request import Encoding, Request
from drain.rings.ring import Ring, Scratch
from drain.spool.copied import SQLITE_LOCK_AT, SQLITE_LOCK_BYTES, SQLITE_MAGIC
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER_SUFFIXES: Final = (".ring", DEAD_LETTER_SUFFIX, ".json", ".jsonl", ".pb", ".gz", ".zst", ".db")
"""Files of a folder with these endings are replayed; a file that is named by itself may have any name."""

_RING_MAGIC: Final = b"ringbuf\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SCRATCH_BYTES: Final = 1 << 20
_MASK: Final = (1 << 64) - 1
_REASON_SUFFIX: Final = ".reason"
_WAL_SUFFIX: Final = "-wal"
_BATCHES: Final = "SELECT id, encoding, spans, body, {number} FROM batch"


class SourceError(ValueError):
    """A file that cannot be replayed at all; the text says why."""


Stamp = tuple[tuple[int, ...], ...]
"""Of a file and the write-ahead log beside it: device, inode, size and time of the last change; empty: not there."""


class Piece(NamedTuple):
    """A part of a file.

    Attributes:
        request: what can be sent; None where nothing can.
        invalid: records that are no spans.
        unreadable: lines, rows or lanes that cannot be read.
        note: why, for people.
    """

    request: Request | None = None
    invalid: int = 0
    unreadable: int = 0
    note: str = ""


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Return the files to replay: folders give what lies in and below them, sorted, by `FOLDER_SUFFIXES`."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                file
                for file in path.rglob("*")
                if file.name.endswith(FOLDER_SUFFIXES) and file.is_file() and not file.is_symlink()
            )
        else:
            yield path


def read(path: Path, encoding: Encoding, batch_spans: int) -> Iterator[Piece]:
    """Return what a file holds, piece by piece.

    Args:
        path: of a file of any of the kinds.
        encoding: what the exporter sends; where there is a choice, requests are in it.
        batch_spans: the most spans of a request that is made here.

    Raises:
        SourceError: it is of no known kind, or is in use by a living process.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not file.seekable():
            raise SourceError("it can be read only once, as a pipe can: write what comes from it into a file")
        start = file.read(32)
        file.seek(0)
        if start.startswith(_RING_MAGIC):
            yield from _ring(path, file, encoding, batch_spans)
        elif start.startswith(SQLITE_MAGIC):
            yield from _spool(path, file)
        elif start.startswith(_GZIP_MAGIC):
            with igzip.IGzipFile(fileobj=file, mode="rb") as plain:  # type: ignore[no-untyped-call]  # isal has no types
                yield from _plain(cast("IO[bytes]", plain), encoding)
        elif start.startswith(_ZSTD_MAGIC):
            frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            with io.BufferedReader(cast("io.RawIOBase", frames)) as plain_zstd:
                yield from _plain(plain_zstd, encoding)
                if is_cut(file.fileno()):
                    yield Piece(unreadable=1, note="the file ends within a zstd frame")
        else:
            yield from _plain(file, encoding)


# ---- rings ----


def _ring(path: Path, file: IO[bytes], encoding: Encoding, batch_spans: int) -> Iterator[Piece]:
    if lib.rb_producer_alive(file.fileno()) == 1:
        raise SourceError("its producer lives: a drain of its directory delivers it")
    with tempfile.TemporaryDirectory(prefix="ringbuf-replay-") as folder:
        copy = Path(folder) / "copy.ring"
        with copy.open("xb") as to:
            shutil.copyfileobj(file, to)
        ring, notes = _attached(path, copy, encoding)
        for note in notes:
            yield Piece(unreadable=1, note=note)
        try:
            for lane in ring.lanes:
                while ring.ready(lane):
                    encoded = ring.encode(ring.copy(lane, batch_spans))
                    body = encoded.body
                    if encoding == "json" and body:
                        body = b'{"resourceSpans":[' + body + b"]}\n"
                    request = Request(body, encoded.spans, encoding) if encoded.spans else None
                    note = "records are no spans" if encoded.invalid else ""
                    yield Piece(request, invalid=encoded.invalid, note=note)
        except RingFormatError as error:
            yield Piece(unreadable=1, note=error.reason)
        finally:
            ring.close()


def _attached(path: Path, copy: Path, encoding: Encoding) -> tuple[Ring, list[str]]:
    """Attach the copy; lanes whose positions cannot be are emptied in it first, and told of."""
    scratch = Scratch(max(_SCRATCH_BYTES, int(lib.RB_MAX_SLOT_BYTES)))

    def attach() -> Ring:
        return Ring(path.name, path, os.open(copy, os.O_RDWR), max_bytes=0, encoding=encoding, scratch=scratch)

    try:
        return attach(), []
    except RingFormatError as error:
        if error.status != lib.RB_E_POSITION:
            raise SourceError(error.reason) from error
    notes = _without_unsound_lanes(copy)
    try:
        return attach(), notes
    except RingFormatError as error:
        raise SourceError(error.reason) from error


def _without_unsound_lanes(copy: Path) -> list[str]:
    """Set `head` to `tail` where they are more than a capacity apart, and all outcome words to what goes with `head`.

    Positions are moved by whole capacities, so that records keep their slots, to where the lane began: one behind that,
    or absurdly far ahead, would not be believed. The header was found sound.
    """
    notes = []
    with copy.open("r+b") as file:
        header: Any = ffi.new("rb_header *")
        ffi.buffer(header)[:] = file.read(ffi.sizeof("rb_header"))
        for index in range(header.lane_count):
            at = header.header_bytes + index * header.lane_stride_bytes
            tail = _u64(file, at + ffi.offsetof("rb_lane", "tail"))
            head = _u64(file, at + ffi.offsetof("rb_lane", "head"))
            waiting = (tail - head) & _MASK
            if waiting > header.capacity_slots:
                notes.append(f"lane {index} cannot be read: head {head}, tail {tail}")
                waiting = 0
            words = dict.fromkeys(("spooled", "rejected", "dead_lettered", "invalid", "sampled_out"), 0)
            words["delivered"] = (head - header.first_position) % header.capacity_slots
            words["head"] = (header.first_position + words["delivered"]) & _MASK
            words["tail"] = (words["head"] + waiting) & _MASK
            for word, count in words.items():
                file.seek(at + ffi.offsetof("rb_lane", word))
                file.write(count.to_bytes(8, "little"))
    return notes


def _u64(file: IO[bytes], at: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(8), "little")


# ---- spool databases ----


def _spool(path: Path, file: IO[bytes]) -> Iterator[Piece]:
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, SQLITE_LOCK_BYTES, SQLITE_LOCK_AT)
    except BlockingIOError:
        raise SourceError("a drain has this spool open, and delivers it") from None
    with tempfile.TemporaryDirectory(prefix="ringbuf-replay-") as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", _WAL_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        database = sqlite3.connect(copy)
        try:
            yield from _batches(database)
        finally:
            database.close()


def _batches(database: sqlite3.Connection) -> Iterator[Piece]:
    """Read from the oldest on; where that ends at a damage, also from the newest back."""
    last, batches = 0, _BATCHES.format(number="''")
    try:
        database.execute("PRAGMA writable_schema = ON")  # without it SQLite opens no file that was cut
        columns = {name for _, name, *_ in database.execute("PRAGMA table_info(batch)")}
        batches = _BATCHES.format(number="number" if "number" in columns else "''")  # of a spool of before
        for row in database.execute(f"{batches} ORDER BY id"):
            last = row[0]
            yield _of_row(row)
    except sqlite3.DatabaseError as error:
        yield Piece(unreadable=1, note=f"behind batch {last}: {error}")
    else:
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in database.execute(f"{batches} WHERE id > ? ORDER BY id DESC", (last,)):
            yield _of_row(row)


def _of_row(row: tuple[Any, ...]) -> Piece:
    identity, encoding, spans, body, number = row
    try:
        if encoding not in {"protobuf", "json"} or not isinstance(spans, int):
            raise TypeError("its row is not sound")  # noqa: TRY301 - as where the body is no bytes
        batch = BatchNumber.parse(number if isinstance(number, str) else None)
        request = Request.of_gzip(body, spans, encoding, batch=batch)
        request.body  # noqa: B018 - read, so that a damage is found here
    except (ValueError, TypeError) as error:
        return Piece(unreadable=1, note=f"batch {identity}: {error}")
    return Piece(request)


# ---- files of OTLP ----


def _plain(file: IO[bytes], encoding: Encoding) -> Iterator[Piece]:
    """Read what is neither a ring nor a database, nor compressed (any more)."""
    line = file.readline()
    if DEAD_LETTER_FORMAT.encode() in line:
        yield from _letters(file, line)
    elif line.lstrip().startswith(b"{"):
        number = 0
        while line:
            number += 1
            if line.strip():
                yield _of_json(line, number, encoding)
            line = file.readline()
    else:
        body = line + file.read()
        if body.startswith(_RING_MAGIC):
            raise SourceError("a compressed ring: decompress it first")
        if body:
            yield _of_protobuf(body)


def _letters(file: IO[bytes], first_line: bytes) -> Iterator[Piece]:
    number = 0
    try:
        for letter in read_letters(file, first_line):
            letter.request.body  # noqa: B018 - read, so that a damage is found here
            number += 1
            yield Piece(letter.request)
    except ValueError as error:
        if not number:
            raise SourceError(str(error)) from None
        yield Piece(unreadable=1, note=f"behind dead letter {number}: {error}")


@contextlib.contextmanager
def kept_from_the_drain(path: Path) -> Iterator[None]:
    """Let no drain put another dead letter into a file that is read and then removed; other files are as they are."""
    if not path.name.endswith(DEAD_LETTER_SUFFIX):
        yield
        return
    with path.open("rb") as file:
        with contextlib.suppress(OSError):  # a file system without locks, to whose files drains add nothing
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def stamp_of(path: Path) -> Stamp:
    """Return what tells whether somebody has changed a file since."""
    return tuple(_stamp(path.with_name(path.name + suffix)) for suffix in ("", _WAL_SUFFIX))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.lstat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def remove(path: Path, as_read: Stamp) -> None:
    """Remove a file of which everything was delivered, and what belongs to it.

    Args:
        path: of the file; it may be gone.
        as_read: its stamp before it was read.

    Raises:
        SourceError: somebody writes to it, or has written since: there may be spans in it that nobody has delivered.
        OSError: it cannot be removed.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # a drain deletes the oldest dead letters where there are too many
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, SQLITE_LOCK_BYTES, SQLITE_LOCK_AT)
        except BlockingIOError:
            raise SourceError("a drain has it open now") from None
        except OSError:
            pass  # a file system without locks
        if stamp_of(path) != as_read:
            raise SourceError("somebody has changed it meanwhile")
        for suffix in ("", _REASON_SUFFIX, _WAL_SUFFIX):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _of_json(line: bytes, number: int, encoding: Encoding) -> Piece:
    try:
        message = from_json_line(line)
    except ValueError as error:
        return Piece(unreadable=1, note=f"line {number}: {error}")
    body = message.SerializeToString() if encoding == "protobuf" else line
    return _piece(body, message, encoding)


def _of_protobuf(body: bytes) -> Piece:
    try:
        message = TracesData.FromString(body)
    except DecodeError:
        raise SourceError("neither ring, dead letter, spool, JSON lines nor OTLP protobuf") from None
    return _piece(body, message, "protobuf")


def _piece(body: bytes, message: TracesData, encoding: Encoding) -> Piece:
    spans = sum(
        len(scope_spans.spans)
        for resource_spans in message.resource_spans
        for scope_spans in resource_spans.scope_spans
    )
    return Piece(Request(body, spans, encoding)) if spans else Piece()
