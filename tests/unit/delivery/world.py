"""A delivery without threads, time or disk: its `Dispatch` under a clock that goes from event to event."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.delivery.dispatch import Dispatch
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from tests.fakes import keeps_faults, raise_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drain.delivery.dead_letters import DeadLetters
    from drain.otlp.request import Encoding

RING: Any = SimpleNamespace(service="shop", capacity_slots=1 << 40)
LANE: Any = SimpleNamespace(unreleased=0)
ATTEMPT_SECONDS = 0.02


def batch_of(body: bytes, ring: Any = RING, lane: Any = LANE) -> Batch:
    return Batch([Request(body, 1, "protobuf", services={ring.service: 1})], [Segment(ring, lane, 1, 0)])


def batch_of_parts(*parts: bytes) -> Batch:
    """Return a batch with a part of one span for each body; it is for the destination that stands before its colon."""
    requests = [
        Request(body, 1, "protobuf", body.partition(b":")[0].decode(), {RING.service: 1}) for body in sorted(parts)
    ]
    return Batch(requests, [Segment(RING, LANE, len(requests), 0)])


@dataclass(eq=False)
class FakeEntry:
    request: Request
    stored: Any
    generation: int
    born: float


class FakeSpool:
    """Keeps everything at once, in memory."""

    is_broken = False
    generation = 0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._not_before: dict[int, float] = {}
        self.entries: dict[int, Any] = {}
        self._ids = itertools.count(1)
        self.puts = 0
        self.outcomes: list[Outcome] = []

    def put(self, request: Request) -> Future[Any]:
        self.puts += 1
        future: Future[Any] = Future()
        future.set_result(self._add(request, self._clock(), float("inf")))
        return future

    def _add(self, request: Request, born: float, not_before: float) -> Any:
        identity = next(self._ids)
        stored = SimpleNamespace(id=identity, destination=request.destination)
        self.entries[identity] = FakeEntry(request, stored, 0, born)
        self._not_before[identity] = not_before
        return self.entries[identity]

    def take(
        self,
        *,
        without: frozenset[int] = frozenset(),
        newest: bool = False,
        destination: str = "",
        only: int | None = None,
    ) -> list[Any]:
        if only is not None:
            if self._not_before.get(only, float("inf")) == float("inf"):
                return []
            self._not_before[only] = float("inf")
            return [self.entries[only]]
        for identity in sorted(self._of(destination), reverse=newest):
            if identity not in without and self._not_before[identity] <= self._clock():
                self._not_before[identity] = float("inf")
                return [self.entries[identity]]
        return []

    def back(self, entry: Any, not_before: float = 0.0) -> None:
        assert self._not_before[entry.stored.id] == float("inf"), "given back twice"
        self._not_before[entry.stored.id] = not_before

    def divide(self, entry: Any, requests: Sequence[Request]) -> list[Any]:
        assert sum(request.spans for request in requests) == entry.request.spans
        del self.entries[entry.stored.id]
        del self._not_before[entry.stored.id]
        return [self._add(request, entry.born, 0.0).stored for request in requests]

    def done(self, entry: Any, outcome: Outcome) -> None:
        del self.entries[entry.stored.id]
        self.outcomes.append(outcome)

    def withdraw(self, entry: Any) -> None:
        del self.entries[entry.stored.id]

    def look(self) -> None:
        pass

    def room(self) -> int:
        return 32

    def destinations(self) -> set[str]:
        return {entry.request.destination for entry in self.entries.values()}

    def _of(self, destination: str) -> list[int]:
        return [number for number, entry in self.entries.items() if entry.request.destination == destination]

    def can_take(self, destination: str, *, even_resting: bool = False) -> bool:
        if even_resting:
            return any(self._not_before[number] < float("inf") for number in self._of(destination))
        return any(self._not_before[number] <= self._clock() for number in self._of(destination))

    def seconds_until_take(self, destination: str) -> float | None:
        at = min((self._not_before[number] for number in self._of(destination)), default=float("inf"))
        return None if at == float("inf") else max(0.0, at - self._clock())

    def age_seconds(self, entry: Any) -> float:
        return self._clock() - float(entry.born)


class World:
    """Batches that come at their time, a backend that judges them, and as many workers as `concurrency`.

    Args:
        judge: says what the backend does with a body at a time.
        has_spool: whether there is one.
        seed: of all chance.
        concurrency: workers.
    """

    encoding: Encoding = "protobuf"
    endpoint = "world"

    def __init__(
        self,
        judge: Callable[[bytes, float], Result],
        *,
        has_spool: bool,
        seed: int,
        concurrency: int = 4,
        policy: RetryPolicy | None = None,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self.now = 1000.0
        self._judge = judge
        self.random = random.Random(seed)  # noqa: S311 - it guards nothing
        self.spool = FakeSpool(lambda: self.now) if has_spool else None
        self.attempts: deque[tuple[float, bytes]] = deque()
        self.delivered: dict[bytes, float] = {}
        self.settled: list[Batch] = []
        self.in_rings: deque[Batch] = deque()
        self._coming: list[tuple[float, int, bytes]] = []
        self.sent = 0
        spool: Any = self.spool
        self.dispatch = Dispatch(
            self,
            policy or RetryPolicy(random=self.random.random),
            concurrency,
            done=lambda: None,
            log=structlog.get_logger(),
            clock=lambda: self.now,
            spool=spool,
            spool_after=0.2,
            dead_letters=dead_letters,
        )
        self._workers = [(self.dispatch.hand(), 0.0) for _ in range(concurrency)]

    @keeps_faults
    def export(self, request: Request) -> Result:
        self.attempts.append((self.now, request.body))
        result = self._judge(request.body, self.now)
        if result.verdict is Verdict.DELIVERED:
            assert request.body not in self.delivered, "sent again after it was delivered"
            self.delivered[request.body] = self.now
        return result

    def close(self) -> None:
        pass

    def come(self, at: float, body: bytes) -> None:
        """Let a batch be there at a time from now."""
        self.sent += 1
        heapq.heappush(self._coming, (self.now + at, self.sent, body))

    def run(self, seconds: float) -> None:
        """Let time go by."""
        end = self.now + seconds
        while self.now < end:
            while self._coming and self._coming[0][0] <= self.now:
                self.in_rings.append(batch_of(heapq.heappop(self._coming)[2]))
            while self.in_rings and self.dispatch.has_room:
                self.dispatch.send(self.in_rings.popleft())
            self.dispatch.spool_late()
            self.settled += self.dispatch.settled()
            nexts = [end, self.now + 1.0, *(at for at, *_ in self._coming[:1])]
            for number, (hand, busy_until) in enumerate(self._workers):
                if busy_until > self.now:
                    nexts.append(busy_until)
                    continue
                wait = self.dispatch.advance(hand)
                if wait is None:
                    busy = self.now + ATTEMPT_SECONDS
                    self._workers[number] = (hand, busy)
                    nexts.append(busy)
                elif wait.seconds is not None:
                    nexts.append(self.now + max(wait.seconds, 0.001))
            self.now = min(nexts)
        raise_fault()

    @property
    def outcomes(self) -> Outcome:
        """What became of all spans, in rings and spool; `spooled` is what waits there."""
        of_rings = [batch.segments[0].outcome or Outcome() for batch in self.settled]
        of_spool = [] if self.spool is None else self.spool.outcomes
        total = Outcome(*map(sum, zip(Outcome(), *of_rings, *of_spool, strict=True)))
        return total._replace(spooled=0 if self.spool is None else len(self.spool.entries))
