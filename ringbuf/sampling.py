"""Whether a root span is sampled, as OTEL_TRACES_SAMPLER says and the OpenTelemetry SDK decides.

Only roots are decided here. A span with a parent follows the parent's `sampled` flag, whatever the sampler is called:
`always_on` and `parentbased_always_on` mean the same here, and so do the other two pairs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ringbuf.log import warn_aside

if TYPE_CHECKING:
    from collections.abc import Mapping

_TWO_TO_64: Final = 1 << 64
_DEFAULT: Final = "parentbased_always_on"
# None: the bound comes from the argument.
_BOUND_OF_SAMPLER: Final[dict[str, int | None]] = {
    "always_on": _TWO_TO_64,
    "always_off": 0,
    "traceidratio": None,
    "parentbased_always_on": _TWO_TO_64,
    "parentbased_always_off": 0,
    "parentbased_traceidratio": None,
}


def root_sampling_bound(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number below which the low 64 bits of a trace id must lie for its root span to be sampled.

    An unknown sampler counts as `parentbased_always_on`, and an argument that is no number from 0 to 1 as 1.0; each is
    warned about on the logger `ringbuf`. An empty variable counts as unset.

    Args:
        environ: where OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG are looked up.

    Returns:
        0 (no root) to 2**64 (every root). The latter needs 65 bits.

    Source: OpenTelemetry specification, "Environment Variable Specification"; the ratio is the Python SDK's.

    >>> root_sampling_bound({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}) == 2**62
    True
    """
    given = environ.get("OTEL_TRACES_SAMPLER") or _DEFAULT
    sampler = given.lower()
    if sampler not in _BOUND_OF_SAMPLER:
        warn_aside("OTEL_TRACES_SAMPLER=%s is not known here; roots are sampled as by %s", given, _DEFAULT)
        sampler = _DEFAULT
    bound = _BOUND_OF_SAMPLER[sampler]
    return _ratio_bound(environ.get("OTEL_TRACES_SAMPLER_ARG") or "1.0") if bound is None else bound


def is_root_sampled(trace_id: bytes, bound: int) -> bool:
    """Return whether the root span of a trace is sampled.

    Args:
        trace_id: 16 bytes.
        bound: what `root_sampling_bound` returned.

    >>> is_root_sampled(bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bound=0xA3CE929D0E0E4737)
    True
    """
    return int.from_bytes(trace_id[8:16], "big") < bound


def _ratio_bound(argument: str) -> int:
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:  # NaN too
        warn_aside("OTEL_TRACES_SAMPLER_ARG=%s is no number from 0 to 1; every root is sampled", argument)
        return _TWO_TO_64
    return round(ratio * _TWO_TO_64)
