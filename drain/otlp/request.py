"""Spans that go to one destination, encoded: what the encoder makes, the spool stores and the exporters send."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from drain.otlp.gzip_members import gunzip, gzip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.otlp.batch_number import BatchNumber

Encoding = Literal["protobuf", "json"]


class Request:
    r"""Encoded spans of one batch for one destination, compressed once, whoever stores and sends them. Never changes.

    Args:
        body: a `TracesData` message when `encoding` is "protobuf" (on the wire the same as an
            `ExportTraceServiceRequest`), a whole line `{"resourceSpans":[...]}\n` when it is "json".
        spans: how many spans `body` holds.
        encoding: "protobuf" or "json".
        destination: a name that lasts, as of a partition or an endpoint; empty: there is one only, or any will do.
        services: how many of its spans each service has; None: that is not known.
        batch: which spans of which batch they are; None: nobody has numbered it.

    Attributes:
        spans: as given.
        encoding: as given.
        destination: as given.
        services: adds up to `spans`; what is not known is put down to the service without a name.
        batch: as given.

    Raises:
        ValueError: the services do not add up.
    """

    __slots__ = ("_body", "_gzip", "_lock", "batch", "destination", "encoding", "services", "spans")

    def __init__(
        self,
        body: bytes,
        spans: int,
        encoding: Encoding,
        destination: str = "",
        services: Mapping[str, int] | None = None,
        batch: BatchNumber | None = None,
    ) -> None:
        if services is not None and sum(services.values()) != spans:
            raise ValueError(f"services have {sum(services.values())} spans, the request {spans}")
        self._body: bytes | None = body
        self._gzip: bytes | None = None
        self._lock = threading.Lock()
        self.spans = spans
        self.encoding: Encoding = encoding
        self.destination = destination
        self.services: Mapping[str, int] = {"": spans} if services is None else services
        self.batch = batch

    @classmethod
    def of_gzip(
        cls,
        data: bytes,
        spans: int,
        encoding: Encoding,
        destination: str = "",
        services: Mapping[str, int] | None = None,
        batch: BatchNumber | None = None,
    ) -> Request:
        """Return a request whose body is there as `gzip` made it; it is decompressed when somebody wants it.

        Args:
            data: one gzip member or several.
            spans: how many spans it holds.
            encoding: of the body.
            destination: as above.
            services: as above.
            batch: as above.
        """
        request = cls(b"", spans, encoding, destination, services, batch)
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

    @property
    def body_bytes(self) -> int:
        """Bytes of the body, not compressed."""
        return len(self.body)

    def without_body(self) -> Request:
        """Return what is known of the same spans, where somebody else has the body."""
        return Request(b"", self.spans, self.encoding, self.destination, self.services, self.batch)

    def numbered(self, batch: BatchNumber) -> Request:
        """Return the same with the number of a batch."""
        same = Request(b"", self.spans, self.encoding, self.destination, self.services, batch)
        same._body, same._gzip = self._body, self._gzip
        return same

    def recoded(self, body: bytes, encoding: Encoding) -> Request:
        """Return the same spans, for the same destination, in another body."""
        return Request(body, self.spans, encoding, self.destination, self.services, self.batch)

    def gzip(self) -> bytes:
        """Return the body as gzip; of several threads that ask, one compresses."""
        with self._lock:
            if self._gzip is None:
                self._gzip = gzip(self.body)
            return self._gzip

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same spans in the same encoding and destination, however they are compressed."""
        if not isinstance(other, Request):
            return NotImplemented
        ours = (self.spans, self.encoding, self.destination, self.body)
        return ours == (other.spans, other.encoding, other.destination, other.body)

    def __hash__(self) -> int:
        """Of the body."""
        return hash(self.body)

    def __repr__(self) -> str:
        """Without the body, which may have megabytes."""
        to = f", {self.destination!r}" if self.destination else ""
        return f"Request(<{len(self.body)} bytes>, {self.spans}, {self.encoding!r}{to})"
