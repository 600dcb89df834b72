"""What a span costs to meet its trace: the trace table beside a plain dict of lists, in turns, at 10^4 to 10^6 traces.

`python -m bench.cost.traces` prints a table: processor time, in ns a span, median of the rounds [smallest … largest].
Traces of ten spans, which come while the next N traces begin; all wait their five seconds, a half is kept. *Look* is
the table's part alone; *all* is with what is due, its fates, and their places. The dict finds its list and appends.
*Least* is the quickest of all looks: on a machine that others use, too, it is what the table takes when they do not.

With `--full` the table has room for six tenths of them: each new trace has the oldest decided early. And one span in
thirty fails, which decides its trace at once: so what becomes free lies in no order.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from typing import Final, NamedTuple

import numpy as np

from bench.measure import Figure
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.traces import Traces
from ringbuf.dataplane import DATAPLANE_LAYOUT

_SPANS_A_TRACE: Final = 10
_LOOK: Final = 4096
_WAIT_NANO: Final = 5_000_000_000
_FAILING: Final = 1 / 30  # of the spans, in a full table
_RULES: Final = Rules((Rule("errors", statuses=frozenset({2})), Rule(DEFAULT, ratio=0.5)), wait_nano=_WAIT_NANO)


class Round(NamedTuple):
    """Processor time in ns a span."""

    look: float
    least: float
    all: float
    by_dict: float
    live: int


class Stream:
    """Spans of traces that begin one after the other, `live` of them at a time, in looks.

    Args:
        live: traces.
        seed: of ids, and of which spans come when.
        failing: share of the spans.

    Attributes:
        masks: of the look that came last, u64, shape (_LOOK,): bit 0 of those that fail.
        now_nano: when it came.
    """

    def __init__(self, live: int, seed: int, *, failing: float) -> None:
        self._source = np.random.default_rng(seed)
        self._live = live
        self._failing = failing
        self.masks = np.full(_LOOK, 2, np.uint64)
        self._ids = self._source.integers(0, 256, (live, 16), np.uint8)
        self._spans = 0
        self._records = np.zeros(_LOOK, DATAPLANE_LAYOUT.dtype)
        self._records["flags"] = 0x103
        self._records["parent_span_id"] = 1
        self.now_nano = _WAIT_NANO

    def next(self) -> np.ndarray:
        """Return a look's records; the same array each time."""
        traces = (self._spans + np.arange(_LOOK)) // _SPANS_A_TRACE
        # Each id stands for one trace after the other; it is not used for another within the wait.
        spread = self._source.integers(0, max(1, self._live * 9 // 10), _LOOK)
        self._records["trace_id"] = self._ids[(traces - spread) % self._live]
        begun = np.unique((traces + 1) % self._live)
        self._ids[begun] = self._source.integers(0, 256, (len(begun), 16), np.uint8)
        self._spans += _LOOK
        if self._failing:
            self.masks = np.where(self._source.random(_LOOK) < self._failing, np.uint64(3), np.uint64(2))
        self.now_nano += _WAIT_NANO * _LOOK // (self._live * _SPANS_A_TRACE)
        return self._records


def measure(live: int, seconds: float, seed: int, *, is_full: bool) -> Round:
    """Fill a table with so many traces, then measure for some seconds of processor time."""
    room = live * 6 // 10 if is_full else 2 * live
    table = Traces(_RULES, bytes(16), traces=room, spans=2 * live * _SPANS_A_TRACE, decided=live, look=_LOOK)
    origin = table.join()
    places = np.arange(_LOOK, dtype=np.uint64)
    stream = Stream(live, seed, failing=_FAILING if is_full else 0)
    look_nano = all_nano = spans = 0
    least_nano = sys.maxsize

    def take_all() -> None:
        while table.take() is not None:
            pass

    def turn(records: np.ndarray) -> tuple[int, int]:
        begin = time.thread_time_ns()
        table.decide_due(stream.now_nano)
        take_all()
        middle = time.thread_time_ns()
        looked = table.look(origin, records, stream.masks, stream.now_nano)
        end = time.thread_time_ns()
        table.place(looked, places[: len(looked.held)])
        take_all()
        return end - middle, time.thread_time_ns() - begin

    for _ in range(2 * live * _SPANS_A_TRACE // _LOOK + 1):
        turn(stream.next())
    found: dict[bytes, list[int]] = {}
    dict_nano = 0
    while all_nano < seconds * 1e9:
        records = stream.next()
        look, together = turn(records)
        look_nano, all_nano, spans = look_nano + look, all_nano + together, spans + _LOOK
        least_nano = min(least_nano, look)
    live_now = table.counts().waiting_traces
    for number, trace_id in enumerate(stream._ids.view("V16").ravel().tolist()):  # noqa: SLF001 - its own
        found[trace_id] = [number]
    looks = max(1, spans // _LOOK // 4)
    gc.disable()  # it would go over all these lists again and again
    for _ in range(looks):
        ids = stream.next()["trace_id"].copy().view("V16").ravel().tolist()
        begin = time.thread_time_ns()
        for place, trace_id in enumerate(ids):
            waiting = found.get(trace_id)
            if waiting is None:
                waiting = found[trace_id] = []
            waiting.append(place)
        dict_nano += time.thread_time_ns() - begin
    gc.enable()
    return Round(look_nano / spans, least_nano / _LOOK, all_nano / spans, dict_nano / (looks * _LOOK), live_now)


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round, of processor time (1)")
    parser.add_argument("--live", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="traces")
    parser.add_argument("--full", action="store_true", help="a table without room for them")
    options = parser.parse_args()
    titles = ("traces that wait", "look ns", "least ns", "all ns", "dict ns", "look / dict")
    print("| " + " | ".join(titles) + " |\n" + "|" + " ---: |" * len(titles))
    for live in options.live:
        rounds = [measure(live, options.seconds, seed, is_full=options.full) for seed in range(options.rounds)]
        look, least, together, by_dict = (Figure.of(values) for values in list(zip(*rounds, strict=True))[:4])
        cells = [f"{rounds[-1].live:,}", *map(_shown, (look, least, together, by_dict, look.over(by_dict)))]
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0


def _shown(figure: Figure) -> str:
    return f"{figure.median:.3g} [{figure.low:.3g} … {figure.high:.3g}]"


if __name__ == "__main__":
    sys.exit(main())
