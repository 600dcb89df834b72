"""`ringbuf stat`: all that one ring says of itself."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import typer

from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.encoder import Encoder
from drain.tools.list_rings import describe
from drain.tools.looking.late_sampling import picture_in
from drain.tools.looking.observed_ring import COUNTERS, OUTCOMES, ObservedRing
from drain.tools.looking.ring_selection import (
    JsonOption,
    RingArgument,
    RingDirOption,
    drain_of,
    select_one,
)
from drain.tools.looking.span_text import age, json_text, moment, printable
from drain.tools.looking.table import Column, bar, has_colour, percent, write_table
from ringbuf.exceptions import LayoutError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.sampling.hold.picture import Picture
    from ringbuf.layout.layout import SpanLayout
    from ringbuf.ring.resource import AttributeValue

_POSITIONS: Final = 1 << 64
_MOST_LABELS: Final = 6


def stat_ring(
    ring: RingArgument,
    ring_dir: RingDirOption,
    as_json: JsonOption = False,
) -> None:
    """Show one ring: geometry, layout, resource, counters of each lane."""
    path = select_one(ring_dir, ring)
    with ObservedRing(path) as observed:
        entry = _all_of(observed, drain_of(path.parent) is not None, picture_in(path.parent))
    if as_json:
        typer.echo(json_text(entry))
    else:
        _write(entry)


def _all_of(ring: ObservedRing, is_served: bool, picture: Picture | None) -> dict[str, Any]:
    header = ring.header
    sums = ring.sums()
    return describe(ring, is_served, picture) | {
        "path": str(ring.path),
        "abi": f"{header.abi_major}.{header.abi_minor}",
        "boot_id": str(uuid.UUID(bytes=bytes(header.boot_id))),
        "file_bytes": int(header.file_bytes),
        "header_bytes": int(header.header_bytes),
        "slot_bytes": int(header.slot_bytes),
        "lane_stride_bytes": int(header.lane_stride_bytes),
        "first_position": int(header.first_position),
        "resource": ring.resource,
        "layout_json": json.loads(ring.layout.to_json()),
        "gzip": gzip_of(ring.layout, ring.resource),
        "outcomes": {name: getattr(sums, name) for name in OUTCOMES},
        "lane_counters": [
            {
                "tail": int(view.tail),
                "head": int(view.released),
                "pending": int(view.tail - view.released) % _POSITIONS,
                "closed": bool(view.closed),
                **{name: int(getattr(view, name)) for name in COUNTERS},
            }
            for view in ring.views
        ],
    }


def gzip_of(layout: SpanLayout, resource: Mapping[str, AttributeValue]) -> str:
    """Return how a drain that sends gzip makes it of such records, for people."""
    if not DirectGzip.is_supported():
        return "after encoding: this processor has no carry-less product"
    try:
        refusal = DirectGzip().refusal(Encoder(layout, resource))
    except LayoutError as error:
        refusal = str(error)
    return "straight from records" if refusal is None else f"after encoding: {refusal}"


def _write(entry: dict[str, Any]) -> None:
    made = entry["created_unix_nano"]
    # The users of this are people who look for one word: a title, then `word  value` under it.
    _section(
        "ring",
        {
            "file": entry["path"],
            "service": entry["service"],
            "producer": f"pid {entry['pid']} {entry['process']}".strip() + f" of {entry['user']}, {entry['state']}",
            "made": f"{moment(made)} ({age(time.time_ns() - made)} ago)",
            "drain": entry["drain"],
            "format": f"version {entry['abi']}, boot {entry['boot_id']}",
            "lanes": f"{entry['lanes']}, each of {entry['capacity_slots']:,} slots of {entry['slot_bytes']} bytes",
            "size": f"{entry['file_bytes']:,} bytes",
        },
    )
    pending, published = entry["pending"], entry["published"]
    _section(
        "spans",
        {
            "published": f"{published:,}",
            "pending": f"{pending:,}  {bar(entry['fill'])} {percent(entry['fill'])} of the fullest lane",
            **({} if entry["held"] is None else {"held": f"{entry['held']:,} wait for late sampling"}),
            **{name.replace("_", "-"): f"{count:,}" for name, count in entry["outcomes"].items()},
        },
    )
    _section(
        "not written",
        {
            **{name: f"{count:,}" for name, count in entry["dropped"].items()},
            "truncated": f"{counted(entry['truncated'], 'value')} cut",
            "invalid": f"{counted(entry['invalid_values'], 'value')} left out",
        },
    )
    _section("resource", {key: str(value) for key, value in entry["resource"].items()})
    layout = entry["layout_json"]
    _section(
        "layout",
        {
            "scope": entry["layout"] or "-",
            "schema": layout["schema_url"] or "-",
            "names": _some(layout["span_names"]),
            "gzip": entry["gzip"],
        },
    )
    rows = [
        [
            printable(field["key"], 64),
            field["type"],
            str(field["offset"]),
            str(field["bytes"]),
            _some(field["labels"]) if "labels" in field else "",
        ]
        for field in layout["attributes"]
    ]
    columns = (
        Column("attribute", is_text=True),
        Column("type", is_text=True),
        Column("offset"),
        Column("bytes"),
        Column("labels", 1, is_text=True),
    )
    write_table(columns, rows)
    typer.echo()
    lanes = entry["lane_counters"]
    names = [name for name in lanes[0] if name in ("tail", "head", "pending") or any(lane[name] for lane in lanes)]
    rows = [[str(at), *(_cell(lane[name]) for name in names)] for at, lane in enumerate(lanes)]
    write_table([Column("lane"), *(Column(name.replace("_", "-"), at // 3) for at, name in enumerate(names))], rows)


def _section(title: str, words: dict[str, str]) -> None:
    typer.echo(typer.style(title, bold=True) if has_colour() else title)
    width = max(map(len, words), default=0)
    for word, value in words.items():
        typer.echo(f"  {printable(word).ljust(width)}  {printable(value)}")
    typer.echo()


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_LABELS
    shown = ", ".join(printable(name, 48) for name in names[:_MOST_LABELS])
    return f"{shown}, and {more} more" if more > 0 else shown


def _cell(value: object) -> str:
    return "yes" if value is True else "no" if value is False else f"{value:,}"
