"""Seeds of tests that draw: the same in `make test`, so that a run is like the one before; others in `make prove`."""

from __future__ import annotations

import os
import secrets

import hypothesis

# Read now: tests do not see variables of this name.
_GIVEN = os.environ.get("RINGBUF_TEST_SEED")
_USUAL = 219


def drawn_seed() -> int:
    """Return a seed below 2**32, and print it: RINGBUF_TEST_SEED, which repeats a failure, where it is set."""
    proves = hypothesis.settings().max_examples == hypothesis.settings.get_profile("full").max_examples
    seed = int(_GIVEN) if _GIVEN else secrets.randbits(32) if proves else _USUAL
    print(f"RINGBUF_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when a test fails
    return seed
