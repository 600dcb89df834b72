"""Several endpoints of one kind: each trace has its own, or any will do."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from drain.accounting.export_state import EndpointState
from drain.exporters.gateways.homes import HandedOver, Homes
from drain.exporters.gateways.tally import Tally
from drain.exporters.protocol import Renewable, Verdict, sends_gzip
from drain.otlp.destinations import CollectorRing, Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Exporter, Result
    from drain.otlp.destinations import TraceHomes
    from drain.otlp.request import Encoding, Request
    from drain.settings.balance import Balance

_FIRST_AWAY_SECONDS: Final = 5.0
_LONGEST_AWAY_SECONDS: Final = 60.0
_TRY_SECONDS: Final = 10.0  # for which one that is tried again gets no second request
_CHOICES: Final[Mapping[Balance, Callable[[Sequence[str]], TraceHomes]]] = {
    "trace": Rendezvous,
    "collector-ring": CollectorRing,
}


@dataclass(slots=True, eq=False)
class _Gateway:
    """One that there is, or that attempts still run to.

    Attributes:
        exporter: to it.
        endpoint: that was configured; several gateways may be behind one.
        running: attempts.
        has_left: with its last attempt it is closed.
        is_failing: the last attempt came to nothing.
        doubts: of one that any request may go to: grows with each failure, and halves with each request that it took:
            one that comes and goes is trusted again by and by.
        away_until: it is passed over until then, on the clock.
        doubted_at: when the doubts grew last: attempts that had begun before say nothing new.
    """

    exporter: Exporter
    endpoint: str
    running: int = 0
    has_left: bool = False
    is_failing: bool = False
    doubts: int = 0
    away_until: float = 0.0
    doubted_at: float = float("-inf")


class Gateways:
    """Sends to several endpoints.

    Args:
        exporters: by name, which says where a trace goes.
        balance: "trace": all spans of a trace go to the same, and wait for it while it is away; "collector-ring": the
            same, where the Collector's exporter would send them; "round-robin": requests go to one after the other;
            "failover": to the first that is not away.
        hand_over_after: of the first two: seconds that one is away until the others get its spans; 0: they wait.
        endpoints: by the same names, what was configured; None: these are it.
        clock: seconds that never go back.
        log: hears when one is passed over, and when it is back; None: structlog's.

    Attributes:
        partitioner: of the gateways that there are; None: any may have any request. Another when there are others.
        before_close: called first.

    Raises:
        ValueError: the exporters send different encodings.
    """

    def __init__(
        self,
        exporters: Mapping[str, Exporter],
        balance: Balance,
        hand_over_after: float = 0.0,
        *,
        endpoints: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        encodings = {exporter.encoding for exporter in exporters.values()}
        if len(encodings) != 1:
            raise ValueError("endpoints need one encoding")
        self.encoding: Encoding = encodings.pop()
        # Those behind one name have the name's.
        self.endpoint = ", ".join(dict.fromkeys(exporter.endpoint for exporter in exporters.values()))
        self.before_close: Callable[[], None] = lambda: None
        self._balance = balance
        self._hand_over_after = hand_over_after
        self._handed_over = HandedOver()
        self._clock = clock
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._lock = threading.Lock()
        self._by_name: dict[str, _Gateway] = {}
        self._turns: list[_Gateway] = []  # in their order
        self._tally = Tally(clock, self._log, is_sorted=balance in _CHOICES)
        self.partitioner: Homes | None = None
        self.become(exporters, endpoints or {name: name for name in exporters})

    @property
    def sends_gzip(self) -> bool:
        """Whether all send requests as `Request.gzip` has them."""
        return all(sends_gzip(gateway.exporter) for gateway in self._by_name.values())

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The exporters that there are, by name."""
        return {name: gateway.exporter for name, gateway in self._by_name.items()}

    def become(self, exporters: Mapping[str, Exporter], endpoints: Mapping[str, str]) -> None:
        """Send to these from now on; whoever is not among them is closed when the attempts at it have ended.

        Args:
            exporters: by name, at least one; those that are there already stay as they are.
            endpoints: that was configured, by the same names.
        """
        choose = _CHOICES.get(self._balance)
        self._tally.begin(endpoints.values())
        with contextlib.ExitStack() as closing, self._lock:  # closed when the lock is free: attempts need it
            before = self._by_name
            there = {name: before.get(name) or _Gateway(one, endpoints[name]) for name, one in exporters.items()}
            turns = [one for one in self._turns if one in there.values()]
            turns += [one for one in there.values() if one not in turns]
            if choose is not None:
                self.partitioner = Homes(dict(endpoints), self._hand_over_after, self._handed_over, choose)
            self._by_name, self._turns = there, turns  # at once: who renews or closes all has no lock
            for gateway in [gateway for name, gateway in before.items() if name not in there]:
                gateway.has_left = True
                if not gateway.running:
                    closing.callback(gateway.exporter.close)

    def export(self, request: Request) -> Result:
        """Make one attempt, at the request's home if traces have one; see `drain.exporters.protocol.Exporter`."""
        with self._lock:
            home = None if self.partitioner is None else self._by_name.get(request.destination)
            gateway = self._chosen() if home is None else home
            gateway.running += 1
            started = self._clock()
        result = None
        try:
            result = gateway.exporter.export(request)
        finally:
            self._ended(gateway, result, started, is_chosen=home is None)
        self._tally.note(gateway.endpoint, request, result, self._clock() - started)
        return result

    def renew(self) -> None:
        """Let each take up its files and connections anew, though one raises."""
        self._all(lambda exporter: exporter.renew() if isinstance(exporter, Renewable) else None)

    def close(self) -> None:
        """Close all, though one raises."""
        self.before_close()
        self._all(lambda exporter: exporter.close())

    def endpoint_states(self) -> Sequence[EndpointState]:
        """Return what came of the attempts at each endpoint that was configured; any thread may ask."""
        partitioner = self.partitioner
        away: Collection[str] = () if partitioner is None else partitioner.left_out
        open_ones: Collection[str] = () if partitioner is None else partitioner.open
        with self._lock:
            states = []
            for endpoint, tally in self._tally.items():
                there = {name: one for name, one in self._by_name.items() if one.endpoint == endpoint}
                states.append(
                    EndpointState(
                        endpoint,
                        gateways=len(there),
                        failing=sum(one.is_failing for one in there.values()),
                        open=sum(name in open_ones for name in there),
                        away=sum(name in away for name in there),
                        attempts=dict(tally.attempts),
                        attempt_seconds=tally.seconds,
                        spans=tally.spans,
                        handed_over=self._handed_over.of(endpoint),
                        failure=tally.failure,
                    )
                )
            return states

    def _all(self, do: Callable[[Exporter], None]) -> None:
        with contextlib.ExitStack() as stack:
            for exporter in reversed([*self.exporters.values()]):
                stack.callback(functools.partial(do, exporter))

    def _chosen(self) -> _Gateway:
        """Return the first that is not away, else the one that is to be tried again first."""
        now = self._clock()
        chosen = next(
            (gateway for gateway in self._turns if gateway.away_until <= now),
            min(self._turns, key=lambda gateway: gateway.away_until),
        )
        if chosen.doubts:
            chosen.away_until = max(chosen.away_until, now + _TRY_SECONDS)
        if self._balance == "round-robin":
            self._turns.remove(chosen)
            self._turns.append(chosen)
        return chosen

    def _ended(self, gateway: _Gateway, result: Result | None, started: float, *, is_chosen: bool) -> None:
        """Note what came of an attempt; nothing did if it raised."""
        with self._lock:
            gateway.running -= 1
            is_to_be_closed = gateway.has_left and not gateway.running
            doubts = gateway.doubts
            if result is not None:
                gateway.is_failing = result.verdict is Verdict.RETRY
                if is_chosen:
                    self._doubt(gateway, result, started)
            is_away, is_back = gateway.doubts and not doubts, doubts and not gateway.doubts
        if is_to_be_closed:
            gateway.exporter.close()
        if is_away and result is not None:
            self._log.warning(
                "endpoint is passed over, others get its spans",
                endpoint=gateway.exporter.endpoint,
                reason=result.message,
            )
        elif is_back:
            self._log.info("endpoint is used again", endpoint=gateway.exporter.endpoint)

    def _doubt(self, gateway: _Gateway, result: Result, started: float) -> None:
        if result.verdict is not Verdict.RETRY:
            gateway.doubts //= 2
            gateway.away_until = 0.0
        elif started >= gateway.doubted_at:
            seconds = min(_FIRST_AWAY_SECONDS * 2 ** min(gateway.doubts, 10), _LONGEST_AWAY_SECONDS)
            seconds = max(seconds, min(result.retry_after or 0.0, _LONGEST_AWAY_SECONDS))
            gateway.doubts += 1
            gateway.doubted_at = self._clock()
            gateway.away_until = gateway.doubted_at + seconds
