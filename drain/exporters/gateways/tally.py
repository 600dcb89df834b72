"""What came of the attempts at each of several endpoints, and how many spans their requests had."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from drain.exporters.protocol import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Result
    from drain.otlp.request import Request

_TELL_SECONDS: Final = 60.0
_FEW_SPANS: Final = 60  # of a request: with fewer, spans take more than 1.5 times their bytes


class EndpointTally:
    """Of one endpoint.

    Attributes:
        attempts: by the verdict's word.
        seconds: of them together.
        spans: of the requests that were delivered.
        failure: what came last in the place of an answer that takes the spans.
    """

    def __init__(self) -> None:
        self.attempts = Counter({verdict.value: 0 for verdict in Verdict})
        self.seconds = 0.0
        self.spans = 0
        self.failure = ""


class Tally:
    """Of all endpoints; any thread may use it.

    Args:
        clock: seconds that never go back.
        log: hears, each minute in which there were any, how many spans a request had.
        is_sorted: each request has the traces of one gateway alone: with many of them it has few spans.
    """

    def __init__(self, clock: Callable[[], float], log: FilteringBoundLogger, *, is_sorted: bool) -> None:
        self._clock = clock
        self._log = log
        self._is_sorted = is_sorted
        self._lock = threading.Lock()
        self._of: dict[str, EndpointTally] = {}
        self._told_at = clock()
        self._untold_requests = self._untold_spans = 0

    def begin(self, endpoints: Collection[str]) -> None:
        """Have a tally of each of these."""
        with self._lock:
            for endpoint in endpoints:
                self._of.setdefault(endpoint, EndpointTally())

    def note(self, endpoint: str, request: Request, result: Result, seconds: float) -> None:
        """Note what came of an attempt."""
        with self._lock:
            tally = self._of[endpoint]
            tally.attempts[result.verdict.value] += 1
            tally.seconds += seconds
            if result.verdict is not Verdict.DELIVERED:
                tally.failure = result.message
                return
            if not request.spans:
                return
            tally.spans += request.spans
            self._untold_requests += 1
            self._untold_spans += request.spans
            if self._clock() - self._told_at < _TELL_SECONDS:
                return
            requests, spans = self._untold_requests, self._untold_spans
            self._untold_requests = self._untold_spans = 0
            self._told_at = self._clock()
        is_cut_small = self._is_sorted and spans < _FEW_SPANS * requests
        hint = "fewer gateways, or a longer --batch-delay, take fewer bytes" if is_cut_small else None
        self._log.info("requests were sent", requests=requests, spans_a_request=round(spans / requests), hint=hint)

    def items(self) -> list[tuple[str, EndpointTally]]:
        """Return the tallies by endpoint."""
        with self._lock:
            return list(self._of.items())
