"""The network of the fleet's tests, or a visible reason why there is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fleet.network import Network, NoNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def network(missing_debian: Callable[[str], str]) -> Iterator[Network]:
    """Return a router without nodes; after the test nothing of it is left."""
    for program in ("ip", "tc", "nft"):
        if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            missing_debian(program)
    try:
        made = Network()
    except NoNetwork as reason:
        pytest.skip(str(reason))
    with made:
        yield made
