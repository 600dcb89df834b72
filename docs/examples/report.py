"""Reads the delivered spans back, does the sums, prints them: with colours on a terminal, as plain text elsewhere."""

from __future__ import annotations

import json
import sys
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ringbuf import EmitterStats

Line = tuple[str, ...]


@dataclass
class ReadBack:
    """What a file of OTLP JSON lines holds.

    Attributes:
        span_ids: each span's id, as often as it is there.
        by_service: how many spans each service has.
        durations: nanoseconds by family, operation and outcome.
        shown_trace: id of a trace that crosses processes, None when there is none.
    """

    span_ids: array[int] = field(default_factory=lambda: array("Q"))
    by_service: Counter[str] = field(default_factory=Counter)
    durations: dict[tuple[str, str, str], array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    shown_trace: str | None = None

    @property
    def repeated(self) -> int:
        """How many spans are there a second time."""
        return len(self.span_ids) - len(np.unique(np.frombuffer(self.span_ids, "u8")))


class Sums(NamedTuple):
    """The conservation law over all processes: `emitted` is the sum of the others.

    Attributes:
        emitted: calls of any door.
        delivered: spans that have arrived.
        dropped: spans that a producer, the drain or the backend gave up.
        unsampled: spans that the sampler did not want.
        pending: spans that are still in a ring.
    """

    emitted: int
    delivered: int
    dropped: int
    unsampled: int
    pending: int

    @property
    def difference(self) -> int:
        """Spans of which nobody knows what became: 0."""
        return self.emitted - self.delivered - self.dropped - self.unsampled - self.pending

    def __str__(self) -> str:
        unsampled = f" + unsampled {self.unsampled:,}" if self.unsampled else ""
        return (
            f"emitted {self.emitted:,} = delivered {self.delivered:,} + dropped {self.dropped:,}{unsampled} "
            f"+ pending {self.pending:,}"
        )


def attributes_of(span: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a span of OTLP JSON."""
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


def read_back(path: Path) -> ReadBack:
    """Read a file of OTLP JSON lines."""
    found = ReadBack()
    for service, span in spans_in(path):
        found.by_service[service] += 1
        found.span_ids.append(int(span["spanId"], 16))
        attributes = attributes_of(span)
        key = (span["name"], attributes["grafos.operation"], attributes["grafos.outcome"])
        found.durations[key].append(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]))
        if found.shown_trace is None and attributes["grafos.operation"] == "fbbu_flush":
            found.shown_trace = span["traceId"]
    return found


def sums_of(producers: Iterable[EmitterStats], audit: Mapping[str, int], arrived: int) -> Sums:
    """Add up what producers and drain say, and what has arrived.

    Args:
        producers: the last statistics of each.
        audit: the drain's audit, added up over services.
        arrived: spans in the file; at a backend elsewhere, what the drain says was delivered.
    """
    counts = list(producers)
    given_up = ("rejected", "dead_lettered", "invalid", "quarantined")
    return Sums(
        emitted=sum(count.attempts for count in counts),
        delivered=arrived,
        dropped=sum(count.full + count.contended + count.local for count in counts)
        + sum(audit.get(name, 0) for name in given_up),
        unsampled=sum(count.unsampled for count in counts),
        pending=audit.get("pending", 0) + audit.get("spooled", 0),
    )


def problems(sums: Sums, producers: Iterable[EmitterStats], audit: Mapping[str, int], found: ReadBack | None) -> Line:
    """Return what does not add up, in words; nothing when all does."""
    published = sum(count.published for count in producers)
    checks = [
        (sums.difference == 0, f"spans that are unaccounted for: {sums.difference:,}"),
        (audit.get("published", 0) == published, f"the rings had {audit.get('published', 0):,} spans of {published:,}"),
        (sums.delivered > 0 or sums.emitted == 0, "no span was delivered"),
    ]
    if found is not None:
        delivered = audit.get("delivered", 0)
        checks += [
            (found.repeated == 0, f"spans that are in the file twice: {found.repeated:,}"),
            (delivered == sums.delivered, f"the drain delivered {delivered:,} spans, the file has {sums.delivered:,}"),
        ]
    return tuple(words for is_right, words in checks if not is_right)


def print_durations(found: ReadBack) -> None:
    """Print the table by family, operation and outcome."""
    head = ("family", "operation", "outcome", "count", "p50 µs", "p99 µs", "max µs")
    rows = []
    for (name, operation, outcome), durations in sorted(found.durations.items()):
        p50, p99, largest = np.percentile(np.frombuffer(durations, "i8"), [50, 99, 100]) / 1000
        family = name.removeprefix("grafos.dataplane.")
        rows.append((family, operation, outcome, f"{len(durations):,}", *map(_micros, (p50, p99, largest))))
    print_table("Spans by family, operation and outcome", head, rows, left=3)


def print_services(services: Mapping[str, Mapping[str, int]]) -> None:
    """Print the drain's audit: what became of each service's spans."""
    head = ("service", "published", "delivered", "pending")
    rows = [(service, *(f"{sums.get(name, 0):,}" for name in head[1:])) for service, sums in services.items()]
    print_table("Spans by service", head, rows, left=1)


def print_trace(path: Path, trace_id: str) -> None:
    """Print the spans of one trace as a tree, each with its service."""
    spans = [(service, span) for service, span in spans_in(path, containing=trace_id) if span["traceId"] == trace_id]
    children = defaultdict(list)
    for service, span in sorted(spans, key=lambda entry: int(entry[1]["startTimeUnixNano"])):
        children[span.get("parentSpanId", "")].append((service, span))
    print(f"\nOne trace across processes, {trace_id}:")

    def show(parent: str, depth: int) -> None:
        for service, span in children[parent]:
            attributes = attributes_of(span)
            micros = _micros((int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1000)
            label = f"{'  ' * depth}{attributes['grafos.operation']} {attributes['grafos.outcome']}"
            print(f"  {label:<32} {micros:>8} µs  {service}")
            show(span["spanId"], depth + 1)

    show("", 0)


def print_table(title: str, head: Line, rows: Sequence[Line], *, left: int) -> None:
    """Print a table whose first `left` columns hold words, the others numbers."""
    if sys.stdout.isatty():
        table = Table(title=title, box=SIMPLE_HEAD, padding=0)
        for at, name in enumerate(head):
            table.add_column(name, justify="left" if at < left else "right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for row in (head, *rows):
        cells = (
            text.ljust(width) if at < left else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def _micros(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - no more digits than tell something


def spans_in(path: Path, containing: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each span with its service's name."""
    with path.open() as lines:
        for line in lines:
            if containing not in line:
                continue
            for resource_spans in json.loads(line)["resourceSpans"]:
                resource = {item["key"]: item["value"] for item in resource_spans["resource"]["attributes"]}
                service = resource["service.name"]["stringValue"]
                for scope_spans in resource_spans["scopeSpans"]:
                    for span in scope_spans["spans"]:
                        yield service, span
