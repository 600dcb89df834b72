"""How a service ends: with what is there delivered, as far as the time allows, or beside the drain in its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from drain.rings.ring import Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.delivery import Delivery
    from drain.rings.reader import Reader
    from drain.service.accounts import Accounts
    from drain.service.late_sampling import LateSampling
    from drain.spool.spool import Spool

_LAST_MOMENT_SECONDS: Final = 0.5  # for threads whose wait was cut short to end
_STORE_SECONDS: Final = 5.0  # for the spool to write what it was given


class Shutdown:
    """The end of one service.

    Args:
        reader: of its rings.
        delivery: sends what is in them.
        spool: where the rest may go; None: it stays in the rings.
        accounts: say what is left.
        timeout: seconds that it may take; with an emptied spool, the seconds without a delivery that end it.
        late: decides on traces; None: nobody does.
        decides: what waits in the hold is decided now, and not by the next drain.
        log: a line for each thing that is left.
        clock: seconds that never go back.

    Attributes:
        is_finishing: what comes now is for the next drain.
        is_requested: somebody asked for a stop.
        is_hopeless: nobody takes spans any more, and nobody will.
        threads_ended: whether all threads have.
    """

    def __init__(
        self,
        reader: Reader,
        delivery: Delivery,
        spool: Spool | None,
        accounts: Accounts,
        timeout: float,
        *,
        late: LateSampling | None = None,
        decides: bool = False,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._delivery = delivery
        self._spool = spool
        self._accounts = accounts
        self._timeout = timeout
        self._late = late
        self._decides = decides
        self._log = log
        self._clock = clock
        self.is_finishing = False
        self.is_requested = False
        self.is_hopeless = False
        self.threads_ended = False

    def drain(self, go_round: Callable[[], None], *, with_spool: bool) -> float:
        """Let the loop go round until what is there now is done with; return the seconds that are left for the rest.

        Args:
            go_round: one round of the loop, and its sleep where there was nothing to do.
            with_spool: empty the spool and the hold, too: all that waits for a decision is decided now.
        """
        self._reader.stop_at_tails()
        self.is_finishing = True
        # So that there is time left to spool what is not delivered by then.
        self._delivery.spool_after = min(self._delivery.spool_after, self._timeout / 2)
        deadline = self._clock() + self._timeout
        decides = with_spool or self._decides
        while not self._is_drained() or (with_spool and self._spooled_batches()) or (decides and self._held()):
            in_flight, spooled = self._delivery.in_flight, self._spooled_batches()
            # Only then: a trace may go on in what is not read.
            if decides and self._late is not None and self._are_rings_read():
                self._late.decide_all(time.monotonic_ns())
            go_round()
            is_progress = self._delivery.in_flight < in_flight or (with_spool and self._spooled_batches() < spooled)
            if is_progress and not self.is_requested:
                deadline = self._clock() + self._timeout
            if self.is_hopeless or self._clock() >= deadline:
                break
        return deadline - self._clock()

    def end_delivery(self, seconds: float) -> None:
        """End the threads.

        Args:
            seconds: for attempts that run.
        """
        self.threads_ended = self._delivery.stop(max(_LAST_MOMENT_SECONDS, seconds))
        self._close_spool(_STORE_SECONDS)

    def tell_what_is_left(self) -> int:
        """Return how many spans are left in the rings, and rings that are not examined, and log them."""
        self._reader.poll()
        left = sum(ring.pending for ring in self._reader.rings if ring.life is not Life.SET_ASIDE)
        if unread := self._reader.in_examination:
            self._log.error("rings are not examined yet, and left for the next drain", rings=unread)
        if left:
            self._log.error("spans are left in the rings, for the next drain", pending=left)
        if waiting := self._accounts.spool_waiting():
            self._log.warning("spans wait in the spool, for the next drain", waiting=waiting)
        if held := self._held():
            self._log.warning("spans wait in the hold, for the next drain", waiting=held)
        return left + unread

    def leave(self) -> int:
        """End beside the drain that serves the directory now; return how many spans are left to it."""
        left = self._reader.pending
        self._reader.let_go()
        self.end_delivery(0.0)
        return left

    def close_spool(self) -> None:
        """Give the spool back, wherever the service has got to."""
        self._close_spool(_LAST_MOMENT_SECONDS)

    def _close_spool(self, seconds: float) -> None:
        if self._spool is not None:
            self.threads_ended &= self._spool.close(seconds)

    def _spooled_batches(self) -> int:
        return self._spool.status().batches if self._spool else 0

    def _held(self) -> int:
        return self._late.waiting if self._late else 0

    def _is_drained(self) -> bool:
        if self._late is not None and self._late.on_their_way:
            return False
        return self._are_rings_read()

    def _are_rings_read(self) -> bool:
        return not self._reader.in_examination and all(
            ring.life is Life.ALIVE and not ring.pending for ring in self._reader.rings
        )
