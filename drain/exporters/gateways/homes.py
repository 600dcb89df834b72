"""Where each trace goes, of gateways that are there, and how many spans went elsewhere instead."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from drain.otlp.destinations import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from drain.otlp.destinations import TraceHomes


class HandedOver:
    """Counts, by the endpoint that was configured, the spans that others got in its place; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: Counter[str] = Counter()

    def add(self, spans: Mapping[str, int]) -> None:
        """Count spans, by endpoint."""
        with self._lock:
            self._spans.update(spans)

    def of(self, endpoint: str) -> int:
        """Return how many there were in the place of one."""
        with self._lock:
            return self._spans[endpoint]


class Homes:
    """The homes of traces among gateways: a `drain.exporters.protocol.Relocating` partitioner.

    Args:
        endpoints: by the name of each gateway, the endpoint that was configured: several behind a name have the same.
        hand_over_after: seconds; 0: never.
        handed_over: is told of spans that go elsewhere.
        choose: makes what chooses among names.

    Attributes:
        names: of the gateways, each once.
        hand_over_after: as given.
        left_out: gateways that are away.
        open: gateways to which one attempt at a time is made.
    """

    def __init__(
        self,
        endpoints: Mapping[str, str],
        hand_over_after: float = 0.0,
        handed_over: HandedOver | None = None,
        choose: Callable[[Sequence[str]], TraceHomes] = Rendezvous,
    ) -> None:
        self.names: Sequence[str] = tuple(endpoints)
        self.hand_over_after = hand_over_after
        self.left_out: Collection[str] = frozenset()
        self.open: Collection[str] = ()
        self._endpoints = endpoints
        self._choose = choose
        self._all = self._there = choose(self.names)
        self._handed_over = HandedOver() if handed_over is None else handed_over

    def leave_out(self, away: Collection[str]) -> None:
        """See `drain.exporters.protocol.Relocating`."""
        self.left_out = frozenset(away)
        self._there = self._choose([name for name in self.names if name not in away]) if away else self._all

    def breakers_open(self, destinations: Collection[str]) -> None:
        """See `drain.exporters.protocol.Relocating`."""
        self.open = destinations

    def assign(self, records: np.ndarray, service: str) -> np.ndarray:  # noqa: ARG002 - a trace is of several services
        """See `drain.exporters.protocol.Partitioner`."""
        there = self._there  # may be another in a moment
        if there is self._all:
            return there.assign(records)
        homes = self._all.assign(records)
        at = np.array([self.names.index(name) for name in there.names], np.uint16)
        given: np.ndarray = at[there.assign(records)]
        counts = np.bincount(homes[homes != given], minlength=len(self.names))
        moved: Counter[str] = Counter()
        for name, count in zip(self.names, map(int, counts), strict=True):
            moved[self._endpoints[name]] += count
        self._handed_over.add(moved)
        return given

    def home(self, trace_id: bytes, service: str) -> str:  # noqa: ARG002 - a trace is of several services
        """See `drain.exporters.protocol.Partitioner`."""
        return self._there.home(trace_id)

    def handed_over(self, destination: str, spans: int) -> None:
        """See `drain.exporters.protocol.Relocating`."""
        self._handed_over.add({self._endpoints[destination]: spans})
