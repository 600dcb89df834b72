"""What a metric of the drain is, and what there is to read at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from drain.accounting.exemplars import Exemplar
    from drain.accounting.export_state import ExportState
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.snapshot import Snapshot
    from drain.accounting.span_metrics import SpanMetrics
    from drain.accounting.spool_status import SpoolStatus


_NAMESPACES: Final = ("ringbuf_drain_", "ringbuf_span_")
_UNIT_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}


@dataclass(frozen=True, slots=True)
class MetricExports:
    """What came of the exports of metrics by OTLP.

    Attributes:
        delivered: exports whose every request the receiver acknowledged.
        failed: the others.
        points_rejected: data points that it did not take of requests that it acknowledged.
    """

    delivered: int = 0
    failed: int = 0
    points_rejected: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a scrape or an export tells, read once.

    Attributes:
        snapshot: of the loop.
        snapshot_age: seconds.
        exports: of the exporter.
        spans: None where span metrics are off.
        spool: None where there is none.
        spool_capacity_bytes: bound of `spool.file_bytes`.
        dead_letters: None where there are none.
        seconds_until_attempt: at the backend.
        stalled_seconds: since the loop last went round.
        threads_ended: that were to go on.
        connections_refused: by the listener, for want of room.
        log_lines_dropped: that nobody could be told.
        metric_exports: by OTLP; None where there are none.
    """

    snapshot: Snapshot
    snapshot_age: float
    exports: ExportState
    spans: SpanMetrics | None
    spool: SpoolStatus | None
    spool_capacity_bytes: int
    dead_letters: LetterStatus | None
    seconds_until_attempt: float
    stalled_seconds: float
    threads_ended: int
    connections_refused: int
    log_lines_dropped: int
    metric_exports: MetricExports | None = None


class Distribution(NamedTuple):
    """What a histogram shows for one set of labels.

    Attributes:
        labels: name and value.
        bounds: upper bounds of the buckets.
        counts: by bucket, not cumulative; the last is beyond all bounds.
        total: sum of what was counted.
        keys: of labels that stand for an attribute: its key.
        exponential: counts by bucket of `exponential_buckets`, of those that have any; None where they are not counted.
        exemplars: of some of the buckets.
    """

    labels: Mapping[str, str]
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    keys: Mapping[str, str] = MappingProxyType({})
    exponential: Mapping[int, int] | None = None
    exemplars: Sequence[Exemplar] = ()


Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of the metric's labels, and the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table.

    Attributes:
        name: as it is exposed; of a histogram, without `_bucket`, `_count` and `_sum`.
        kind: its Prometheus type.
        labels: names; "…" stands for those that the layouts of the rings add.
        help: what it counts, one line.
        read: gives the values, or a histogram's distributions. A counter counts from 0 since the drain's start.
        unit: in UCUM, with words in braces for what is counted, as OTLP has it; empty: it has none.
        is_of_service: it tells of the spans of the service in its label, and not of the drain.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Callable[[Reading], Values] | Callable[[Reading], Iterable[Distribution]]
    unit: str
    is_of_service: bool = False

    @property
    def otlp_name(self) -> str:
        """The name by OTLP: without the unit, which is beside it, so that translators to Prometheus make `name` again.

        >>> Metric("ringbuf_drain_export_bytes_total", "counter", (), "", lambda _: [], "By").otlp_name
        'ringbuf.drain.export'
        """
        name = self.name.removesuffix("_total").removesuffix(_UNIT_SUFFIXES.get(self.unit, ""))
        for namespace in _NAMESPACES:
            name = name.replace(namespace, namespace.replace("_", "."))
        return name
