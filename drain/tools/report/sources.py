"""Where a report's spans come from: files of OTLP JSON lines as they are, and whatever else becomes such a file first.

A report reads its input twice: all of it for the numbers, then the traces that it shows. What cannot be read twice, or
is of another kind (standard input, dead letters, spools, protobuf), is written to a folder of the command's own.
"""

from __future__ import annotations

import gzip
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, cast

import zstandard
from isal import igzip
from isal.igzip_lib import IsalError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.delivery.letter_file import FORMAT as DEAD_LETTER_FORMAT
from drain.exporters.zstd_frames import is_cut
from drain.otlp.json_lines import to_json_line
from drain.replay import sources as replay_sources
from drain.replay.sources import SourceError
from drain.tools.looking import standard_input
from drain.tools.looking.standard_input import STANDARD_INPUT
from drain.tools.report.rings import RING_MAGIC, write_json_lines
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drain.tools.report.rings import RingCount

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_LONGEST_LINE: Final = 64 << 20
_LOOK_BYTES: Final = 4096
_BATCH_SPANS: Final = 4096
_MOST_NOTES: Final = 5
_DAMAGE: Final = (
    EOFError,
    gzip.BadGzipFile,
    cast("type[Exception]", IsalError),  # isal's stub has an instance
    zstandard.ZstdError,
)
# Text has none of the other control characters; protobuf, databases and rings have some within their first bytes.
_TEXT: Final = bytes({*b"\t\n\r", *range(0x20, 0x100)})


@dataclass(slots=True)
class Source:
    """An input, and what of it could not be read.

    Attributes:
        name: for people.
        path: of a file of JSON lines, plain or compressed.
        size_bytes: of that file.
        spans: that were found in it.
        unreadable: lines, or parts of what it was made of.
        notes: why, the first few.
    """

    name: str
    path: Path
    size_bytes: int
    spans: int = 0
    unreadable: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Count an unreadable part, and keep the reason if there are not enough."""
        self.unreadable += 1
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(text)

    def lines(self, progress: Callable[[int], None] = lambda _: None) -> Iterator[tuple[int, bytes]]:
        """Yield each line that is not empty, with its number from 1 on; what ends too early is noted.

        Args:
            progress: is told how many bytes of the file have been read.

        Raises:
            OSError: it cannot be read.
        """
        with self.path.open("rb") as file, _plain(file) as plain:
            number = 0
            try:
                while line := plain.readline(_LONGEST_LINE):
                    number += 1
                    progress(file.tell())
                    if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                        self.note(f"line {number}: longer than {_LONGEST_LINE >> 20} MiB")
                        while (rest := plain.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                            pass
                    elif line.strip():
                        yield number, line
            except _DAMAGE as error:
                self.note(f"behind line {number}: the compressed data is damaged or incomplete ({error})")
            else:
                if _is_zstd(file) and is_cut(file.fileno()):
                    self.note(f"behind line {number}: the file ends within a zstd frame")


def open_source(name: str, path: Path, folder: Path, rings: list[RingCount]) -> Source:
    """Return an input that can be read line by line, any number of times.

    Args:
        name: for people.
        path: of the file, or of a pipe, which is copied first; standard input if the name is `STANDARD_INPUT`.
        folder: for what must be written first.
        rings: gets what a ring counts.

    Raises:
        SourceError: it is of no known kind, or in use.
        RingFormatError: it is a ring that is not sound.
        OSError: it cannot be read, or there is no room in the folder.
    """
    if name == STANDARD_INPUT:
        path = folder / "stdin"
        name = standard_input.NAME
        with path.open("wb") as file:
            standard_input.copy(file)
    elif path.is_fifo():
        pipe, path = path, folder / f"{len(list(folder.iterdir()))}.pipe"
        with path.open("wb") as file:
            standard_input.copy_pipe(pipe, file)
    source = Source(name, path, path.stat().st_size)
    if _is_json_lines(path):
        return source
    made = folder / f"{len(list(folder.iterdir()))}.jsonl"
    with made.open("wb") as file:
        if _is_ring(path):
            count = write_json_lines(path, file)
            rings.append(count)
            if count.invalid:
                source.note(counted(count.invalid, "record is no span", "records are no spans"))
        else:
            _write_json_lines(source, file)
    return Source(name, made, made.stat().st_size, unreadable=source.unreadable, notes=source.notes)


def _is_zstd(file: IO[bytes]) -> bool:
    return os.pread(file.fileno(), len(_ZSTD_MAGIC), 0) == _ZSTD_MAGIC


@contextmanager
def _plain(file: IO[bytes]) -> Iterator[IO[bytes]]:
    start = file.read(len(_ZSTD_MAGIC))
    file.seek(0)
    if start.startswith(_GZIP_MAGIC):
        with igzip.IGzipFile(fileobj=file, mode="rb") as plain:  # type: ignore[no-untyped-call]  # isal has no types
            yield cast("IO[bytes]", plain)
    elif start == _ZSTD_MAGIC:
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
        with io.BufferedReader(cast("io.RawIOBase", frames)) as plain_zstd:
            yield plain_zstd
    else:
        yield file


def _is_json_lines(path: Path) -> bool:
    """Look at the beginning only: a line that is not as it should be is told of with its number later."""
    with path.open("rb") as file, _plain(file) as plain:
        try:
            start = plain.read(_LOOK_BYTES)
        except _DAMAGE:
            return True
    is_dead_letter = DEAD_LETTER_FORMAT.encode() in start.partition(b"\n")[0]
    return not is_dead_letter and not start.translate(None, _TEXT)


def _is_ring(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(RING_MAGIC)) == RING_MAGIC


def _write_json_lines(source: Source, file: IO[bytes]) -> None:
    """Write the spans of a dead letter, spool or file of protobuf."""
    for piece in replay_sources.read(source.path, "json", _BATCH_SPANS):
        if piece.unreadable:
            source.note(piece.note)
        if piece.request is None:
            continue
        body = piece.request.body
        if piece.request.encoding == "protobuf":
            body = to_json_line(TracesData.FromString(body))
        file.write(body if body.endswith(b"\n") else body + b"\n")


__all__ = ["STANDARD_INPUT", "Source", "SourceError", "open_source"]
