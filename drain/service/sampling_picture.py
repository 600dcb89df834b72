"""Late sampling as `ringbuf list`, `top` and `report` show it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from drain.accounting.hold_sums import HoldSums
from drain.sampling.hold.picture import OfRule, OfService, Picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.accounting.sampling_status import SamplingStatus
    from drain.sampling.hold.chunk import RingKey
    from drain.sampling.hold.hold import Hold


def picture_of(
    status: SamplingStatus, hold: Hold, rings: Mapping[RingKey, int], dropped_at_once: Mapping[str, int]
) -> Picture:
    """Return what is to be shown.

    Args:
        status: of the rules.
        hold: what became of the held spans.
        rings: how many spans of each wait.
        dropped_at_once: spans that were decided before they were held, by service.
    """
    services = dict.fromkeys(dropped_at_once, HoldSums()) | hold.sums()
    return Picture(
        drain_pid=os.getpid(),
        time_unix_nano=time.time_ns(),
        dry_run=status.is_dry_run,
        used_bytes=hold.used_bytes,
        capacity_bytes=hold.capacity_bytes,
        waiting_traces=status.waiting_traces,
        waiting_spans=status.waiting_spans,
        oldest_wait_seconds=round(status.oldest_wait_seconds, 3),
        rings=rings,
        services={
            service: OfService(
                waiting=sums.waiting,
                kept=sums.delivered + sums.spooled + sums.rejected + sums.dead_lettered,
                sampled_out=sums.sampled_out + dropped_at_once.get(service, 0),
                lost=sums.lost + sums.invalid,
            )
            for service, sums in services.items()
        },
        rules={
            name: OfRule(
                sum(rule.traces.values()),
                rule.kept_traces,
                rule.kept_spans,
                rule.sampled_out_spans,
                round(rule.probability, 9),
            )
            for name, rule in status.rules.items()
        },
    )
