"""A span as the rules see it, and the spans of OTLP messages as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drain.sampling.trace_state import Stated, stated
from ringbuf._ringbuf import lib
from ringbuf.ring.resource import SERVICE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

Value = str | bool | int | float | bytes | None
"""Of an attribute; None for what a condition cannot be about: arrays, maps, and nothing."""

_NOTHING: Final = Stated()
_SAYS_SAMPLED: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE  # else a program wrote the flags that knows of none


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """What rules may look at.

    Attributes:
        trace_id: 16 bytes.
        parent_span_id: 8 bytes, or none: a root.
        service: `service.name` of the resource.
        name: of the span.
        kind: OTLP's SpanKind.
        status: OTLP's StatusCode.
        start_unix_nano: when it began.
        end_unix_nano: when it ended.
        attributes: of the span, those of a single value.
        is_remote: its parent lives in another process.
        is_sampled: the head wants it kept.
        says: the tracestate's threshold and randomness.
        is_alone: it is its whole trace, and no other span can come.
    """

    trace_id: bytes
    parent_span_id: bytes
    service: str
    name: str
    kind: int
    status: int
    start_unix_nano: int
    end_unix_nano: int
    attributes: Mapping[str, Value]
    is_remote: bool = False
    is_sampled: bool = True
    says: Stated = _NOTHING
    is_alone: bool = False

    @property
    def duration_nano(self) -> int:
        """How long it took; 0 where it ended before it began."""
        return max(0, self.end_unix_nano - self.start_unix_nano)


def seen_spans(traces: TracesData) -> Iterator[SeenSpan]:
    """Return the spans of a message, in its order."""
    for resource_spans in traces.resource_spans:
        resource = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield SeenSpan(
                    span.trace_id,
                    span.parent_span_id.strip(b"\0") and span.parent_span_id,
                    resource.get(SERVICE_NAME, ""),
                    span.name,
                    span.kind,
                    span.status.code,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {item.key: value_of(item.value) for item in span.attributes},
                    is_remote=bool(span.flags & lib.RB_SPAN_IS_REMOTE),
                    is_sampled=not span.flags & _SAYS_SAMPLED or bool(span.flags & lib.RB_SPAN_SAMPLED),
                    says=stated(span.trace_state),
                )


def value_of(value: AnyValue) -> Value:
    """Return what a condition can be about, of an attribute."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bytes_value":
            return value.bytes_value
        case _:
            return None
