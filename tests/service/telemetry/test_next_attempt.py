"""How long a backend is left alone is told where an operator looks: in the metrics and at /readyz."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import ringbuf
from drain.commands import spool_backend
from drain.commands.spool_backend import BackendLook, ask_drain
from drain.exporters.protocol import Result, Verdict
from drain.telemetry import health
from tests.service.draining import LAYOUT, emit, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from .watched import Watched

NEXT_ATTEMPT = re.compile(r"^ringbuf_drain_next_attempt_seconds (\S+)$", re.MULTILINE)


def next_attempt(watched: Watched) -> float:
    _, text = watched.read("/metrics")
    (seconds,) = NEXT_ATTEMPT.findall(text)
    return float(seconds)


def test_the_wait_for_the_next_attempt_is_told(
    watched: Watched, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_FAILING_SECONDS", 0.0)
    monkeypatch.setattr(spool_backend, "_SECONDS", 60.0)  # the machine may be busy
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        assert next_attempt(watched) == 0
        assert ask_drain(f":{watched.port}", os.getpid()) == BackendLook(endpoints={})
        until(lambda: watched.get("/readyz") == (200, []))
        watched.backend.verdicts = [Result(Verdict.RETRY, message="HTTP 429", retry_after=3600.0)]
        emit(emitter, range(10))
        until(lambda: next_attempt(watched) > 0)
        assert 200 < next_attempt(watched) <= 300, "as the backend asked, up to --retry-after-maximum"
        status, (reason,) = watched.get("/readyz")
        assert status == 503
        assert re.search(r"HTTP 429; next attempt in (2\d\d|300) s$", reason)
        look = ask_drain(f"127.0.0.1:{watched.port}", os.getpid())  # what `ringbuf-drain spool` shows
        assert (look.note, look.last_error, look.failing_seconds > 0) == ("", "HTTP 429", True)
        assert 200 < look.next_attempt_seconds <= 300
        assert watched.get("/healthz") == (200, []), "a new process would not be taken any sooner"
