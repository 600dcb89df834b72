"""How many examples Hypothesis tries where a test names a number of its own."""

from __future__ import annotations

import hypothesis

_FULL = hypothesis.settings.get_profile("full").max_examples


def examples(full: int) -> int:
    """Return this number in the profile `full`, and the same part of it in another."""
    return max(1, full * hypothesis.settings().max_examples // _FULL)
