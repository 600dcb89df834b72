"""Records of one ring become the OTLP of one `ResourceSpans`.

`to_resource_spans` builds messages and says, readably, what a record means: it is the reference. `Encoder` makes the
same as bytes, in C (csrc/otlp/protobuf.c, csrc/otlp/json.c); tests/property/test_encoder.py holds the two together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from drain.otlp.carried import TOO_LONG, by_scope
from drain.otlp.encode_plan import plan_of
from drain.otlp.fields import checked_fields
from drain.otlp.json_lines import to_json
from drain.otlp.output_buffer import OutputBuffer
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.present_bits import present_bits
from ringbuf.sampling import randomness, threshold_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from drain.otlp.kept import Kept
    from ringbuf.layout.layout import SpanLayout
    from ringbuf.ring.resource import AttributeValue

_MAX_INT64: Final = (1 << 63) - 1
_ZERO_SPAN_ID: Final = bytes(8)
_NAME_FIELD: Final = 5  # Span.name
_KEPT_BY_SAMPLER: Final[int] = lib.RB_SPAN_SAMPLED | lib.RB_SPAN_RANDOM

_RESOURCE_SPANS_TAG: Final = b"\x0a"  # TracesData.resource_spans
_SCOPE_SPANS_TAG: Final = b"\x12"  # ResourceSpans.scope_spans
_MAX_ENVELOPES: Final = 1024
_MORE: Final = 0x80  # set in every byte of a varint but the last
_PIECE_BYTES: Final = 8 << 20  # of output at a time, where the bound of a record is far above what most take

_thread: Final = threading.local()


class Encoded(NamedTuple):
    """What became of an array of records: `spans` + `invalid` is its length.

    Attributes:
        body: the spans' OTLP; empty when there is none.
        spans: how many spans the body has.
        invalid: how many records were no span (rb_record in ringbuf.h has the rules) and were skipped.
    """

    body: bytes
    spans: int
    invalid: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.body)


class Surrounding(NamedTuple):
    """The fields that lie around the spans of a layout without a `scope` attribute; each may be empty.

    Attributes:
        resource: of ResourceSpans.
        scope: of ScopeSpans.
        scope_schema_url: of ScopeSpans.
        schema_url: of ResourceSpans.
    """

    resource: bytes
    scope: bytes
    scope_schema_url: bytes
    schema_url: bytes


def to_resource_spans(
    records: np.ndarray, layout: SpanLayout, resource: Mapping[str, AttributeValue], root_threshold: int = 0
) -> ResourceSpans:
    """Return the message that the records of one ring stand for; invalid records are skipped.

    The layout's `schema_url` goes to the `ScopeSpans`: it is about the spans' attributes; `resource_schema_url` goes to
    the `ResourceSpans`. Records that have a `scope` of their own are together by it, in the order of the first of each.

    Args:
        records: array of `layout.dtype`, one dimension.
        layout: what the bytes of the records mean.
        resource: the attributes of the process that wrote them.
        root_threshold: of the ring's header: 0, or 1 + T.

    Raises:
        ValueError: the array's dtype is not the layout's.

    Source: opentelemetry-proto, trace.proto; rb_record in ringbuf.h.
    """
    raw = _checked(records, layout).tobytes()
    spans: dict[bytes | None, list[Span]] = {}
    for start in range(0, len(raw), layout.slot_bytes):
        try:
            span, scope = _span(raw[start : start + layout.slot_bytes], layout, root_threshold)
        except ValueError:
            continue
        spans.setdefault(scope, []).append(span)
    scope_spans = []
    for scope, found in (spans or {None: []}).items():
        scope_spans.append(_scope_spans(layout, scope))
        scope_spans[-1].spans.extend(found)
    return ResourceSpans(resource=_resource(resource), scope_spans=scope_spans, schema_url=layout.resource_schema_url)


class Encoder:
    """Turns records of one layout and one resource into OTLP bytes; several threads may use one at once.

    Args:
        layout: what the bytes of the records mean.
        resource: the attributes of the process that wrote them.
        root_threshold: of the ring's header: 0, or 1 + T, up to 2**56.

    Attributes:
        layout: as given.
        plan: the layout compiled.
        surrounding: what lies around the spans.

    Raises:
        LayoutError: the layout's names, keys and labels take more than 16 MiB once compiled.
    """

    def __init__(self, layout: SpanLayout, resource: Mapping[str, AttributeValue], root_threshold: int = 0) -> None:
        self.layout = layout
        self.plan = plan_of(layout, root_threshold)
        # What surrounds the spans is made by the messages of the reference.
        around = ResourceSpans(
            resource=_resource(resource), scope_spans=[ScopeSpans()], schema_url=layout.resource_schema_url
        )
        self._json_head, self._json_tail = _around(to_json(around), b"scopeSpans", ScopeSpans())
        self._resource_field = ResourceSpans(resource=around.resource).SerializeToString()
        self._schema_url_field = ResourceSpans(schema_url=layout.resource_schema_url).SerializeToString()
        self._head_bytes = 0
        self._scope_field = next((field for field in layout.fields if field.attribute.type == "scope"), None)
        self._envelope = _Envelope(_scope_spans(layout, None))
        fields = self._envelope.scope_field, self._envelope.schema_url_field
        self.surrounding = Surrounding(self._resource_field, *fields, self._schema_url_field)
        self._envelopes: dict[bytes | None, _Envelope | None] = {None: self._envelope}

    def encode(self, records: np.ndarray, kept: Kept | None = None) -> Encoded:
        """Return the records as one `resource_spans` field of protobuf, tag and length included.

        The bodies of several rings, one after the other, are a `TracesData` and an `ExportTraceServiceRequest`.

        Args:
            records: array of the layout's dtype, one dimension.
            kept: what is written of each, as they were sampled late.

        Raises:
            ValueError: the array's dtype is not the layout's.
        """
        return _as_bytes(self.encode_into, records, kept)

    def measure(self, records: np.ndarray) -> tuple[int, int, int]:
        """Return how many bytes `encode` makes of records, and the numbers of spans and of invalid records.

        Args:
            records: array of the layout's dtype, one dimension; the layout has no text, `otlp` or `scope`.

        Raises:
            ValueError: the array's dtype is not the layout's.
            RingBufferError: the layout is another.
        """
        contiguous = np.ascontiguousarray(_checked(records, self.layout))
        data = ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8))
        counts = ffi.new("uint64_t[2]")
        nbytes: int = lib.rb_protobuf_bytes(self.plan.c_plan, data, len(records), counts, counts + 1)
        if nbytes < 0:
            raise RingBufferError(f"the layout's records cannot be measured (status {nbytes})")
        spans, invalid = counts
        if spans:
            around = self.surrounding
            nbytes = _field_bytes(len(around.scope) + nbytes + len(around.scope_schema_url))
            nbytes = _field_bytes(len(around.resource) + nbytes + len(around.schema_url))
        return nbytes, spans, invalid

    def encode_json(self, records: np.ndarray, kept: Kept | None = None) -> Encoded:
        """Return the records as the JSON object of one `ResourceSpans`, without a newline.

        A line of a file is `{"resourceSpans":[`, such objects with commas between them, `]}` and a newline.

        Args:
            records: array of the layout's dtype, one dimension.
            kept: what is written of each, as they were sampled late.

        Raises:
            ValueError: the array's dtype is not the layout's.
        """
        return _as_bytes(self.encode_json_into, records, kept)

    def encode_into(self, records: np.ndarray, out: OutputBuffer, kept: Kept | None = None) -> tuple[int, int]:
        """Append what `encode` returns to `out`, without a copy; return the numbers of spans and of invalid records."""
        start, head_bytes = len(out), self._head_bytes
        out.reserve(head_bytes)
        out.grow(head_bytes)
        spans = invalid = 0
        for envelope, part, of_part in self._parts(records, kept):
            added, skipped = self._append_scope(envelope, part, of_part, out)
            spans, invalid = spans + added, invalid + skipped
        if not spans:
            out.clear(start)
            return spans, invalid
        out.put(self._schema_url_field)
        resource_spans = len(self._resource_field) + len(out) - start - head_bytes
        head = _RESOURCE_SPANS_TAG + _varint(resource_spans) + self._resource_field
        out.replace(start, head_bytes, head)
        self._head_bytes = len(head)  # of the next batch too, most likely: then nothing moves
        return spans, invalid

    def encode_json_into(self, records: np.ndarray, out: OutputBuffer, kept: Kept | None = None) -> tuple[int, int]:
        """Append what `encode_json` returns to `out`; return the numbers of spans and of invalid records."""
        start = len(out)
        out.put(self._json_head)
        spans = invalid = 0
        for envelope, part, of_part in self._parts(records, kept):
            at = len(out)
            out.put((b"," if spans else b"") + (envelope.json_head if envelope else b""))
            added, skipped = self._append(self._to_json(of_part), envelope, part, out, b",")
            if added and envelope:
                out.put(envelope.json_tail)
            else:
                out.clear(at)
            spans, invalid = spans + added, invalid + skipped
        if spans:
            out.put(self._json_tail)
        else:
            out.clear(start)
        return spans, invalid

    def _parts(
        self, records: np.ndarray, kept: Kept | None
    ) -> Iterable[tuple[_Envelope | None, np.ndarray, Kept | None]]:
        """Return the records of each scope with what surrounds them; None where no span can be made of them."""
        groups: dict[bytes | None, np.ndarray | slice] = {None: slice(None)}
        if self._scope_field is not None:
            groups = by_scope(_checked(records, self.layout), self._scope_field)
        for scope, part in groups.items():
            yield self._envelope_of(scope), records[part], kept and kept.of(part)

    def _envelope_of(self, scope: bytes | None) -> _Envelope | None:
        if scope not in self._envelopes:
            is_sound = scope is not TOO_LONG and lib.rb_otlp_is_sound(lib.RB_TYPE_SCOPE, scope, len(scope or b""))
            if len(self._envelopes) >= _MAX_ENVELOPES:  # of a ring with ever new ones
                self._envelopes = {None: self._envelope}
            self._envelopes[scope] = _Envelope(_scope_spans(self.layout, scope)) if is_sound else None
        return self._envelopes[scope]

    def _to_protobuf(self, kept: Kept | None) -> _Writing:
        if kept is None:
            return _Writing(partial(lib.rb_encode_protobuf, self.plan.c_plan), self.plan.protobuf_bound)
        encode = partial(lib.rb_encode_kept_protobuf, self.plan.c_plan, kept.table.c_kept)
        return _Writing(encode, self.plan.protobuf_bound + kept.table.protobuf_bound, kept.rows)

    def _to_json(self, kept: Kept | None) -> _Writing:
        if kept is None:
            return _Writing(partial(lib.rb_encode_json, self.plan.c_plan), self.plan.json_bound)
        encode = partial(lib.rb_encode_kept_json, self.plan.c_plan, kept.table.c_kept)
        return _Writing(encode, self.plan.json_bound + kept.table.json_bound, kept.rows)

    def _append_scope(
        self, envelope: _Envelope | None, records: np.ndarray, kept: Kept | None, out: OutputBuffer
    ) -> tuple[int, int]:
        """Append one `scope_spans` field, or nothing when no record is a span."""
        start, head_bytes = len(out), envelope.head_bytes if envelope else 0
        out.reserve(head_bytes)
        out.grow(head_bytes)
        spans, invalid = self._append(self._to_protobuf(kept), envelope, records, out)
        if not spans or envelope is None:
            out.clear(start)
            return spans, invalid
        out.put(envelope.schema_url_field)
        scope_spans = len(envelope.scope_field) + len(out) - start - head_bytes
        head = _SCOPE_SPANS_TAG + _varint(scope_spans) + envelope.scope_field
        out.replace(start, head_bytes, head)
        envelope.head_bytes = len(head)
        return spans, invalid

    def _append(
        self,
        writing: _Writing,
        envelope: _Envelope | None,
        records: np.ndarray,
        out: OutputBuffer,
        separator: bytes = b"",
    ) -> tuple[int, int]:
        if envelope is None:
            return 0, len(records)
        contiguous = np.ascontiguousarray(_checked(records, self.layout))
        # Not the array itself: numpy gives no buffer of fields that are out of order.
        data = ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8))
        beside = writing.beside(len(records))
        counts = ffi.new("uint64_t[2]")
        spans = invalid = 0
        while (taken := spans + invalid) < len(records):
            end = len(out)
            if spans:
                out.put(separator)
            # Most records take far less than their bound.
            room = max(writing.bound, min(writing.bound * (len(records) - taken), _PIECE_BYTES))
            at, start = out.reserve(room), data + taken * self.layout.slot_bytes
            written = writing.encode(*beside(taken), start, len(records) - taken, at, room, counts, counts + 1)
            if written < 0 or not any(counts):  # else this would go on for ever
                raise RingBufferError(f"the encoder takes no record (status {written})")
            if written:
                out.grow(written)
            else:  # only invalid records: nothing to separate
                out.clear(end)
            spans += counts[0]
            invalid += counts[1]
        return spans, invalid


class _Writing(NamedTuple):
    """How records are written.

    Attributes:
        encode: the function, given its plan.
        bound: of a record.
        rows: for each record, an argument before it.
    """

    encode: Callable[..., int]
    bound: int
    rows: np.ndarray | None = None

    def beside(self, count: int) -> Callable[[int], tuple[Any, ...]]:
        """Return the function from the index of a record to the arguments before it, of so many."""
        rows = self.rows
        if rows is None:
            return lambda _: ()
        if len(rows) != count:
            raise ValueError(f"{len(rows)} rows for {count} records")
        data = ffi.from_buffer("uint16_t[]", rows)
        return lambda taken: (data + taken,)


class _Envelope:
    """What surrounds the spans of one scope.

    Args:
        around: their message, without spans.
    """

    def __init__(self, around: ScopeSpans) -> None:
        self.scope_field = ScopeSpans(scope=around.scope).SerializeToString() if around.HasField("scope") else b""
        self.schema_url_field = ScopeSpans(schema_url=around.schema_url).SerializeToString()
        around.spans.append(Span())
        self.json_head, self.json_tail = _around(to_json(around), b"spans", Span())
        self.head_bytes = 0  # of the batch before


def _around(json: bytes, name: bytes, element: Message) -> tuple[bytes, bytes]:
    """Return what stands before and after the only element of a list.

    The name is found where it is meant: in a string its quotes would be escaped.
    """
    head, found, tail = json.partition(b'"' + name + b'":[' + to_json(element) + b"]")
    return head + b'"' + name + b'":[', found[-1:] + tail


def _as_bytes(
    encode_into: Callable[[np.ndarray, OutputBuffer, Kept | None], tuple[int, int]],
    records: np.ndarray,
    kept: Kept | None,
) -> Encoded:
    if not hasattr(_thread, "out"):
        _thread.out = OutputBuffer()
    _thread.out.clear()
    spans, invalid = encode_into(records, _thread.out, kept)
    return Encoded(bytes(_thread.out.view()), spans, invalid)


def _checked(records: np.ndarray, layout: SpanLayout) -> np.ndarray:
    if records.dtype != layout.dtype or records.ndim != 1:
        raise ValueError(f"records must be one dimension of the layout's dtype, not {records.ndim} of {records.dtype}")
    return records


def _resource(resource: Mapping[str, AttributeValue]) -> Resource:
    return Resource(attributes=_key_values(resource))


def _key_values(values: Mapping[str, AttributeValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in values.items()]


def _scope_spans(layout: SpanLayout, scope: bytes | None) -> ScopeSpans:
    """Return what surrounds the spans of a sound `scope`; None: of records without one."""
    if scope is not None:
        return ScopeSpans.FromString(scope)
    return ScopeSpans(
        scope=InstrumentationScope(name=layout.scope_name, version=layout.scope_version), schema_url=layout.schema_url
    )


def _span(record: bytes, layout: SpanLayout, root_threshold: int) -> tuple[Span, bytes | None]:
    """Return the span of a record, and its `scope`.

    Raises:
        ValueError: The record is invalid.
    """
    core = ffi.from_buffer("rb_record *", record)
    trace_id, span_id, parent_span_id = bytes(core.trace_id), bytes(core.span_id), bytes(core.parent_span_id)
    if lib.rb_record_check(core, len(layout.span_names)) != lib.RB_OK:
        raise ValueError("a core out of bounds")
    values = layout.values(record)
    carried: dict[str, Any] = {
        attribute.type: values.pop(attribute.key, None) for attribute in layout.attributes if attribute.row.is_carried
    }
    otlp, scope = carried.get("otlp") or b"", carried.get("scope")
    has = checked_fields("Span", otlp)
    if scope is not None:
        checked_fields("ScopeSpans", scope)
    span = Span.FromString(otlp)
    added = list(span.attributes)
    del span.attributes[:]
    span.trace_id, span.span_id, span.flags, span.kind = trace_id, span_id, core.flags, core.kind
    is_known = parent_span_id == _ZERO_SPAN_ID or bool(
        core.present & present_bits(len(layout.attributes)) & lib.RB_PRESENT_ROOT_THRESHOLD
    )
    if parent_span_id != _ZERO_SPAN_ID:
        span.parent_span_id = parent_span_id
    if root_threshold and is_known and not span.trace_state and core.flags & _KEPT_BY_SAMPLER == _KEPT_BY_SAMPLER:
        threshold = root_threshold - 1
        if randomness(trace_id) >= threshold:  # else it went by another sampler than the ring's
            span.trace_state = "ot=th:" + threshold_text(threshold)
    if _NAME_FIELD not in has:
        span.name = layout.span_names[core.name]
    span.start_time_unix_nano, span.end_time_unix_nano = core.start_unix_nano, core.end_unix_nano
    span.attributes.extend(KeyValue(key=key, value=_any_value(value)) for key, value in values.items())
    span.attributes.extend(added)
    if core.status:
        span.status.code = core.status
    return span, scope


def _any_value(value: AttributeValue | bytes) -> AnyValue:  # noqa: PLR0911 - one for each kind of AnyValue
    match value:
        case bool():  # before int, of which it is one
            return AnyValue(bool_value=value)
        case int() if value > _MAX_INT64:  # a u64 that OTLP's int64 cannot hold
            return AnyValue(string_value=str(value))
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case None:
            return AnyValue()
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=_key_values(value)))
        case _:
            return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))


def _field_bytes(nbytes: int) -> int:
    """Return what a field takes that has so many bytes behind a tag of one and its length."""
    return 1 + len(_varint(nbytes)) + nbytes


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= _MORE:
        digits.append(value & _MORE - 1 | _MORE)
        value >>= 7
    digits.append(value)
    return bytes(digits)
