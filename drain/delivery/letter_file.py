r"""A file of dead letters, one behind the other: each a line of JSON, the header, and the batch.

    {"format": "ringbuf-dead-letter", "version": 2, "encoding": "protobuf", "compression": "gzip", "bytes": 812,
     "spans": 3, "services": {"shop": 3}, "unix_nano": ..., "endpoint": "http://...", "reason": "HTTP 400: ..."}\n
    <so many bytes>\n

The batch is a request's body: `TracesData` as protobuf, or an OTLP JSON line. Version 1 had one letter in a file, whose
batch was not compressed and went up to the file's end. Letters of before have no services.

A kill in the middle of a write may leave a file whose last letter is cut.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

from drain.accounting.sums import MAX_SERVICES, OTHER_SERVICES
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drain.otlp.request import Encoding

SUFFIX: Final = ".dead-letter"
FORMAT: Final = "ringbuf-dead-letter"

_VERSION: Final = 2
_ONE_A_FILE: Final = 1
_LONGEST_HEADER: Final = 65536
_LONGEST_REASON: Final = 1000
_LONGEST_SERVICES: Final = 32768
_COUNT_CHARACTERS: Final = 24  # a number, and what stands around it


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that was refused.

    Attributes:
        request: the batch.
        reason: the backend's, as far as it gave one.
        endpoint: of the backend.
        unix_nano: when it was refused.
    """

    request: Request
    reason: str
    endpoint: str
    unix_nano: int


class Stock(NamedTuple):
    """What a file holds.

    Attributes:
        file_bytes: its size.
        services: the spans of each service in its whole letters, as far as it is sound.
        end: of the last of them, where another may be put; 0 where none may: no kill has left what follows.
    """

    file_bytes: int
    services: Mapping[str, int]
    end: int

    @property
    def spans(self) -> int:
        """Of all services."""
        return sum(self.services.values())


class LetterHeader(NamedTuple):
    """What a letter says of itself.

    Attributes:
        spans: how many it has.
        reason: the backend's, as far as it gave one.
        endpoint: of the backend; empty where the batch was never sent.
        unix_nano: when it was refused.
        end: of the letter in its file; 0 where none may be put behind it.
        services: the spans of each service; those of which it says nothing have no name.
    """

    spans: int
    reason: str
    endpoint: str
    unix_nano: int
    end: int
    services: Mapping[str, int]


class _Header(NamedTuple):
    encoding: Encoding
    spans: int
    body_bytes: int | None  # None: up to the file's end
    letter: tuple[str, str, int]  # reason, endpoint, time
    services: Mapping[str, int]


def letter_of(request: Request, reason: str, endpoint: str, unix_nano: int) -> bytes:
    """Return a batch as it stands in a file.

    Args:
        request: what was refused.
        reason: of the backend.
        endpoint: of the backend.
        unix_nano: when.
    """
    body = request.gzip()
    header = {
        "format": FORMAT,
        "version": _VERSION,
        "encoding": request.encoding,
        "compression": "gzip",
        "bytes": len(body),
        "spans": request.spans,
        "services": services_in(request),
        "unix_nano": unix_nano,
        "endpoint": endpoint,
        "reason": reason[:_LONGEST_REASON],
    }
    return b"%b\n%b\n" % (json.dumps(header).encode(), body)


def services_in(request: Request) -> dict[str, int]:
    """Return the spans of each service of a batch, of so many that a letter's header stays readable."""
    told: Counter[str] = Counter()
    room = _LONGEST_SERVICES
    for service, spans in request.services.items():
        room -= len(json.dumps(service)) + _COUNT_CHARACTERS
        told[service if room >= 0 and len(told) < MAX_SERVICES else OTHER_SERVICES] += spans
    return dict(told)


def read_letters(file: IO[bytes], first_line: bytes | None = None) -> Iterator[DeadLetter]:
    """Return the letters from a file's position on, one after the other.

    Args:
        file: plain.
        first_line: of the first letter, where it was read already.

    Raises:
        ValueError: what comes next is no dead letter, not whole, or not of a version that is known here.
    """
    line = file.readline(_LONGEST_HEADER + 1) if first_line is None else first_line
    while line:
        header = _header(line)
        if header.body_bytes is None:
            request = Request(file.read(), header.spans, header.encoding)
        else:
            body = file.read(header.body_bytes)
            if len(body) < header.body_bytes or file.read(1) != b"\n":
                raise ValueError("the last dead letter is cut")
            request = Request.of_gzip(body, header.spans, header.encoding)
        yield DeadLetter(request, *header.letter)
        line = file.readline(_LONGEST_HEADER + 1)


class CutLetterError(ValueError):
    """The file ends within its last letter, as a kill leaves it."""


def headers_of(file: IO[bytes]) -> Iterator[LetterHeader]:
    """Return what the letters of a file say of themselves, from its start; bodies are passed over.

    Raises:
        CutLetterError: the last letter is not whole.
        ValueError: as `read_letters`.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    while line := file.readline(_LONGEST_HEADER + 1):
        if not line.endswith(b"\n") and file.tell() == file_bytes:
            raise CutLetterError("the last dead letter is cut")
        header = _header(line)
        end = 0
        if header.body_bytes is None:
            file.seek(0, os.SEEK_END)
        else:
            end = file.tell() + header.body_bytes + 1
            if end > file_bytes:
                raise CutLetterError("the last dead letter is cut")
            file.seek(end - 1)
            if file.read(1) != b"\n":
                raise ValueError("no dead letter: its body is not sound")
        yield LetterHeader(header.spans, *header.letter, end, header.services)


def take_stock(file: IO[bytes]) -> Stock:
    """Return what a file holds, from its start; bodies are passed over."""
    file_bytes = os.fstat(file.fileno()).st_size
    services: Counter[str] = Counter()
    end = 0
    try:
        for header in headers_of(file):
            services.update(header.services)
            end = header.end
    except CutLetterError:
        pass
    except ValueError:
        end = 0
    return Stock(file_bytes, services, end)


def _header(line: bytes) -> _Header:
    if not line.endswith(b"\n"):
        raise ValueError("no dead letter, or one that is cut: there is no whole header")
    try:
        header = cast("Any", json.loads(line))
    except RecursionError:
        raise ValueError("no dead letter: its header is not sound") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("no dead letter: there is no header")
    version = header.get("version")
    if version not in {_ONE_A_FILE, _VERSION}:
        raise ValueError(f"a dead letter of version {version!r}, this reader knows {_ONE_A_FILE} and {_VERSION}")
    encoding, has_one = header.get("encoding"), version == _ONE_A_FILE
    if encoding not in {"protobuf", "json"} or (header.get("compression") != "gzip" and not has_one):
        raise ValueError("no dead letter: its header is not sound")
    letter = (str(header.get("reason")), str(header.get("endpoint")), _count(header, "unix_nano"))
    spans = _count(header, "spans")
    return _Header(encoding, spans, None if has_one else _count(header, "bytes"), letter, _services(header, spans))


def _services(header: dict[str, Any], spans: int) -> Mapping[str, int]:
    """Return whose spans they are; a letter that does not say it, or says it wrong, is none the worse for it."""
    services = header.get("services")
    if not isinstance(services, dict) or len(services) > MAX_SERVICES + 1:
        return {"": spans}
    counts = services.values()
    is_sound = all(isinstance(count, int) and 0 <= count <= spans for count in counts) and sum(counts) == spans
    return services if is_sound else {"": spans}


def _count(header: dict[str, Any], name: str) -> int:
    value = header.get(name)
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError("no dead letter: its header is not sound")
    return value
