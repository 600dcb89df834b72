"""A user's program, for type checkers: what is right, and what is wrong, where each line must be an error.

`mypy --strict` of `make check` reads it, and finds an `ignore` that is of no use where a wrong call is taken;
test_types.py has pyright do the same.
"""

from __future__ import annotations

import time

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from ringbuf.sites.span import Parent
from ringbuf.testing import InMemoryEmitter

LAYOUT = ringbuf.SpanLayout(
    span_names=["kv.get"],
    attributes=[
        ringbuf.Attribute("kv.bytes", "u64"),
        ringbuf.Attribute("kv.outcome", "label", labels=["hit", "corrupt"], error_labels=["corrupt"]),
    ],
    record_errors=True,
)


def right() -> None:
    """Call everything as the documentation does."""
    emitter: ringbuf.Emitter = ringbuf.configure("kv", layout=LAYOUT, capacity=1024)
    get: ringbuf.Site = emitter.site(
        "kv.get", kind=ringbuf.SpanKind.SERVER, constants={"kv.outcome": "hit"}, varying=["kv.bytes"]
    )
    written: bool = get.emit(time.time_ns(), None, 512, status=ringbuf.Status.ERROR)
    get.emit_under(ringbuf.current_traceparent(), 1, 2, 3.5, "text", b"bytes", written, None)
    with get.span(512, traceparent=None) as span:
        span["kv.bytes"] = 4096
        span.status = ringbuf.Status.OK
        span.set_status(ringbuf.Status.ERROR, "no")
        span.add_event("miss", {"tier": "ram"}, timestamp=1)
        span.add_link(span.traceparent)
        header: str = span.traceparent
    with ringbuf.use_span(ringbuf.current_span()):
        read = site(OpType.FBMU_READ, kind=ringbuf.SpanKind.SERVER, emitter=emitter)
    read.emit(LeaseId(7), 1, 2, 4096, Outcome.HIT)
    read.span(LeaseId(7), traceparent=Parent(bytes(16), bytes(8), 1))
    with read.span(LeaseId(7), traceparent=header) as dataplane_span:
        dataplane_span.outcome = Outcome.MISS

    @get.wrap
    def traced(key: str) -> int:
        return len(key)

    length: int = ringbuf.bind_context(traced)("key")
    with InMemoryEmitter(layout=LAYOUT) as memory:
        name: str = memory.finished_spans()[length]["name"]
        memory.site(name)


def wrong() -> None:
    """Call everything as nobody should."""
    ringbuf.configure("kv", capacty=1024)  # type: ignore[call-arg]
    ringbuf.Emitter("kv", capacity="many")  # type: ignore[arg-type]
    emitter = ringbuf.get_emitter()
    emitter.site("kv.get", kind="server")  # type: ignore[arg-type]
    emitter.site("kv.get", varying=7)  # type: ignore[arg-type]
    get = emitter.site("kv.get")
    get.emit("now")  # type: ignore[arg-type]
    get.emit(1, 2, object())  # type: ignore[arg-type]
    get.emit(1, 2, status="error")  # type: ignore[arg-type]
    get.emit(1, 2, statsu=ringbuf.Status.OK)  # type: ignore[call-arg]
    get.span([512])  # type: ignore[arg-type]
    with get.span() as span:
        span["kv.bytes"] = [512]  # type: ignore[assignment]
        span.status = "error"  # type: ignore[assignment]
        span.set_status("error")  # type: ignore[arg-type]
        span.add_event("miss", {1: 2}, "now")  # type: ignore[dict-item, arg-type]
        span.add_link(7)  # type: ignore[arg-type]
        span.outcome = Outcome.OK  # type: ignore[attr-defined]
    site(OpType.FBMU_READ, kind="server")  # type: ignore[arg-type]
    ringbuf.use_span(span.traceparent)  # type: ignore[arg-type]
    site(OpType.FBMU_READ).emit(7, 1, 2)  # type: ignore[arg-type]
    site(OpType.FBMU_READ).span()  # type: ignore[call-arg]

    @get.wrap
    def traced(key: str) -> int:
        return len(key)

    traced(7)  # type: ignore[arg-type]
    get.wrap(7)  # type: ignore[arg-type]
