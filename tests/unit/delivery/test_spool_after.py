"""A backend that answers, if slowly, costs no writes to the disk; one that does not, costs no span that can be kept."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import structlog

from drain.delivery.delivery import Delivery
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Verdict
from drain.settings.configuration import load
from tests.service.draining import SECONDS, until
from tests.unit.delivery.test_races import NotedSpool, OneAnswer, batch


@pytest.mark.parametrize(("latency", "is_spooled"), [(0.05, False), (0.3, False), (1.5, False), (2.5, True)])
def test_by_default_only_what_waits_for_seconds_is_spooled(latency: float, *, is_spooled: bool) -> None:
    now = 1000.0
    go = threading.Event()
    exporter, spool = OneAnswer(Verdict.DELIVERED, go), NotedSpool()
    any_spool: Any = spool
    delivery = Delivery(
        exporter,
        RetryPolicy(),
        4,
        done=lambda: None,
        log=structlog.get_logger(),
        clock=lambda: now,
        spool=any_spool,
        spool_after=load({}, None).settings.spool_after,
    )
    sent = [batch() for _ in range(4)]
    for one in sent:
        delivery.send(one)
    until(lambda: exporter.attempts == 4)
    now += latency
    delivery.spool_late()
    go.set()
    until(lambda: delivery.in_flight == len(delivery._settlement.settled))
    assert delivery.stop(SECONDS)
    assert bool(spool.puts) is is_spooled
