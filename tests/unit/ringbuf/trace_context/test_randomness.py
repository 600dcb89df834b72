"""Trace ids are as random as W3C's random flag says: R, their low 56 bits, keeps the share that T stands for.

Of 10^9 sound runs one may fail, all counts below together: of each count the chance is below e^-UNLIKELY.
"""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
from ringbuf.sampling import THRESHOLDS, threshold_of
from tests.records import fresh_records

if TYPE_CHECKING:
    from pathlib import Path

Randomness = np.ndarray[Any, np.dtype[np.uint64]]

COUNT = 1 << 17
PROBABILITIES = [0.9, 0.75, 0.5, 1 / 3, 0.25, 0.1, 0.05, 0.01, 0.003, 0.001]
UNLIKELY = 31  # two sides of fewer than 6,500 counts: 13,000 / e^31 is below 10^-9


def randomness_of(trace_ids: np.ndarray[Any, np.dtype[Any]]) -> Randomness:
    """Return R of trace ids, uint8 of shape (n, 16)."""
    low = np.ascontiguousarray(trace_ids[:, 8:]).view(">u8").ravel().astype(np.uint64)
    found: Randomness = low & np.uint64(THRESHOLDS - 1)
    return found


@pytest.fixture(scope="module")
def consecutive(tmp_path_factory: pytest.TempPathFactory) -> Randomness:
    ring_dir = tmp_path_factory.mktemp("rings")
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4, lanes=1) as emitter:
        return randomness_of(fresh_records(emitter, COUNT)["trace_id"])


FORKING = f"""
import os, sys, numpy as np, ringbuf
from tests.records import fresh_records
from tests.unit.ringbuf.trace_context.test_randomness import randomness_of
with ringbuf.Emitter("shop", ring_dir=sys.argv[1], capacity=4, lanes=1) as emitter:
    for child in range(64):
        fresh_records(emitter, 1)
        if not (pid := os.fork()):
            # The first of each child: which are told apart by nothing but their seeds.
            os.write(1, randomness_of(fresh_records(emitter, {COUNT // 64})["trace_id"]).tobytes())
            os._exit(0)
        os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Randomness:
    """Return R of the ids of 64 forked children in turns: one of each, then the next of each."""
    command = [sys.executable, "-c", FORKING, str(tmp_path_factory.mktemp("rings"))]
    result = subprocess.run(command, capture_output=True, check=True, timeout=120)
    found: Randomness = np.frombuffer(result.stdout, np.uint64).reshape(64, -1).T.ravel()
    return found


@pytest.fixture(params=["consecutive", "forked"])
def values(request: pytest.FixtureRequest) -> Randomness:
    found: Randomness = request.getfixturevalue(request.param)
    assert len(found) == COUNT
    return found


def is_likely(count: int, of: int, probability: float) -> bool:
    """Whether so many of independent events may happen: Chernoff's bound, which holds of rare ones, too."""
    pairs = ((count / of, probability), (1 - count / of, 1 - probability))
    return of * sum(found * math.log(found / expected) for found, expected in pairs if found) <= UNLIKELY


def test_each_bit_is_set_in_half_of_them(values: Randomness) -> None:
    for bit in range(56):
        assert is_likely(int((values >> np.uint64(bit) & np.uint64(1)).sum()), COUNT, 0.5), bit


def test_no_two_bits_go_together(values: Randomness) -> None:
    bits = [int.from_bytes(np.packbits((values >> np.uint64(bit) & np.uint64(1)).astype(bool))) for bit in range(56)]
    for one in range(56):
        for other in range(one):
            assert is_likely((bits[one] & bits[other]).bit_count(), COUNT, 0.25), (one, other)


@pytest.mark.parametrize("shift", [0, 13, 26, 39, 48])
def test_each_byte_is_as_likely_as_any_other(values: Randomness, shift: int) -> None:
    counts = np.bincount((values >> np.uint64(shift) & np.uint64(255)).astype(np.int64), minlength=256)
    assert all(is_likely(int(count), COUNT, 1 / 256) for count in counts)


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_a_threshold_keeps_the_share_that_it_stands_for(values: Randomness, probability: float) -> None:
    threshold = threshold_of(probability)
    actual = 1 - threshold / THRESHOLDS
    is_kept = values >= np.uint64(threshold)
    assert is_likely(int(is_kept.sum()), COUNT, actual)
    # What is kept says nothing of the next one: nor do two neighbours go together, nor the first and the third.
    for apart in (1, 2, 64):
        for some in (is_kept, is_kept[apart:-apart]):
            pairs = some.reshape(-1, 2, apart)  # of which none has a value of another: they are independent
            assert is_likely(int((pairs[:, 0] & pairs[:, 1]).sum()), len(some) // 2, actual**2)


def test_no_two_are_the_same(consecutive: Randomness, forked: Randomness) -> None:
    """2^18 values of 56 bits: two that are the same are expected once in 2 million runs, and once more in 10^13."""
    assert len(np.unique(np.concatenate([consecutive, forked]))) >= 2 * COUNT - 1


def test_a_root_says_that_its_id_is_random(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    layout = ringbuf.SpanLayout(span_names=["a"], attributes=[])
    with ringbuf.Emitter("shop", layout=layout, ring_dir=ring_dir) as emitter, emitter.site("a").span() as root:
        assert root.traceparent.endswith("-03")
        with emitter.site("a").span() as child:
            assert child.traceparent.endswith("-03")
    assert ringbuf.TraceContext.root().traceparent.endswith("-03")
    assert ringbuf.TraceContext.root(sampled=False).traceparent.endswith("-02")
