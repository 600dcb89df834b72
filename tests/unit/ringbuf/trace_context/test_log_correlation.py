"""Log lines know the span that they were written in."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import threading
from typing import TYPE_CHECKING

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import ringbuf
from ringbuf._site import set_outer_context
from ringbuf.log_correlation import LoggedContext, TraceContextFilter, add_trace_context, current_trace_context
from ringbuf.otel import nest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ringbuf.sites.site import Site


@pytest.fixture
def get(ring_dir: Path) -> Iterator[Site]:
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
    emitter = ringbuf.Emitter("kv", ring_dir=ring_dir, layout=layout, capacity=16)
    yield emitter.site("get")
    emitter.close()


def ids_of(span: object) -> tuple[str, ...]:
    return tuple(span.traceparent.split("-")[1:])  # type: ignore[attr-defined]  # of a site's span


def test_the_current_span_is_the_innermost(get: Site) -> None:
    assert current_trace_context() is None
    with get.span() as outer:
        with get.span() as inner:
            assert current_trace_context() == ids_of(inner)
        assert current_trace_context() == ids_of(outer)
    assert current_trace_context() is None


def test_a_record_has_the_ids_and_outside_of_a_span_they_are_empty(get: Site) -> None:
    lines = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"trace": {"()": "ringbuf.log_correlation.TraceContextFilter"}},
            "formatters": {"line": {"format": "%(message)s %(trace_id)s-%(span_id)s-%(trace_flags)s"}},
            "handlers": {
                "lines": {
                    "class": "logging.StreamHandler",
                    "stream": lines,
                    "filters": ["trace"],
                    "formatter": "line",
                }
            },
            "loggers": {"shop": {"handlers": ["lines"], "level": "INFO"}},
        }
    )
    logger = logging.getLogger("shop.till")
    try:
        logger.info("outside")
        with get.span() as span:
            logger.info("inside")
            thread = threading.Thread(target=logger.info, args=("elsewhere",))
            thread.start()
            thread.join()
    finally:
        logging.getLogger("shop").handlers.clear()
    assert lines.getvalue().splitlines() == ["outside --", f"inside {'-'.join(ids_of(span))}", "elsewhere --"]


def test_a_structlog_event_has_the_ids_and_keeps_its_own(get: Site) -> None:
    lines = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(lines), processors=[add_trace_context, structlog.processors.JSONRenderer()]
    )
    logger.info("outside")
    with get.span() as span:
        logger.info("inside")
        logger.info("given", trace_id="of the caller")
    outside, inside, given = map(json.loads, lines.getvalue().splitlines())
    assert outside == {"event": "outside"}
    assert inside == {"event": "inside", **LoggedContext(*ids_of(span))._asdict()}
    assert (given["trace_id"], given["span_id"]) == ("of the caller", ids_of(span)[1])


def test_an_opentelemetry_span_is_found_where_both_kinds_nest() -> None:
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    nest()
    try:
        with trace.use_span(NonRecordingSpan(context)):
            record = logging.makeLogRecord({})
            assert TraceContextFilter().filter(record)
            assert current_trace_context() == (f"{0xABC:032x}", f"{0xDEF:016x}", "01")
            assert record.__dict__["span_id"] == f"{0xDEF:016x}"
    finally:
        set_outer_context(None, None, None)
