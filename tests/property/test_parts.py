"""Whatever becomes of the parts of a batch, in whatever order: it is settled once, and every sum is exact."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.otlp.request import Request
from drain.rings.segment import Segment

NOBODY: Any = None
SERVICES = ("shop", "bank", "post")


@st.composite
def batches(draw: st.DrawFn) -> tuple[Batch, list[Request]]:
    """Make a batch of a few segments whose spans were dealt out to a few parts."""
    sizes = draw(st.lists(st.tuples(st.sampled_from(SERVICES), st.integers(1, 9)), min_size=1, max_size=6))
    count = draw(st.integers(1, 5))
    dealt: list[Counter[str]] = [Counter() for _ in range(count)]
    segments = []
    for service, spans in sizes:
        ring: Any = SimpleNamespace(service=service)
        segments.append(Segment(ring, NOBODY, spans, invalid=draw(st.integers(0, 2))))
        for _ in range(spans):
            dealt[draw(st.integers(0, count - 1))][service] += 1
    parts = [Request(b"", services.total(), "protobuf", str(at), services) for at, services in enumerate(dealt)]
    return Batch(parts, segments), parts


@st.composite
def outcomes(draw: st.DrawFn, part: Request) -> Outcome:
    """Make what may become of a part: all of it is stored, or each span of it is delivered or not."""
    if draw(st.booleans()):
        return Outcome(spooled=part.spans)
    rejected = draw(st.integers(0, part.spans))
    dead_lettered = draw(st.integers(0, part.spans - rejected))
    return Outcome(part.spans - rejected - dead_lettered, 0, rejected, dead_lettered)


@given(st.data())
def test_a_batch_is_settled_once_with_the_exact_sums(data: st.DataObject) -> None:
    batch, parts = data.draw(batches())
    verdicts = [data.draw(outcomes(part)) for part in parts]
    order = data.draw(st.permutations(range(len(parts))))
    for at in order[:-1]:
        assert not batch.decide(at, verdicts[at])
    assert all(segment.outcome is None for segment in batch.segments)
    assert batch.decide(order[-1], verdicts[order[-1]])
    became = [segment.outcome or Outcome() for segment in batch.segments]
    assert [sum(outcome) for outcome in became] == [one.spans + one.invalid for one in batch.segments]
    invalid = sum(segment.invalid for segment in batch.segments)
    assert _sum(became) == _sum(verdicts)._replace(invalid=invalid)
    for service in SERVICES:
        here = [outcome for one, outcome in zip(batch.segments, became, strict=True) if one.service == service]
        stored = sum(part.services[service] for part, v in zip(parts, verdicts, strict=True) if v.spooled)
        assert _sum(here).spooled == stored, "as many as the spool counts of it"


def _sum(outcomes: list[Outcome]) -> Outcome:
    return Outcome(*map(sum, zip(Outcome(), *outcomes, strict=True)))
