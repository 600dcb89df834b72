"""How many examples Hypothesis tries where a test names a number of its own, and which of its complaints are none."""

from __future__ import annotations

from typing import Final

import hypothesis
from hypothesis import HealthCheck

ABOUT_CHANCE: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
"""Checks that a sound test fails on a machine that is held up, or with one seed of many."""


def examples(full: int) -> int:
    """Return this number in the profile `full`, and the same part of it in another."""
    return max(1, full * hypothesis.settings().max_examples // hypothesis.settings.get_profile("full").max_examples)
