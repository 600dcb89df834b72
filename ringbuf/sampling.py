"""Whether a root span is sampled, as OTEL_TRACES_SAMPLER says.

Only roots are decided here. A span with a parent follows the parent's `sampled` flag, whatever the sampler is called:
`always_on` and `parentbased_always_on` mean the same here, and so do the other pairs. `traceidratio` decides as the
OpenTelemetry SDK does. `probability`, which the SDK does not have, is OpenTelemetry's consistent probability sampling:
a root is kept exactly if R >= T, so that all who sample by that rule agree, and its span says what it stands for.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from ringbuf.log import warn_aside

if TYPE_CHECKING:
    from collections.abc import Mapping

THRESHOLDS: Final = 1 << 56
"""Rejection thresholds, and randomness values, are below it."""

_TWO_TO_64: Final = 1 << 64
_DIGITS: Final = 14  # of a threshold, in hex
_PRECISION: Final = 4  # the digits that the specification recommends
_DEFAULT: Final = "parentbased_always_on"


class RootSampler(NamedTuple):
    """How roots are sampled.

    Attributes:
        bound: the number below which the low 64 bits of a trace id must lie, 0 (no root) to 2**64 (every root); the
            latter needs 65 bits. Not looked at where there is a threshold.
        threshold: T, below 2**56: a root is sampled exactly if R >= T. None: that is not how these roots are sampled.
    """

    bound: int
    threshold: int | None = None


ALWAYS: Final = RootSampler(_TWO_TO_64, 0)
NEVER: Final = RootSampler(0)
_SAMPLERS: Final[dict[str, RootSampler | None]] = {
    "always_on": ALWAYS,
    "always_off": NEVER,
    "traceidratio": None,  # comes from the argument
    "probability": None,
    "parentbased_always_on": ALWAYS,
    "parentbased_always_off": NEVER,
    "parentbased_traceidratio": None,
    "parentbased_probability": None,
}


def root_sampler(environ: Mapping[str, str] = os.environ) -> RootSampler:
    """Return how the root spans of this process are sampled.

    An unknown sampler counts as `parentbased_always_on`, and an argument that is no number from 0 to 1 as 1.0; each is
    warned about on the logger `ringbuf`. An empty variable counts as unset.

    Args:
        environ: where OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG are looked up.

    Source: OpenTelemetry specification, "Environment Variable Specification"; the ratio is the Python SDK's.

    >>> root_sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}).bound == 2**62
    True
    >>> hex(root_sampler({"OTEL_TRACES_SAMPLER": "probability", "OTEL_TRACES_SAMPLER_ARG": "0.25"}).threshold)
    '0xc0000000000000'
    """
    given = environ.get("OTEL_TRACES_SAMPLER") or _DEFAULT
    name = given.lower()
    if name not in _SAMPLERS:
        warn_aside("OTEL_TRACES_SAMPLER=%s is not known here; roots are sampled as by %s", given, _DEFAULT)
        name = _DEFAULT
    sampler = _SAMPLERS[name]
    if sampler is not None:
        return sampler
    ratio = _ratio(environ.get("OTEL_TRACES_SAMPLER_ARG") or "1.0")
    if not name.endswith("probability"):
        return RootSampler(round(ratio * _TWO_TO_64))
    # A probability below the least that there is, 2**-56, is that of never.
    return RootSampler(0, threshold_of(ratio)) if ratio * THRESHOLDS >= 1 else NEVER


def is_root_sampled(trace_id: bytes, sampler: RootSampler) -> bool:
    """Return whether the root span of a trace is sampled.

    Args:
        trace_id: 16 bytes.
        sampler: what `root_sampler` returned.

    >>> is_root_sampled(bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), RootSampler(0xA3CE929D0E0E4737))
    True
    """
    if sampler.threshold is not None:
        return randomness(trace_id) >= sampler.threshold
    return int.from_bytes(trace_id[8:16], "big") < sampler.bound


def randomness(trace_id: bytes) -> int:
    """Return R of a trace, of 16 bytes, without `rv` in its tracestate: the low 56 bits of its id."""
    return int.from_bytes(trace_id[9:16], "big")


def threshold_of(probability: float) -> int:
    """Return the rejection threshold T that keeps this share of all traces, rounded to four significant hex digits.

    Digits that are `f` at the front are not significant: they only say how small the probability is. What is kept is
    decided with the rounded threshold, so that a span that states it states the truth.

    Args:
        probability: 2**-56 to 1.

    Source: OpenTelemetry specification, "TraceState: Probability Sampling", its table of 1 in N.

    >>> threshold_text(threshold_of(0.01))
    'fd70a'
    """
    numerator, denominator = probability.as_integer_ratio()
    _, exponent = math.frexp(probability)
    unit = 1 << 4 * (_DIGITS - min(_DIGITS, _PRECISION + -exponent // 4))
    step = denominator * unit
    threshold = (2 * (denominator - numerator) * THRESHOLDS + step) // (2 * step) * unit
    return min(threshold, THRESHOLDS - unit)


def threshold_text(threshold: int) -> str:
    """Return what stands behind `th:` in a tracestate: 1 to 14 hex digits.

    >>> threshold_text(0), threshold_text(1 << 55)
    ('0', '8')
    """
    return f"{threshold:014x}".rstrip("0") or "0"


def _ratio(argument: str) -> float:
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:  # NaN too
        warn_aside("OTEL_TRACES_SAMPLER_ARG=%s is no number from 0 to 1; every root is sampled", argument)
        return 1.0
    return ratio
