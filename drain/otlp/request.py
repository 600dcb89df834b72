"""Spans that go to one destination, encoded: what the encoder makes, the spool stores and the exporters send."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Protocol

from drain.otlp.gzip_members import gzip, members
from drain.otlp.zstd_frame import zstd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.otlp.batch_number import BatchNumber

Encoding = Literal["protobuf", "json"]
GzipFrom = Literal["", "records", "body"]


class Records(Protocol):
    """What a body is made of, where that waits until somebody wants it.

    Attributes:
        body_bytes: of the body.
        size: bytes that these take in memory.
    """

    body_bytes: int
    size: int

    def encode(self) -> bytes:
        """Return the body."""

    def gzip(self) -> bytes | None:
        """Return it as a gzip member without making it first; None: it is to be made."""


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
        gzip_from: what its gzip was made from, once `gzip` has made it; empty as long as nothing did.

    Raises:
        ValueError: the services do not add up.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_gzip",
        "_is_one_member",
        "_lock",
        "_records",
        "_zstd",
        "batch",
        "destination",
        "encoding",
        "gzip_from",
        "services",
        "spans",
    )

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
        self._body_bytes: int | None = None  # where that is known without it
        self._gzip: bytes | None = None
        self._zstd: bytes | None = None
        self._is_one_member = True  # as far as is known
        self._records: Records | None = None
        self._lock = threading.Lock()
        self.spans = spans
        self.encoding: Encoding = encoding
        self.destination = destination
        self.services: Mapping[str, int] = {"": spans} if services is None else services
        self.batch = batch
        self.gzip_from: GzipFrom = ""

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

    @classmethod
    def of_records(
        cls,
        records: Records,
        spans: int,
        destination: str = "",
        services: Mapping[str, int] | None = None,
        batch: BatchNumber | None = None,
    ) -> Request:
        """Return a request of protobuf whose body is made when somebody wants it, or never, where gzip is enough.

        Args:
            records: what it is made of; let go when they have become gzip.
            spans: how many of them are spans.
            destination: as above.
            services: as above.
            batch: as above.
        """
        request = cls(b"", spans, "protobuf", destination, services, batch)
        request._body, request._body_bytes, request._records = None, records.body_bytes, records
        return request

    @property
    def body(self) -> bytes:
        """The body, not compressed.

        Raises:
            ValueError: it came compressed, and is not sound.
        """
        body = self._body
        if body is None:
            records = self._records  # let go by `gzip` when that is there
            if records is None:
                contents = members(self._gzip or b"")
                self._is_one_member = len(contents) == 1
                body = self._body = contents[0] if self._is_one_member else b"".join(contents)
            else:
                body = self._body = records.encode()
        return body

    @property
    def body_bytes(self) -> int:
        """Bytes of the body, not compressed."""
        return len(self.body) if self._body_bytes is None else self._body_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, in whatever form."""
        records = self._records
        in_bytes = len(self._body or b"") + len(self._gzip or b"") + len(self._zstd or b"")
        return in_bytes + (0 if records is None else records.size)

    def without_body(self) -> Request:
        """Return what is known of the same spans, where somebody else has the body."""
        return Request(b"", self.spans, self.encoding, self.destination, self.services, self.batch)

    def numbered(self, batch: BatchNumber) -> Request:
        """Return the same with the number of a batch."""
        same = Request(b"", self.spans, self.encoding, self.destination, self.services, batch)
        with self._lock:  # `gzip` changes some of them together
            same._body, same._body_bytes = self._body, self._body_bytes
            same._gzip, same._zstd, same._records = self._gzip, self._zstd, self._records
            same._is_one_member = self._is_one_member
        return same

    def recoded(self, body: bytes, encoding: Encoding) -> Request:
        """Return the same spans, for the same destination, in another body."""
        return Request(body, self.spans, encoding, self.destination, self.services, self.batch)

    def gzip(self) -> bytes:
        """Return the body as gzip, of which one member is made; of several threads that ask, one compresses.

        Of several members a receiver may read the first alone: what came in several goes out in one, once the body was
        read, which tells of it.
        """
        with self._lock:
            if self._gzip is None or not self._is_one_member:
                records = self._records if self._body is None else None
                straight = None if records is None else records.gzip()
                self._gzip = gzip(self.body) if straight is None else straight
                self.gzip_from = "body" if straight is None else "records"
                self._records, self._is_one_member = None, True
            return self._gzip

    def zstd(self) -> bytes:
        """Return the body as a zstd frame, which is made once; of several threads that ask, one compresses."""
        with self._lock:
            if self._zstd is None:
                self._zstd = zstd(self.body)
            return self._zstd

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
        return f"Request(<{self.body_bytes} bytes>, {self.spans}, {self.encoding!r}{to})"
