"""Which traces a service keeps, and where their spans wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.hold import Hold
    from drain.sampling.rules import Rules


class SamplingPlan(NamedTuple):
    """Late sampling of one service.

    Attributes:
        rules: decide.
        hold: has the spans that wait; its service closes it.
        rules_file: from which the rules are; None: from none.
    """

    rules: Rules
    hold: Hold
    rules_file: Path | None = None
