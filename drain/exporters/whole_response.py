"""An answer whose headers break off is none, and neither is one that only announces another.

To http.client the end of the connection is the end of the headers. So a server that dies behind the words "200 OK"
would have said that it has a batch which nobody has; and one of the lost headers may have announced a body.

Of the interim answers (RFC 9110, 15.2) http.client passes over 100 alone. A proxy's "103 Early Hints" would stand for
the backend's word, which comes behind it and may be 503.
"""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedReader

_EMPTY_LINES = (b"\r\n", b"\n")


class WholeResponse(HTTPResponse):
    """The final response, whose headers end with an empty line; `begin` raises HTTPException for another."""

    def begin(self) -> None:
        """Read the status and the headers."""
        while True:
            lines = _Lines(self.fp)
            self.fp = lines  # type: ignore[assignment]  # `begin` reads its lines, and may close it
            super().begin()
            self.fp = lines.stream
            if lines.last not in _EMPTY_LINES:
                raise HTTPException("the answer's headers break off")
            if self.status >= HTTPStatus.OK:
                return
            self.headers = None  # type: ignore[assignment]  # else `begin` takes them for the answer's


class _Lines:
    """The lines of a stream, of which the last is remembered."""

    def __init__(self, stream: BufferedReader) -> None:
        self.stream = stream
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self.stream.readline(limit)
        return self.last

    def close(self) -> None:
        self.stream.close()

    def flush(self) -> None:
        self.stream.flush()
