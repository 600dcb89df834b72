"""Spans for people: one line each on standard output, coloured on a terminal."""

from __future__ import annotations

import errno
import io
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData
from rich.console import Console
from rich.text import Text

from drain.exporters.protocol import Result, Verdict
from drain.otlp.transcode import in_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request

_STATUS = {Status.STATUS_CODE_OK: ("ok", "green"), Status.STATUS_CODE_ERROR: ("error", "bold red")}
# Nearly all are internal, and who says nothing of the kind means that.
_USUAL_KINDS = (Span.SPAN_KIND_UNSPECIFIED, Span.SPAN_KIND_INTERNAL)
_LEFT_OUT = ("dropped_attributes_count", "dropped_events_count", "dropped_links_count")
_NANOSECONDS = 1_000_000_000
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def make(_destination: Destination) -> Exporter:
    """Return the exporter of kind "console", which has no settings."""
    return ConsoleExporter()


class ConsoleExporter:
    """Prints every span: start (UTC), service, name, duration, status, unusual kind, ids, attributes, events, links.

    Args:
        out: what to print on; standard output if None.
    """

    encoding: Encoding = "protobuf"
    endpoint = "console"

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        terminal = Console(file=self._out)
        # Rendered apart, since rich itself ends the whole process when it meets a broken pipe.
        self._page = io.StringIO()
        self._console = Console(
            file=self._page, force_terminal=terminal.is_terminal, color_system=_colours(terminal), soft_wrap=True
        )
        self._lock = threading.Lock()

    def export(self, request: Request) -> Result:
        """Print the spans of one batch; see `drain.exporters.protocol.Exporter`."""
        try:
            traces = TracesData.FromString(in_encoding(request, self.encoding).body)
        except DecodeError as error:
            return Result(Verdict.REFUSED, message=f"request body is no TracesData message: {error}")
        lines = [
            _line(span, _text_of(resource_spans.resource.attributes, "service.name"))
            for resource_spans in traces.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]
        with self._lock:
            for line in lines:
                self._console.print(line)
            encoding = self._out.encoding or "utf-8"
            text = self._page.getvalue().encode(encoding, "backslashreplace").decode(encoding)
            self._page.seek(0)
            self._page.truncate()
            try:
                self._out.write(text)
                self._out.flush()
            except OSError as error:
                is_gone = error.errno == errno.EPIPE
                return Result(Verdict.RETRY, message=f"console: {error.strerror}", reader_is_gone=is_gone)
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        """Do nothing: standard output is the process's."""


def _colours(terminal: Console) -> Literal["standard", "256", "truecolor"] | None:
    match terminal.color_system:
        case "standard" | "256" | "truecolor" as name:
            return name
        case _:
            return None


def _line(span: Span, service: str) -> Text:
    status, colour = _STATUS.get(span.status.code, ("unset", "dim"))
    line = Text.assemble(
        (_time(span.start_time_unix_nano), "dim"),
        " ",
        (_printable(service), "magenta"),
        " ",
        (_printable(span.name), "bold"),
        " ",
        (_duration(span.end_time_unix_nano - span.start_time_unix_nano), "cyan"),
        " ",
        (status, colour),
    )
    if span.status.message:
        line.append(f' "{_printable(span.status.message)}"', colour)
    if span.kind not in _USUAL_KINDS:
        line.append(f" {_kind(span.kind)}", "magenta")
    line.append(f" {span.trace_id.hex()}/{span.span_id.hex()}", "dim")
    if span.parent_span_id:
        line.append(f" parent={span.parent_span_id.hex()}", "dim")
    _append_attributes(line, span.attributes)
    for event in span.events:
        since = _duration(event.time_unix_nano - span.start_time_unix_nano)
        _append_part(line, "event", f"{_printable(event.name)}@{since}", event.attributes)
    for link in span.links:
        _append_part(line, "link", f"{link.trace_id.hex()}/{link.span_id.hex()}", link.attributes)
    for name in _LEFT_OUT:
        if count := getattr(span, name):
            line.append(f" {name}={count}", "yellow")
    return line


def _kind(number: int) -> str:
    try:
        return Span.SpanKind.Name(number).removeprefix("SPAN_KIND_").lower()  # type: ignore[arg-type]  # any number comes
    except ValueError:
        return f"kind={number}"


def _append_attributes(line: Text, attributes: Iterable[KeyValue]) -> None:
    for attribute in attributes:
        line.append(f" {_printable(attribute.key)}=", "blue")
        line.append(_printable(_value(attribute.value)))


def _append_part(line: Text, kind: str, what: str, attributes: Iterable[KeyValue]) -> None:
    """Append an event or a link, with its attributes in braces: they are not the span's."""
    line.append(f" {kind}=", "green")
    line.append(what)
    inside = ",".join(f"{_printable(pair.key)}:{_printable(_value(pair.value))}" for pair in attributes)
    if inside:
        line.append(f"{{{inside}}}")


def _time(unix_nano: int) -> str:
    seconds, nanos = divmod(unix_nano, _NANOSECONDS)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06}Z"
    except (ValueError, OverflowError, OSError):
        return f"{unix_nano}ns"  # beyond the year 9999


def _duration(nanos: int) -> str:
    for size, unit in _UNITS:
        if abs(nanos) >= size:
            return f"{nanos / size:.3f}{unit}"
    return f"{nanos}ns"


def _value(value: AnyValue) -> str:
    match value.WhichOneof("value"):
        case None:
            return ""
        case "bytes_value":
            return value.bytes_value.hex()
        case "array_value":
            return "[" + ",".join(_value(item) for item in value.array_value.values) + "]"
        case "kvlist_value":
            return "{" + ",".join(f"{item.key}:{_value(item.value)}" for item in value.kvlist_value.values) + "}"
        case kind:
            return str(getattr(value, kind))


def _text_of(attributes: Iterable[KeyValue], key: str) -> str:
    return next((_value(item.value) for item in attributes if item.key == key), "")


def _printable(text: str) -> str:
    """Return the text with its control characters escaped: a span must not command the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
