"""Several endpoints of one kind: each trace has its own, or any will do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from drain.exporters.protocol import Renewable, Verdict
from drain.otlp.destinations import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Exporter, Result
    from drain.otlp.request import Encoding, Request
    from drain.settings.balance import Balance

_FIRST_AWAY_SECONDS: Final = 5.0
_LONGEST_AWAY_SECONDS: Final = 60.0
_TRY_SECONDS: Final = 10.0  # for which one that is tried again gets no second request


@dataclass(slots=True)
class _Gateway:
    """An endpoint that any request may go to.

    Attributes:
        exporter: to it.
        doubts: grows with each failure, and halves with each request that it took: one that comes and goes is trusted
            again by and by.
        away_until: it is passed over until then, on the clock.
        doubted_at: when the doubts grew last: attempts that had begun before say nothing new.
    """

    exporter: Exporter
    doubts: int = 0
    away_until: float = 0.0
    doubted_at: float = float("-inf")


class Gateways:
    """Sends to several endpoints.

    Args:
        exporters: by the name that was configured, which says where a trace goes.
        balance: "trace": all spans of a trace go to the same, and wait for it while it is away; "round-robin": requests
            go to one after the other; "failover": to the first that is not away.
        hand_over_after: of "trace": seconds that one is away until the others get its spans; 0: they wait.
        clock: seconds that never go back.
        log: hears when one is passed over, and when it is back; None: structlog's.

    Attributes:
        exporters: as given.

    Raises:
        ValueError: the exporters send different encodings.
    """

    def __init__(
        self,
        exporters: Mapping[str, Exporter],
        balance: Balance,
        hand_over_after: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        encodings = {exporter.encoding for exporter in exporters.values()}
        if len(encodings) != 1:
            raise ValueError("endpoints need one encoding")
        self.encoding: Encoding = encodings.pop()
        self.exporters = exporters
        self.endpoint = ", ".join(exporter.endpoint for exporter in exporters.values())
        self.partitioner: Homes | None = Homes(tuple(exporters), hand_over_after) if balance == "trace" else None
        self._takes_turns = balance == "round-robin"
        self._clock = clock
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._lock = threading.Lock()
        self._gateways = [_Gateway(exporter) for exporter in exporters.values()]  # in the order of their turns

    def export(self, request: Request) -> Result:
        """Make one attempt, at the request's home if traces have one; see `drain.exporters.protocol.Exporter`."""
        if self.partitioner is not None and request.destination in self.exporters:
            return self.exporters[request.destination].export(request)
        started = self._clock()
        gateway = self._chosen()
        result = gateway.exporter.export(request)
        self._note(gateway, result, started)
        return result

    def renew(self) -> None:
        """Let each take up its files and connections anew, though one raises."""
        with contextlib.ExitStack() as stack:
            for exporter in self.exporters.values():
                if isinstance(exporter, Renewable):
                    stack.callback(exporter.renew)

    def close(self) -> None:
        """Close all, though one raises."""
        with contextlib.ExitStack() as stack:
            for exporter in self.exporters.values():
                stack.callback(exporter.close)

    def _chosen(self) -> _Gateway:
        """Return the first that is not away, else the one that is to be tried again first."""
        with self._lock:
            now = self._clock()
            chosen = next(
                (gateway for gateway in self._gateways if gateway.away_until <= now),
                min(self._gateways, key=lambda gateway: gateway.away_until),
            )
            if chosen.doubts:
                chosen.away_until = max(chosen.away_until, now + _TRY_SECONDS)
            if self._takes_turns:
                self._gateways.remove(chosen)
                self._gateways.append(chosen)
            return chosen

    def _note(self, gateway: _Gateway, result: Result, started: float) -> None:
        with self._lock:
            doubts = gateway.doubts
            if result.verdict is not Verdict.RETRY:
                gateway.doubts //= 2
                gateway.away_until = 0.0
            elif started >= gateway.doubted_at:
                gateway.doubts += 1
                gateway.doubted_at = self._clock()
                seconds = min(_FIRST_AWAY_SECONDS * 2 ** min(doubts, 10), _LONGEST_AWAY_SECONDS)
                seconds = max(seconds, min(result.retry_after or 0.0, _LONGEST_AWAY_SECONDS))
                gateway.away_until = gateway.doubted_at + seconds
            is_away, is_back = gateway.doubts and not doubts, doubts and not gateway.doubts
        if is_away:
            self._log.warning(
                "endpoint is passed over, others get its spans",
                endpoint=gateway.exporter.endpoint,
                reason=result.message,
            )
        elif is_back:
            self._log.info("endpoint is used again", endpoint=gateway.exporter.endpoint)


class Homes:
    """Where each trace goes: a `Relocating` partitioner over the names.

    Args:
        names: each once.
        hand_over_after: seconds; 0: never.

    Attributes:
        names: as given.
        hand_over_after: as given.
    """

    def __init__(self, names: Sequence[str], hand_over_after: float = 0.0) -> None:
        self.names: Sequence[str] = names
        self.hand_over_after = hand_over_after
        self._all = self._there = Rendezvous(names)
        self._lock = threading.Lock()
        self._handed_over = Counter(dict.fromkeys(names, 0))

    def leave_out(self, away: Collection[str]) -> None:
        """See `drain.exporters.protocol.Relocating`."""
        self._there = Rendezvous([name for name in self.names if name not in away]) if away else self._all

    def assign(self, records: np.ndarray, service: str) -> np.ndarray:  # noqa: ARG002 - a trace is of several services
        """See `drain.exporters.protocol.Partitioner`."""
        there = self._there  # may be another in a moment
        if there is self._all:
            return there.assign(records)
        homes = self._all.assign(records)
        at = np.array([self.names.index(name) for name in there.names], np.uint16)
        given: np.ndarray = at[there.assign(records)]
        with self._lock:
            counts = np.bincount(homes[homes != given], minlength=len(self.names))
            self._handed_over.update(dict(zip(self.names, map(int, counts), strict=True)))
        return given

    def home(self, trace_id: bytes, service: str) -> str:  # noqa: ARG002 - a trace is of several services
        """See `drain.exporters.protocol.Partitioner`."""
        return self._there.home(trace_id)

    def handed_over(self, destination: str, spans: int) -> None:
        """See `drain.exporters.protocol.Relocating`."""
        with self._lock:
            self._handed_over[destination] += spans

    def all_handed_over(self) -> Mapping[str, int]:
        """Return how many spans others got in the place of each."""
        with self._lock:
            return dict(self._handed_over)
