"""Warnings of threads that emit: waiting for them bears that more come meanwhile."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from ringbuf.log import logger, wait_until_told, warn_aside

if TYPE_CHECKING:
    import pytest

WARNINGS = 40


def test_warnings_that_come_while_others_are_waited_for_are_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(range(WARNINGS))
    may_be_told = threading.Event()
    monkeypatch.setattr(logger, "filters", [lambda _record: may_be_told.wait(60)])

    def warn(*_event: object) -> None:
        if left:
            warn_aside("warning %d", left.pop())

    sys.setprofile(warn)  # at each call and return: wherever another thread may come between
    try:
        wait_until_told(0)
    finally:
        sys.setprofile(None)
    while left:
        warn()
    may_be_told.set()
    wait_until_told(60)
    assert sorted(record.getMessage() for record in caplog.records) == sorted(
        f"warning {number}" for number in range(WARNINGS)
    )
