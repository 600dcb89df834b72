"""An exporter that raises what nobody foresaw costs a retry, not a thread and the batch that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from drain.delivery.batch import Batch
from drain.delivery.delivery import Delivery
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from tests.service.draining import SECONDS, until

if TYPE_CHECKING:
    from drain.otlp.request import Encoding


class RaisingExporter:
    """Raises its errors, one an attempt, and then delivers."""

    encoding: Encoding = "protobuf"
    endpoint = "nowhere"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def export(self, _request: Request) -> Result:
        if self.errors:
            raise self.errors.pop(0)
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), OSError(24, "Too many open files")], ids=repr
)
def test_a_batch_whose_attempt_raised_is_sent_again(error: Exception) -> None:
    log = structlog.testing.LogCapture()
    exporter = RaisingExporter(error, error)
    delivery = Delivery(
        exporter,
        RetryPolicy(initial=0.001, maximum=0.001),
        1,  # the one thread must survive
        done=lambda: None,
        log=structlog.wrap_logger(structlog.PrintLogger(), processors=[log]),
    )
    delivery.send(Batch([Request(b"", 1, "protobuf")], []))
    until(lambda: delivery.has_settled)
    assert len(delivery.settled()) == 1
    assert exporter.errors == []
    (said,) = [entry for entry in log.entries if entry["event"] == "backend did not take a batch, it is sent again"]
    assert type(error).__name__ in said["reason"]
    assert delivery.stop(SECONDS)
