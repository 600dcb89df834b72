"""Default rings while each span waits five seconds for its decision: is anything of it seen outside the drain?

`python -m bench.deliver.waits` runs a drain with rules, which keeps 1 %, and one without, in turns, and prints a row of
each. Traces have ten spans and no root, so that each waits `wait`, 5 s from its first span. *Dropped* are spans that
found no room in a ring once all was warm, *early* traces that were decided for want of room. *In the rings* is how long
a span stays there: what is pending over the rate, at each of the producer's ticks. *Idle* is how much of a core the
drain leaves, while spans come and are decided, and once nothing comes any more. *Hold* is the most that was in use of
it, over rate x wait x (slot + 4 bytes). Each figure is the median of the rounds [smallest ... largest].
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Final, NamedTuple

from bench.deliver.late_sampling import Bench
from bench.measure import Figure, processor_seconds
from ringbuf.dataplane import DATAPLANE_LAYOUT
from ringbuf.ring.settings import DEFAULT_CAPACITY

_WAIT_SECONDS: Final = 5.0
_WARM_SECONDS: Final = _WAIT_SECONDS + 2
_QUIET_SECONDS: Final = 5.0
_WORD_BYTES: Final = 4  # of a record in the hold
_TITLES: Final = (
    "drain",
    "dropped",
    "early",
    "in the rings, ms",
    "at most, ms",
    "wait_drained, ms",
    "idle, % of a core",
    "then, %",
    "hold",
)


class Trial(NamedTuple):
    """What one trial found; see above."""

    dropped: float
    early: float
    in_rings: float
    at_most: float
    drained: float
    idle: float
    then: float
    hold: float


def trial(bench: Bench, rate: float, seconds: float) -> Trial:
    """Emit until the first traces are decided, then measure as long as is asked for."""
    with bench.producer() as producer:
        producer.emit(1.0, 1.0)
        producer.wait_drained()
        producer.emit(rate, _WARM_SECONDS)
        pending: list[int] = []
        hold, lost = 0, producer.lost()
        before = processor_seconds(bench.pid)
        for _ in range(int(seconds)):
            producer.emit(rate, 1.0, each_tick=lambda: pending.append(producer.pending()))
            hold = max(hold, bench.hold_bytes())
        used = processor_seconds(bench.pid) - before
        last = time.perf_counter()
        producer.wait_drained()
        drained = time.perf_counter() - last
        time.sleep(_WARM_SECONDS)  # until what waits is decided and delivered: that is no idleness
        before = processor_seconds(bench.pid)
        time.sleep(_QUIET_SECONDS)  # what is measured: a drain to which nothing comes
        then = processor_seconds(bench.pid) - before
        dropped = producer.lost() - lost
    return Trial(
        dropped=dropped,
        early=bench.early(),
        in_rings=1000 * statistics.median(pending) / rate,
        at_most=1000 * max(pending) / rate,
        drained=1000 * drained,
        idle=100 * (1 - used / int(seconds)),
        then=100 * (1 - then / _QUIET_SECONDS),
        hold=hold / (rate * _WAIT_SECONDS * (DATAPLANE_LAYOUT.slot_bytes + _WORD_BYTES)),
    )


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.waits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each drain, in turns (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a trial, beside 7 at its start (8)")
    parser.add_argument("--rate", type=float, default=100_000.0, help="spans a second, of all rings (100,000)")
    parser.add_argument("--rings", type=int, default=8, help="of the default capacity (8)")
    of = parser.parse_args()
    benches = {
        name: Bench("open", DEFAULT_CAPACITY, is_late=is_late, has_metrics=True, rings=of.rings)
        for name, is_late in (("without rules", False), ("1 % kept", True))
    }
    found: dict[str, list[Trial]] = {name: [] for name in benches}
    try:
        for _ in range(of.rounds):
            for name, bench in benches.items():
                found[name].append(trial(bench, of.rate, of.seconds))
    finally:
        for bench in benches.values():
            bench.close()
    print("| " + " | ".join(_TITLES) + " |\n| --- |" + " ---: |" * (len(_TITLES) - 1))
    for name, trials in found.items():
        print("| " + " | ".join([name, *(_shown(values) for values in zip(*trials, strict=True))]) + " |")
    return 0


def _shown(values: tuple[float, ...]) -> str:
    figure = Figure.of(values)
    return f"{figure.median:.3g} [{figure.low:.3g} … {figure.high:.3g}]"


if __name__ == "__main__":
    sys.exit(main())
