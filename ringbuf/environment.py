"""Variables of the environment that say yes or no."""

from __future__ import annotations

import os

__all__ = ["is_true"]


def is_true(name: str, *others: str) -> bool:
    """Return whether a variable is "true", in any case, or one of some other words; unset, it is not.

    Args:
        name: of the variable.
        others: further words for yes. OpenTelemetry's own variables have none.

    Source: OpenTelemetry specification, "Environment Variable Specification", Boolean.
    """
    return os.environ.get(name, "").strip().lower() in ("true", *others)
