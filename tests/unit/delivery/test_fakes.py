"""A check in a fake fails its test, though the delivery takes what it raises for a failed attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from drain.delivery.batch import Batch
from drain.delivery.delivery import Delivery
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from tests.fakes import keeps_faults, raise_fault
from tests.service.draining import MemoryBackend
from tests.unit.delivery.world import World
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from drain.exporters.protocol import Exporter

ONCE = RetryPolicy(initial=0.001, maximum=0.001)


class Checking(MemoryBackend):
    """Finds the first request wrong."""

    def answer(self, request: Request) -> Result:
        self.requests.append(request)
        assert len(self.requests) > 1, "it is wrong"
        return Result(Verdict.DELIVERED)


class Checked:
    encoding = "protobuf"
    endpoint = "checked"

    def __init__(self) -> None:
        self.attempts = 0

    @keeps_faults
    def export(self, _request: Request) -> Result:
        self.attempts += 1
        assert self.attempts > 1, "it is wrong"
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("fake", [Checking, Checked])
def test_what_a_fake_raises_in_a_thread_fails_its_test(fake: type[Exporter]) -> None:
    delivery = Delivery(fake(), ONCE, 1, done=lambda: None, log=structlog.get_logger())
    delivery.send(Batch([Request(b"", 1, "protobuf")], []))
    until(lambda: delivery.has_settled)  # by the second attempt: it looks as if all was well
    delivery.settled()
    assert delivery.stop(SECONDS)
    with pytest.raises(AssertionError, match="it is wrong"):
        raise_fault()
    raise_fault()  # once


def test_what_is_sent_again_after_it_was_delivered_fails_its_test() -> None:
    world = World(lambda _body, _now: Result(Verdict.DELIVERED), has_spool=False, seed=1)
    world.delivered[b"twice"] = 0.0
    world.come(0.0, b"twice")
    with pytest.raises(AssertionError, match="sent again"):
        world.run(1.0)
