"""A request in the other encoding: batches that were spooled before the exporter was changed must still go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.otlp.request import Encoding, Request


def in_encoding(request: Request, encoding: Encoding) -> Request:
    """Return the request itself if it is in this encoding, else its translation.

    Raises:
        ValueError: the body does not parse in the encoding that the request claims.
    """
    if request.encoding == encoding:
        return request
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - only the rare translation needs messages
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData  # noqa: PLC0415 - only for a translation

    from drain.otlp.json_lines import from_json_line, to_json_line  # noqa: PLC0415 - only for a translation

    if encoding == "protobuf":
        body = from_json_line(request.body).SerializeToString()
    else:
        try:
            body = to_json_line(TracesData.FromString(request.body))
        except DecodeError as error:
            raise ValueError(f"request body is no TracesData message: {error}") from None
    return request.recoded(body, encoding)
