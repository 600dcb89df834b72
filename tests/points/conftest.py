from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nursery import Nursery, shared
from tests.points.points_build import points_build
from tests.points.receiver import Receiver
from tests.points.scene import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def clean() -> Nursery:
    """Return the zygote of the packages that are installed."""
    return shared()


@pytest.fixture(scope="session")
def pair(clean: Nursery) -> Iterator[Pair]:
    """Return the zygotes that fork what is killed, and what comes after it."""
    with Nursery(points_build()) as points:
        yield Pair(points, clean)


@pytest.fixture(scope="session")
def listening() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def receiver(listening: Receiver) -> Receiver:
    """Return a receiver that has taken nothing yet, and takes all."""
    listening.reset("takes")
    return listening
