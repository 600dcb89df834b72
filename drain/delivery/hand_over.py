"""Which destinations are left to the others, and where what waits for them goes instead.

A destination is *gone* when its exporter names it no more. It is *away*, of those that can have their spans taken over
(`drain.exporters.protocol.Relocating`), when its breaker has been open for `hand_over_after`. It is back when nothing
has failed for as long again: one that comes and goes does not have its traces torn apart at every turn. While it is
away an empty request asks whether it answers, so that no span has to be risked for that.

Of a part for which an attempt came to an unknown end, the destination may have the spans already. Such a part waits for
its destination, however long that is away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from drain.delivery.halves import by_destination
from drain.delivery.job import Job, Sending
from drain.exporters.protocol import Relocating, partitioner_of, relocating
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.breaker import BreakerState
    from drain.delivery.route import Route
    from drain.exporters.protocol import Exporter, Partitioner
    from drain.otlp.request import Encoding

_EMPTY: Final[dict[Encoding, bytes]] = {"protobuf": b"", "json": b'{"resourceSpans":[]}\n'}
_QUESTIONS: Final = 4  # in the time after which one is back
_LONGEST_QUESTION_SECONDS: Final = 15.0


@dataclass(slots=True)
class Presence:
    """Whether a destination is there, with hysteresis.

    Attributes:
        after: seconds that it is away before it counts as away, and answers before it counts as there.
        is_away: what it counts as.
    """

    after: float
    is_away: bool = False

    def look(self, breaker: BreakerState, now: float) -> bool:
        """Take note of its breaker; return whether that changed what it counts as."""
        if self.is_away:
            changes = breaker.open_since is None and now - max(breaker.back_at, breaker.failed_at) >= self.after
        else:
            changes = breaker.open_since is not None and now - breaker.open_since >= self.after
        self.is_away ^= changes
        return changes

    def seconds_until_change(self, breaker: BreakerState, now: float) -> float | None:
        """Return when `look` would say something new, if nothing happens until then; None: only what happens can."""
        if self.is_away and breaker.open_since is None:
            return max(0.0, max(breaker.back_at, breaker.failed_at) + self.after - now)
        if not self.is_away and breaker.open_since is not None:
            return max(0.0, breaker.open_since + self.after - now)
        return None


class HandOver:
    """Knows who is gone and who is away; guarded by the delivery's lock, but for `rehomed` and `handed_over`.

    Args:
        exporter: says which destinations there are; it may be replaced by another behind the same object.
        log: a line when one is away, and when it is back.
        clock: seconds that never go back.
    """

    def __init__(self, exporter: Exporter, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        self._exporter = exporter
        self._log = log
        self._clock = clock
        self._presences: dict[str, Presence] = {}
        self._left: frozenset[str] = frozenset()
        self._told: Relocating | None = None
        self._names: Sequence[str] | None = None  # as of the last look
        self._known: frozenset[str] | None = None  # these

    def look(self, routes: Collection[Route]) -> float | None:
        """See who has gone away or come back; return seconds after which to look again, None: at the next change."""
        partitioner = partitioner_of(self._exporter)
        names = None if partitioner is None else partitioner.names
        if names is not self._names:
            self._names, self._known = names, None if names is None else frozenset(names)
            self._presences = {name: one for name, one in self._presences.items() if name in (self._known or ())}
        partitioner = relocating(partitioner)
        if partitioner is None:
            self._presences.clear()
            self._left, self._told = frozenset(), None
            return None
        there = {route: route.breaker.state() for route in routes if not self.is_gone(route.destination)}
        partitioner.breakers_open([route.destination for route, breaker in there.items() if breaker.is_open])
        now, after = self._clock(), partitioner.hand_over_after
        pauses = []
        away, closed = [], 0
        for route, breaker in there.items() if after else ():
            presence = self._presences.setdefault(route.destination, Presence(after))
            presence.after = after
            if presence.look(breaker, now):
                self._tell(route.destination, presence)
            if presence.is_away:
                away.append(route.destination)
                self._ask(route, now)
            elif breaker.open_since is None:
                closed += 1
            pauses.append(presence.seconds_until_change(breaker, now))
        closed += len(partitioner.names) - len(self._presences)  # never tried
        left = frozenset(away if closed else ())  # else there is nobody to take over
        if left != self._left or partitioner is not self._told:
            partitioner.leave_out(left)
            self._left, self._told = left, partitioner
        return min((pause for pause in pauses if pause is not None), default=None)

    def is_left(self, destination: str) -> bool:
        """Return whether one is away and the others get its spans."""
        return destination in self._left

    def is_gone(self, destination: str) -> bool:
        """Return whether the exporter sorted spans by destination at the last look, and this was none of them."""
        return self._known is not None and destination not in self._known

    def rehomed(self, job: Job, request: Request) -> Sequence[Request] | None:
        """Return a part as requests for other destinations than its own, where that is gone or left.

        Args:
            job: the part.
            request: of it.

        Returns:
            None where it stays; empty where it was to go, and nobody can read it.
        """
        partitioner = partitioner_of(self._exporter)
        if partitioner is None:
            return None
        is_gone = request.destination not in partitioner.names
        if not is_gone and not (request.destination in self._left and job.may_move):
            return None
        made = _rehomed(request, partitioner)
        if made is None and not is_gone:
            job.is_doubtful = True  # whatever it holds, it waits
            return ()
        if made is not None and {one.destination for one in made} <= {request.destination}:
            return None  # it is back
        return made

    def handed_over(self, destination: str, spans: int) -> None:
        """Count spans that are for others now."""
        partitioner = partitioner_of(self._exporter)
        if isinstance(partitioner, Relocating) and destination in partitioner.names:
            partitioner.handed_over(destination, spans)

    def _tell(self, destination: str, presence: Presence) -> None:
        if presence.is_away:
            self._log.warning(
                "endpoint is away, others get its spans", endpoint=destination, after_seconds=presence.after
            )
        else:
            self._log.info("endpoint is back and gets its spans again", endpoint=destination)

    def _ask(self, route: Route, now: float) -> None:
        """Let an empty request be tried by and by, as long as the route has none."""
        question = route.question
        if question is not None and question.sending is not Sending.GONE:
            return
        pause = min(self._presences[route.destination].after / _QUESTIONS, _LONGEST_QUESTION_SECONDS)
        encoding = self._exporter.encoding
        asked = Job(
            Request(_EMPTY[encoding], 0, encoding, route.destination),
            now,
            not_before=now if question is None else now + pause,
            is_told_when=True,  # it waits for its time, and for nothing else
        )
        route.waiting.append(asked)  # first: what is a question waits there
        route.question = asked


def _rehomed(request: Request, partitioner: Partitioner) -> list[Request] | None:
    try:
        made = by_destination(request, partitioner.home)
    except (DecodeError, ValueError):
        return None
    return made if made and sum(part.spans for part in made) == request.spans else None
