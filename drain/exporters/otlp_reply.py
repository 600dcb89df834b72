"""What an OTLP backend says in its replies, read without trusting them: never raises, never more than one log line."""

from __future__ import annotations

import email.utils
import json
import re
from typing import TYPE_CHECKING

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from drain.exporters.protocol import Result, Verdict

if TYPE_CHECKING:
    from datetime import datetime

LONGEST_MESSAGE = 256
_TOO_LARGE = re.compile(
    r"""larger\ than\ (the\ )?(max|limit|allowed|configured)
    | exceed(s|ed|ing)?\ (the\ |its\ )?(max|maximum|allowed|configured|permitted)\ ([a-z]+\ )?(size|length|bytes)
    | \b(request|body|payload|message|entity|content|batch)(\ entity|\ body|\ payload|\ message|\ length|\ size)*
      \ (is\ |was\ )?too\ (large|big|long)
    | \b(request|body|payload|message|entity|content|batch)\ (body\ |message\ |payload\ )*(size|length)(\ of)?
      [^a-z.;]*(bytes\b[^a-z.;]*)?(is\ |was\ |has\ )?exceed
    | \btoo\ many\ (spans|items|bytes|records)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml|head|body)\b", re.IGNORECASE)
_JSON_REASONS = ("message", "detail", "error", "errors", "title", "reason", "msg", "description")
_DEEPEST_REASON = 4


def one_line(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return at most so many printable characters, so that a reply cannot forge lines of a log."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST_MESSAGE]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def delivered(reply: bytes, content_type: str, spans: int) -> Result:
    """Return the result of a request that was accepted, in whole or in part.

    A reply that cannot be read leaves the request delivered: the status said so, and sending it again would repeat what
    the backend has. The same holds for rejected spans, which OTLP forbids to send again ("Partial Success").

    Args:
        reply: an `ExportTraceServiceResponse`, in JSON or protobuf by `content_type`; empty means full success.
        content_type: the reply's media type, without parameters.
        spans: how many spans the request had: no more than that can have been rejected.
    """
    try:
        if content_type == "application/json":
            message = Parse(reply or b"{}", ExportTraceServiceResponse(), ignore_unknown_fields=True)
        else:
            message = ExportTraceServiceResponse.FromString(reply)
    except (DecodeError, ParseError, UnicodeDecodeError, RecursionError):
        return Result(Verdict.DELIVERED, message=f"accepted, with a reply that is not OTLP ({one_line(content_type)})")
    partial = message.partial_success
    return Result(
        Verdict.DELIVERED, rejected=min(max(partial.rejected_spans, 0), spans), message=one_line(partial.error_message)
    )


def error_text(reply: bytes, content_type: str) -> str:
    """Return why a request was refused: the message of a `google.rpc.Status`, or else the first line."""
    try:
        if content_type in {"application/x-protobuf", "application/grpc"}:
            return one_line(Status.FromString(reply).message)
    except DecodeError:
        pass  # some say so of what is text
    try:
        text = reply.decode()
    except UnicodeDecodeError:
        return ""
    if content_type.startswith("text/plain"):
        return one_line(text)
    if text.lstrip().startswith(("{", "[", '"')):
        try:
            return one_line(_reason_in(json.loads(text), _DEEPEST_REASON))
        except (ValueError, RecursionError):
            pass  # the first line, then
    if is_page(reply, content_type):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", "\n", text)
    lines = (one_line(line) for line in text.splitlines())
    return next((line for line in lines if line), "")


def _reason_in(value: object, depth: int) -> str:
    """Return the text that says why: of a `google.rpc.Status`, of FastAPI's `detail`, of whoever nests his deeper."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and depth:
        return _reason_in(value[0], depth - 1)
    if isinstance(value, dict) and depth:
        reasons = (_reason_in(value[key], depth - 1) for key in _JSON_REASONS if key in value)
        return next((reason for reason in reasons if reason), "")
    return ""


def is_page(reply: bytes, content_type: str) -> bool:
    """Return whether a reply is a page for people: of a proxy, a login or a portal, and never of an OTLP backend."""
    return content_type in {"text/html", "application/xhtml+xml"} or bool(_PAGE.match(reply))


def says_too_large(text: str) -> bool:
    """Return whether a refusal is about the request's size, in the words of the Collector, grpc-go, Java or tonic.

    Example:
        >>> says_too_large("batch size exceeds ingestion limit"), says_too_large("request rate exceeds limit")
        (True, False)
    """
    return bool(_TOO_LARGE.search(text))


def retry_info(status_details: bytes | None) -> float | None:
    """Return the seconds in the `RetryInfo` of a serialised `google.rpc.Status`, or None if it has none."""
    try:
        for detail in Status.FromString(status_details or b"").details:
            info = RetryInfo()
            if detail.Unpack(info):
                return max(float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9, 0.0)
    except DecodeError:
        pass
    return None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds in a Retry-After header (RFC 9110, 10.2.3: a number of seconds, or a date), or None.

    Example:
        >>> from datetime import UTC, datetime
        >>> now = datetime(2026, 11, 22, 15, 0, 0, tzinfo=UTC)
        >>> retry_after("120", now), retry_after("Sun, 22 Nov 2026 15:00:07 GMT", now), retry_after("soon", now)
        (120.0, 7.0, None)
    """
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,15}", value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
        return max((when - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return None
