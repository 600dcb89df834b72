"""A backend that answers nothing for long: what is read from the rings meanwhile costs no more than before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ringbuf
from drain.exporters.protocol import Result, Verdict
from tests.service.draining import LAYOUT, SMALL, MemoryBackend, SteppedDrain, emit

if TYPE_CHECKING:
    from pathlib import Path

    from drain.otlp.request import Request

TIMED_OUT = Result(Verdict.RETRY, message="no answer within 10 s", is_timeout=True)


class Silent(MemoryBackend):
    """Gives no answer; attempts end in their time-out at once, until one had a single span. Those after it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_patient = False
        self.holds = lambda _request: True

    def answer(self, request: Request) -> Result:
        if self.is_patient:
            return super().answer(request)
        if request.spans == 1:
            self.is_patient = True
        return TIMED_OUT


def test_after_many_time_outs_batches_are_as_large_as_a_slow_backend_needs_them(ring_dir: Path) -> None:
    """Batches of single spans would cost so much, each, that no spool takes them as fast as they come."""
    backend = Silent()
    with (
        ringbuf.Emitter("shop", layout=LAYOUT, ring_dir=ring_dir, capacity=16_384) as emitter,
        SteppedDrain(ring_dir, backend, SMALL) as drain,
    ):
        emit(emitter, range(4096))
        drain.until(lambda: backend.is_patient)  # requests are cut as small as it gets
        batches = drain.service._delivery.in_flight
        assert emit(emitter, range(4096)) == 4096
        drain.until(lambda: drain.service._delivery.in_flight > batches)
        for _ in range(50):
            drain.step()
        assert drain.service._delivery.in_flight - batches <= 4096 / 512
