"""Hypothesis strategies: finished spans of the OpenTelemetry SDK."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
times = st.integers(0, 2**63 - 1)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text | st.binary(max_size=8)
values = st.recursive(
    st.none() | scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
keys = text.filter(bool)  # the SDK drops an empty one
long_text = st.integers(0, 200).map("x".__mul__)
attributes = st.dictionaries(keys, values | long_text, max_size=5)
RESOURCE = Resource({"service.name": "shop", "shop.tills": 3, "shop.open": True}, "https://schema/resource")
# What a key and a value of W3C's tracestate may be, shortened.
_entries = st.tuples(
    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), st.from_regex(r"[!-+\--<>-~]{1,6}", fullmatch=True)
)
trace_states = st.lists(_entries, max_size=3).map(TraceState)


def contexts(*, is_remote: st.SearchStrategy[bool], sampled: bool = False) -> st.SearchStrategy[SpanContext]:
    """Return valid span contexts."""
    return st.builds(
        SpanContext,
        trace_id=st.integers(1, 2**128 - 1),
        span_id=st.integers(1, 2**64 - 1),
        is_remote=is_remote,
        trace_flags=st.sampled_from([1, 3] if sampled else [0, 1, 2, 3]).map(TraceFlags),
        trace_state=trace_states,
    )


scopes = st.builds(
    InstrumentationScope,
    name=text,
    version=st.none() | text,
    schema_url=st.none() | text,
    attributes=st.none() | st.dictionaries(keys, scalars, max_size=3),
)
events = st.builds(Event, name=text, attributes=attributes, timestamp=times)
links = st.builds(Link, context=contexts(is_remote=st.booleans()), attributes=attributes)
statuses = st.sampled_from([Status(StatusCode.UNSET), Status(StatusCode.OK)]) | st.builds(
    Status, st.just(StatusCode.ERROR), st.none() | text
)


def spans(scope: st.SearchStrategy[Any] = scopes) -> st.SearchStrategy[ReadableSpan]:
    """Return sampled spans of any shape, all with one resource."""
    return st.builds(
        ReadableSpan,
        name=text,
        context=contexts(is_remote=st.just(False), sampled=True),
        parent=st.none() | contexts(is_remote=st.booleans()),
        resource=st.just(RESOURCE),
        attributes=attributes,
        events=st.lists(events, max_size=3),
        links=st.lists(links, max_size=3),
        kind=st.sampled_from(SpanKind),
        status=statuses,
        start_time=times,
        end_time=times,
        instrumentation_scope=st.none() | scope,
    )
