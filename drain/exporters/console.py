"""Spans for people: one line each on standard output, coloured on a terminal."""

from __future__ import annotations

import errno
import io
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Status, TracesData
from rich.console import Console
from rich.text import Text

from drain.exporters.protocol import Result, Verdict
from drain.otlp.transcode import in_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding, Request

_STATUS = {Status.STATUS_CODE_OK: ("ok", "green"), Status.STATUS_CODE_ERROR: ("error", "bold red")}
_NANOSECONDS = 1_000_000_000
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def make(_destination: Destination) -> Exporter:
    """Return the exporter of kind "console", which has no settings."""
    return ConsoleExporter()


class ConsoleExporter:
    """Prints every span: start (UTC), service, name, duration, status, trace id/span id, attributes.

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
        " ",
        (f"{span.trace_id.hex()}/{span.span_id.hex()}", "dim"),
    )
    if span.parent_span_id:
        line.append(f" parent={span.parent_span_id.hex()}", "dim")
    for attribute in span.attributes:
        line.append(f" {_printable(attribute.key)}=", "blue")
        line.append(_printable(_value(attribute.value)))
    return line


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
