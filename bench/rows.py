"""The rows of the benchmark: what is measured, beside whom, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.build import HERE, Build

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPAN: Final = "sdk.start_span"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        group: rows that belong together; also a choice of the command line.
        title: what is measured.
        ours: the probe.
        peer: the probe that stands against it.
        peer_title: who that is.
        aim: what the ratio should reach, in words; empty where there is no aim.
        figure: which of our figures the row shows.
        peer_figure: which of the peer's.
        is_pinned: whether both run on one processor; not where other threads or processes take part.
        is_limit: the ratio is ours / peer (how far from the machine's limit), else peer / ours (how much cheaper).
        peer_build: whose ringbuf the peer's probe runs.
    """

    group: str
    title: str
    ours: str
    peer: str
    peer_title: str
    aim: str = ""
    figure: str = "ns"
    peer_figure: str = "ns"
    is_pinned: bool = True
    is_limit: bool = False
    peer_build: Build = HERE

    @property
    def title_beside_peer(self) -> str:
        """By a part of this a row is asked for."""
        return f"{self.title} / {self.peer_title}"


def beside(rows: Iterable[Row], build: Build) -> list[Row]:
    """Return rows with the same probe of another build in the peer's place, each of our figures once."""
    mine: dict[tuple[str, str], Row] = {}
    for row in rows:
        mine.setdefault((row.ours, row.figure), row)
    return [
        replace(
            row,
            peer=row.ours,
            peer_title=f"at {build.name}",
            aim="",
            peer_figure=row.figure,
            is_limit=False,
            peer_build=build,
        )
        for row in mine.values()
    ]


_START: Final = "SDK start_span + end"
_WITH: Final = "SDK start_as_current_span"
_EXTRACT: Final = "SDK extract + start_span"

ROWS: Final = (
    Row("python", "site.emit, times given", "ringbuf.site_emit", _SPAN, _START, ">= 100"),
    Row("python", "site.emit, two clock readings", "ringbuf.site_emit_clocked", _SPAN, _START, ">= 60"),
    Row("python", "with site.span", "ringbuf.site_span", "sdk.start_as_current_span", _WITH, ">= 35"),
    Row(
        "python",
        "emit_dataplane_span_from_traceparent",
        "ringbuf.emit_dataplane_span_from_traceparent",
        "sdk.extract_and_start_span",
        _EXTRACT,
        ">= 50",
    ),
    Row("python", "emit_dataplane_span", "ringbuf.emit_dataplane_span", _SPAN, _START),
    Row(
        "python",
        "Site.emit of any layout, the same values",
        "ringbuf.generic_site_emit",
        "ringbuf.site_emit",
        "site.emit of Phase 219",
        "<= 1.3",
        is_limit=True,
    ),
    Row("python", "Emitter.emit(record)", "ringbuf.emit_record", _SPAN, _START),
    Row(
        "python",
        "site.emit, the SDK's worker thread left out",
        "ringbuf.site_emit",
        _SPAN,
        "SDK, calling thread alone",
        peer_figure="caller_ns",
    ),
    Row(
        "batch",
        "emit_batch, per record",
        "ringbuf.emit_batch",
        "numpy.memcpy",
        "memcpy of the same bytes",
        "<= 1.5",
        is_limit=True,
    ),
    Row(
        "native",
        "rb_lane_emit, held lane",
        "native.held",
        "native.memcpy",
        "memcpy of 128 bytes",
        "<= 2",
        is_limit=True,
    ),
    Row("native", "rb_emit", "native.emit", "native.memcpy", "memcpy of 128 bytes", is_limit=True),
    Row("native", "rb_emit", "native.emit", "lttng.tracepoint", "LTTng-UST tracepoint, 96 bytes", ">= 10"),
    Row(
        "native",
        "rb_emit_batch, per record",
        "native.batch",
        "native.batch_memcpy",
        "memcpy of the same bytes",
        "<= 1.5",
        is_limit=True,
    ),
    Row(
        "native",
        "rb_span_begin, rb_emit (ids made)",
        "native.begun",
        "native.memcpy",
        "memcpy of 128 bytes",
        is_limit=True,
    ),
    Row(
        "native",
        "ids, two clock readings, rb_emit",
        "native.clocked",
        "native.memcpy",
        "memcpy of 128 bytes",
        is_limit=True,
    ),
    Row(
        "consumer",
        "rb_emit, a thread takes without pause",
        "native.emit_beside_consumer",
        "native.emit",
        "rb_emit, nobody takes",
        is_pinned=False,
        is_limit=True,
    ),
    Row(
        "consumer",
        "site.emit, a process takes each ms",
        "ringbuf.site_emit_beside_consumer",
        "ringbuf.site_emit",
        "site.emit, nobody takes",
        is_pinned=False,
        is_limit=True,
    ),
    Row(
        "consumer",
        "site.emit, a process takes without pause",
        "ringbuf.site_emit_beside_spinning_consumer",
        "ringbuf.site_emit",
        "site.emit, nobody takes",
        is_pinned=False,
        is_limit=True,
    ),
    *(
        Row(
            "busy",
            f"site.emit beside a busy thread, {figure}",
            "ringbuf.site_emit_beside_busy_thread",
            peer,
            title,
            aim if peer.startswith("sdk") else "",
            figure,
            figure,
            is_pinned=False,
        )
        for figure, aim in (("p50", ""), ("p99", "<= 1 µs"))
        for peer, title in (
            ("sdk.start_span_beside_busy_thread", _START),
            ("cffi.stock_call_beside_busy_thread", "an empty cffi call that gives the GIL up"),
        )
    ),
    *(
        Row(
            "threads",
            f"site.emit, {count} thread{'s' if count > 1 else ''}",
            f"ringbuf.site_emit_{count}_threads",
            f"sdk.start_span_{count}_threads",
            _START,
            is_pinned=False,
        )
        for count in (1, 2, 4, 16)
    ),
)
