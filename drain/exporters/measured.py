"""An exporter that is measured: attempts, what came of them, how long they took, and whether the backend takes any."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from drain.accounting.exponential_buckets import bucket
from drain.accounting.export_state import LATENCY_BOUNDS, ExportState
from drain.exporters.protocol import (
    Balanced,
    Brokered,
    Renewable,
    Verdict,
    group_exporter,
    most_together_of,
    partitioner_of,
    sends_gzip,
)
from drain.otlp.gzip_writers import WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drain.exporters.protocol import Exporter, Partitioner, Result
    from drain.otlp.request import Encoding, Request

ANY_BYTES: Final = 1 << 62
_NANO: Final = 1_000_000_000


class MeasuredExporter:
    """Passes requests on to an exporter and keeps count.

    Args:
        exporter: does the work.
        clock: seconds that never go back.

    Attributes:
        when_gone: called by a thread that finds the reader gone (`Result.reader_is_gone`), each time.
        has_more: says whether anything waits to be sent: what failed may have been given up.
    """

    def __init__(self, exporter: Exporter, clock: Callable[[], float] = time.monotonic) -> None:
        self.when_gone: Callable[[], None] = lambda: None
        self.has_more: Callable[[], bool] = lambda: True
        self.encoding: Encoding = exporter.encoding
        self.endpoint = exporter.endpoint
        self._exporter: Exporter | None = exporter  # None while one is left for another that cannot be beside it
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside: dict[Exporter, int] = {exporter: 0}  # attempts that run
        self._attempts = dict.fromkeys(Verdict, 0)
        self._latency_counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self._latency_exponential: Counter[int] = Counter()
        self._latency_seconds = 0.0
        self._encoded_bytes = 0
        self._sent_bytes = 0
        self._values_left_out = 0
        self._gzip_spans: Counter[str] = Counter()
        self._running = 0
        self._failing_since: float | None = None
        self._failing_until: float | None = None  # None: now, since what failed is sent again
        self._failure = ""

    @property
    def most_together(self) -> int:
        """How many requests one call may be given: as many as the exporter takes, or one."""
        exporter = self._exporter
        return most_together_of(exporter)

    def export(self, request: Request) -> Result:
        """Make one attempt; see `drain.exporters.protocol.Exporter`."""
        (result,) = self.export_together((request,))
        return result

    def export_together(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Make one attempt for each; see `drain.exporters.protocol.GroupExporter`."""
        with self._changed:
            while (exporter := self._exporter) is None:
                self._changed.wait()
            self._running += 1
            self._inside[exporter] += 1
        started = self._clock()
        results: Sequence[Result] = ()
        try:
            together = group_exporter(exporter)
            if together is not None:
                results = together.export_together(requests)
            else:  # several only where it has come in the place of one that takes them
                results = [exporter.export(request) for request in requests]
        finally:
            self._ended(started, requests, results, exporter)
        if any(result.reader_is_gone for result in results):
            self.when_gone()
        return results

    @property
    def most_bytes(self) -> int:
        """The largest body that the exporter's destination takes, where it has told."""
        most: int = getattr(self._exporter, "most_bytes", ANY_BYTES)  # asked in each round, as the partitioner is
        return most

    @property
    def sends_gzip(self) -> bool:
        """Whether the exporter sends requests as `Request.gzip` has them."""
        return sends_gzip(self._exporter)

    @property
    def partitioner(self) -> Partitioner | None:
        """What sorts spans by destination, if the exporter has several."""
        return partitioner_of(self._exporter)

    def renew(self) -> None:
        """Let the exporter leave its files and connections for new ones, if it has any."""
        if isinstance(self._exporter, Renewable):
            self._exporter.renew()

    def replace(self, make: Callable[[], Exporter], *, is_alone: bool) -> None:
        """Leave the exporter for another, without ending an attempt of it; returns when those that ran have ended.

        Args:
            make: returns the other one.
            is_alone: the two cannot be open at the same time, so that attempts wait in between.

        Raises:
            ValueError: of `make`; everything stays as it is.
            OSError: the exporter cannot be closed before the other is made; everything stays as it is.
        """
        with self._changed:
            old = self._exporter
            assert old is not None  # noqa: S101 - for the type checker: one thread replaces
            if is_alone:
                self._exporter = None
                self._changed.wait_for(lambda: not self._inside[old])
        new = old
        try:
            if is_alone:
                old.close()
            new = make()
        finally:
            with self._changed:
                self._exporter = new
                self._inside.setdefault(new, 0)
                self.endpoint = new.endpoint
                self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: not self._inside[old])
            del self._inside[old]
        old.close()

    def close(self) -> None:
        """Close the exporter."""
        if self._exporter is not None:
            self._exporter.close()

    def state(self) -> ExportState:
        """Return what came of the attempts so far."""
        exporter = self._exporter
        brokers = exporter.broker_state() if isinstance(exporter, Brokered) else None
        endpoints = exporter.endpoint_states() if isinstance(exporter, Balanced) else ()
        has_more = self.has_more()
        gzip_layouts = WRITERS.ways()._asdict()
        with self._lock:
            until = self._clock() if self._failing_until is None or self._running else self._failing_until
            # What failed last is sent again, or has been given up.
            is_over = self._failing_until is None and not (self._running or has_more)
            since = None if is_over else self._failing_since
            return ExportState(
                attempts={verdict.value: count for verdict, count in self._attempts.items()},
                latency_counts=tuple(self._latency_counts),
                latency_seconds=self._latency_seconds,
                latency_exponential=dict(self._latency_exponential),
                encoded_bytes=self._encoded_bytes,
                sent_bytes=self._sent_bytes,
                values_left_out=self._values_left_out,
                gzip_spans={made_from: self._gzip_spans[made_from] for made_from in ("records", "body")},
                mistrusted_layouts=WRITERS.mistrusted,
                gzip_layouts=gzip_layouts,
                running=self._running,
                failing_seconds=0.0 if since is None else until - since,
                failure="" if since is None else self._failure,
                brokers=brokers,
                endpoints=endpoints,
            )

    def _ended(
        self, started: float, requests: Sequence[Request], results: Sequence[Result], exporter: Exporter
    ) -> None:
        """Note what came of a call; nothing did if it raised: that is a fault of this program, not an attempt."""
        now = self._clock()
        with self._changed:
            self._running -= 1
            self._inside[exporter] -= 1
            self._changed.notify_all()
            for request, result in zip(requests, results, strict=False):
                self._note(request, result, started, now)

    def _note(self, request: Request, result: Result, started: float, now: float) -> None:
        self._attempts[result.verdict] += 1
        self._latency_counts[bisect.bisect_left(LATENCY_BOUNDS, now - started)] += 1
        self._latency_exponential[bucket(max(0, round((now - started) * _NANO)))] += 1
        self._latency_seconds += now - started
        match result.verdict:
            case Verdict.DELIVERED:
                self._encoded_bytes += request.body_bytes
                self._sent_bytes += result.sent_bytes or 0
                self._values_left_out += result.values_left_out
                if request.gzip_from:
                    self._gzip_spans[request.gzip_from] += request.spans
                self._failing_since, self._failure = None, ""
            case Verdict.RETRY | Verdict.REFUSED:
                if self._failing_since is None:
                    self._failing_since = started
                self._failing_until = now if result.verdict is Verdict.REFUSED else None
                self._failure = result.message
            case Verdict.TOO_LARGE:
                pass  # it answers, and its halves will tell more
