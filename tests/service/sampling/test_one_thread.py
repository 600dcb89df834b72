"""One thread has the hold and the trace table to itself: neither has a lock, and what others show is handed to them."""

from __future__ import annotations

import threading
from collections import defaultdict
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import structlog

import ringbuf
from drain.sampling.hold.chunk import Chunk
from drain.sampling.hold.chunks import Chunks
from drain.sampling.hold.decisions import Decisions
from drain.sampling.hold.hold import Hold
from drain.sampling.hold.origins import Origins
from drain.sampling.hold.owners import Owners
from drain.sampling.rules import Rule, Rules
from drain.sampling.traces import Traces
from drain.service.late_sampling import LateSampling
from drain.service.rules_in_turn import RulesInTurn
from drain.service.sampling_plan import SamplingPlan
from tests.service.draining import ANY_RING, LAYOUT, emit, until
from tests.service.telemetry.watched import watched_service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

OF_ONE_THREAD: Final = (Chunk, Chunks, Decisions, Hold, LateSampling, Origins, Owners, RulesInTurn, Traces)


def rules(number: int) -> Rules:
    every = tuple(Rule(f"rule {number}, {at}", trace_spans_at_least=2 + at, ratio=0.5) for at in range(2))
    return Rules((*every, Rule("default")), 10**7, 10**7, 10**7)


def test_whoever_watches_or_reloads_calls_nothing_of_the_hold_or_the_table(
    ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: defaultdict[int, set[str]] = defaultdict(set)

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def noting(*arguments: Any, **options: Any) -> Any:
            callers[threading.get_ident()].add(name)
            return call(*arguments, **options)

        return noting

    for of in OF_ONE_THREAD:
        for name, member in list(vars(of).items()):
            if isinstance(member, property) and member.fget is not None:
                monkeypatch.setattr(of, name, property(noted(f"{of.__name__}.{name}", member.fget)))
            elif callable(member) and name != "__init__":
                monkeypatch.setattr(of, name, noted(f"{of.__name__}.{name}", member))
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1) as emitter,
        watched_service(ring_dir, tmp_path, monkeypatch, SamplingPlan(rules(0), hold)) as watched,
    ):
        watched.go_rounds(1)
        callers.clear()  # until then it is made, by this thread
        for number in range(1, 20):
            emit(emitter, range(number * 10, number * 10 + 10))
            watched.service.request_renewal(ANY_RING, rules(number))
            watched.service.request_audit()
            for path in ("/metrics", "/healthz", "/readyz"):
                watched.read(path)
        until(lambda: 'rule="rule 19' in watched.read("/metrics")[1])
        until(lambda: sorted(watched.backend.numbers) == list(range(10, 200)))
        service_thread = watched.thread.ident
        seen = {thread: sorted(names) for thread, names in callers.items() if thread != service_thread}
        assert not seen
        called = callers[service_thread or 0].copy()
        assert {name.partition(".")[0] for name in called} == {of.__name__ for of in OF_ONE_THREAD}
