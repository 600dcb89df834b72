"""SIGKILL of producer and drain at every named point: no published span is lost, and the next run starts clean."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.points.scene import Pair, Scene
from tests.points.table import DRAIN_POINTS, PRODUCER_POINTS, DrainPoint, ProducerPoint
from tests.sampled import every
from tests.seeds import drawn_seed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.points.receiver import Receiver

SEED = drawn_seed()


def partners() -> list[ProducerPoint]:
    """Return a producer point for each of the drain, by the seed: each of them comes up at least once."""
    dice = random.Random(SEED)  # noqa: S311 - a seed is what is wanted
    chosen: list[ProducerPoint] = []
    while len(chosen) < len(DRAIN_POINTS):
        chosen += dice.sample(PRODUCER_POINTS, len(PRODUCER_POINTS))
    return chosen[: len(DRAIN_POINTS)]


def kill_both(
    producer: ProducerPoint, point: DrainPoint, ring_dir: Path, folder: Path, pair: Pair, receiver: Receiver
) -> None:
    dice = random.Random(f"{SEED} {producer.name} {point.name}")  # noqa: S311
    nth, drain_nth = dice.randint(1, producer.most), dice.randint(1, point.most)
    print(f"RINGBUF_TEST_SEED={SEED}: {producer.name}:{nth} and {point.name}:{drain_nth}")  # noqa: T201
    with Scene(ring_dir, folder, receiver) as scene:
        scene.run(producer, nth, point, drain_nth, pair)


@pytest.mark.parametrize("at", every(8, range(len(DRAIN_POINTS)), lambda at: DRAIN_POINTS[at].name))
def test_a_kill_at_each_point_loses_nothing(
    at: int, ring_dir: Path, tmp_path: Path, pair: Pair, receiver: Receiver
) -> None:
    kill_both(partners()[at], DRAIN_POINTS[at], ring_dir, tmp_path, pair, receiver)


@pytest.mark.soak
@pytest.mark.parametrize("at", range(len(DRAIN_POINTS)), ids=[point.name for point in DRAIN_POINTS])
def test_a_kill_at_each_pair_of_points_loses_nothing(
    at: int, ring_dir: Path, tmp_path: Path, pair: Pair, receiver: Receiver
) -> None:
    for producer in PRODUCER_POINTS:
        rings, rest = ring_dir / producer.name, tmp_path / producer.name
        rings.mkdir(mode=0o700)
        rest.mkdir()
        kill_both(producer, DRAIN_POINTS[at], rings, rest, pair, receiver)
        shutil.rmtree(rings)
        shutil.rmtree(rest)
