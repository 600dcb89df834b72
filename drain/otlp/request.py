"""A batch of spans, encoded: what the encoder makes, the spool stores and the exporters send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Encoding = Literal["protobuf", "json"]


@dataclass(frozen=True, slots=True)
class Request:
    r"""One batch of encoded spans, not compressed.

    Attributes:
        body: a `TracesData` message when `encoding` is "protobuf" (on the wire the same as an
            `ExportTraceServiceRequest`), a whole line `{"resourceSpans":[...]}\n` when it is "json".
        spans: how many spans `body` holds.
        encoding: "protobuf" or "json".
    """

    body: bytes
    spans: int
    encoding: Encoding
