from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def environment_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the person who runs the tests away from loopback traffic."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
