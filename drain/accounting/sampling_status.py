"""What late sampling does, as those see it who watch the drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSAMPLED: Final = "unsampled"
"""The built-in rule of the spans that the head did not want."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """What a rule decided since the drain began; in a dry run, what it would have decided.

    Attributes:
        traces: by what ended the wait for more of them.
        kept_traces: of these.
        kept_spans: of the traces that it decided, late ones too.
        sampled_out_spans: the same.
        probability: share of its traces that it keeps now, 0 to 1.
    """

    traces: Mapping[str, int]
    kept_traces: int = 0
    kept_spans: int = 0
    sampled_out_spans: int = 0
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class SamplingStatus:
    """What rules on whole traces decided since the drain began, and what waits for them.

    Attributes:
        rules: by name, those in effect.
        is_dry_run: all is delivered, the rules only count.
        unsampled: spans that their head did not want.
        late: spans of traces that were decided before they came.
        late_kept: of these, those that were kept for themselves.
        waiting_spans: of traces that are not decided.
        waiting_traces: these.
        oldest_wait_seconds: for how long the oldest of them waits; 0 where none does.
        malformed_trace_states: tracestates whose `ot` entry could not be read: they say nothing, and stay as they are.
    """

    rules: Mapping[str, RuleStatus]
    is_dry_run: bool = False
    unsampled: int = 0
    late: int = 0
    late_kept: int = 0
    waiting_spans: int = 0
    waiting_traces: int = 0
    oldest_wait_seconds: float = 0.0
    malformed_trace_states: int = 0
