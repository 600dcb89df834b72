"""A batch of spans, encoded: what the encoder makes, the spool stores and the exporters send."""

from __future__ import annotations

import threading
from typing import Literal

from drain.otlp.gzip_members import gunzip, gzip

Encoding = Literal["protobuf", "json"]


class Request:
    r"""One batch of encoded spans, which is compressed once, whoever stores and sends it. Never changes.

    Args:
        body: a `TracesData` message when `encoding` is "protobuf" (on the wire the same as an
            `ExportTraceServiceRequest`), a whole line `{"resourceSpans":[...]}\n` when it is "json".
        spans: how many spans `body` holds.
        encoding: "protobuf" or "json".

    Attributes:
        spans: as given.
        encoding: as given.
    """

    __slots__ = ("_body", "_gzip", "_lock", "encoding", "spans")

    def __init__(self, body: bytes, spans: int, encoding: Encoding) -> None:
        self._body: bytes | None = body
        self._gzip: bytes | None = None
        self._lock = threading.Lock()
        self.spans = spans
        self.encoding: Encoding = encoding

    @classmethod
    def of_gzip(cls, data: bytes, spans: int, encoding: Encoding) -> Request:
        """Return a request whose body is there as `gzip` made it; it is decompressed when somebody wants it.

        Args:
            data: one gzip member or several.
            spans: how many spans it holds.
            encoding: of the body.
        """
        request = cls(b"", spans, encoding)
        request._body, request._gzip = None, data
        return request

    @property
    def body(self) -> bytes:
        """The body, not compressed.

        Raises:
            ValueError: it came compressed, and is not sound.
        """
        body = self._body
        if body is None:
            body = self._body = gunzip(self._gzip or b"")
        return body

    def gzip(self) -> bytes:
        """Return the body as gzip; of several threads that ask, one compresses."""
        with self._lock:
            if self._gzip is None:
                self._gzip = gzip(self.body)
            return self._gzip

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same spans in the same encoding, however they are compressed."""
        if not isinstance(other, Request):
            return NotImplemented
        return (self.spans, self.encoding, self.body) == (other.spans, other.encoding, other.body)

    def __hash__(self) -> int:
        """Of the body."""
        return hash(self.body)

    def __repr__(self) -> str:
        """Without the body, which may have megabytes."""
        return f"Request(<{len(self.body)} bytes>, {self.spans}, {self.encoding!r})"
