"""SIGKILL of the drain again and again while traces wait, and other rules each time: judged by what a receiver got.

Traces of several shapes come all the time: in one ring or over two, at once or over several lives of the drain. None is
torn, none of the highest R is missing, and what is kept stands for all that was emitted.
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import ringbuf
from drain.sampling.trace_state import stated
from ringbuf.sampling import THRESHOLDS
from tests.otlp_server import OtlpHttpServer
from tests.service.draining import LAYOUT, DrainProcess, number_of, records, run_once

if TYPE_CHECKING:
    from pathlib import Path

SECOND: Final = 10**9
ERROR: Final = 2
TRACES_OF_A_LIFE: Final = 24
BEGIN: Final = '[sampling]\nwait = "{wait}ms"\nwait_after_root = "{wait}ms"\nincoming = "all"\n'
FAILURES: Final = '[[sampling.rule]]\nname = "failures"\nstatus = "error"\n'
# Not the first: a trace may be dropped of which one span meets a rule that keeps all.
SLOW: Final = '[[sampling.rule]]\nname = "slow"\nlonger_than = "1s"\nratio = 0.5\n'
RULES: Final = (
    BEGIN.format(wait=150) + FAILURES + '[[sampling.rule]]\nname = "rest"\nratio = 0.25\n',
    BEGIN.format(wait=40) + SLOW + FAILURES + '[[sampling.rule]]\nname = "others"\nratio = 0.0625\n',
    BEGIN.format(wait=80) + 'kept_spans_per_second = 60\ndefault = "keep"\n' + FAILURES,
    BEGIN.format(wait=1000) + FAILURES + '[[sampling.rule]]\nname = "rest"\ntraces_per_second = 20\n',
)


class Shop:
    """Two services that emit spans of common traces, and the ledger of what they emitted.

    Attributes:
        numbers: of the spans, by trace id.
        at_once: the traces that came in one ring with one store: no span of one is ever late.
        highest: the traces whose R is the highest: whatever the thresholds, they are kept.
    """

    def __init__(self, ring_dir: Path, dice: random.Random) -> None:
        self.dice = dice
        self.emitters = [
            ringbuf.Emitter(name, ring_dir=ring_dir, layout=LAYOUT, capacity=65536, lanes=1)
            for name in ("shop", "store")
        ]
        self.numbers: dict[bytes, list[int]] = defaultdict(list)
        self.at_once: set[bytes] = set()
        self.highest: set[bytes] = set()
        self._next = 0
        self._to_come: list[tuple[int, np.ndarray[Any, Any]]] = []

    def emit(self, count: int) -> None:
        """Begin so many traces, and go on with those that have begun."""
        now: list[list[np.ndarray[Any, Any]]] = [[], []]
        for _ in range(count):
            made = self._trace()
            trace_id = made["trace_id"][0].tobytes()
            if self.dice.random() < 0.5:
                now[self.dice.randrange(2)].append(made)
                self.at_once.add(trace_id)
                continue
            for at, one in enumerate(made):
                self._to_come.append((at + self.dice.randrange(4) if at else 0, one.reshape(1)))
        coming, self._to_come = self._to_come, []
        for lives, one in coming:
            if lives <= 0:
                now[self.dice.randrange(2)].append(one)
            else:
                self._to_come.append((lives - 1, one))
        for emitter, parts in zip(self.emitters, now, strict=True):
            if parts:
                batch = np.concatenate([part.view(np.uint8) for part in parts]).view(LAYOUT.dtype)
                assert emitter.emit_batch(batch) == len(batch)

    def finish(self) -> None:
        while self._to_come:
            self.emit(0)
        for emitter in self.emitters:
            emitter.close()

    def _trace(self) -> np.ndarray[Any, Any]:
        count = self.dice.randint(1, 5)
        made = records(self.emitters[0], range(self._next, self._next + count))
        self._next += count
        is_highest = self.dice.random() < 0.1
        if is_highest:
            made["trace_id"][0, 9:] = 0xFF
        made["trace_id"] = made["trace_id"][0]
        made["parent_span_id"][1:] = made["span_id"][0]
        made["flags"], made["end_unix_nano"] = 0x103, made["start_unix_nano"]
        # By its last span, so that none that comes at once comes after the decision.
        made["status"][-1] = ERROR * (self.dice.random() < 0.15)
        made["end_unix_nano"][-1] += 2 * SECOND * (self.dice.random() < 0.2)
        trace_id = made["trace_id"][0].tobytes()
        self.numbers[trace_id] += made["number"].tolist()
        self.highest |= {trace_id} if is_highest else set()
        return made


def attributes_of(span: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes if one.key.startswith("ringbuf.")}


def judge(shop: Shop, server: OtlpHttpServer) -> None:
    """Compare what arrived with the ledger."""
    spans: dict[bytes, dict[int, Any]] = defaultdict(dict)
    for request in server.requests:
        for span in request.spans:
            before = spans[span.trace_id].setdefault(number_of(span), span)
            assert before.trace_state == span.trace_state, "what came twice stands for another number the second time"
    emitted = sum(len(numbers) for trace_id, numbers in shop.numbers.items() if trace_id not in shop.highest)
    assert spans.keys() <= shop.numbers.keys()
    estimate = variance = 0.0
    for trace_id, numbers in shop.numbers.items():
        late = {n for n, span in spans[trace_id].items() if "ringbuf.sampling.late" in attributes_of(span)}
        assert not late or trace_id not in shop.at_once, f"{trace_id.hex()} is torn by a kill"
        kept = spans[trace_id].keys() - late
        assert not kept or kept == set(numbers), f"{trace_id.hex()} is torn: {len(kept)} of {len(numbers)}"
        assert kept or trace_id not in shop.highest, f"{trace_id.hex()} is lost"
        if not kept:
            continue
        (threshold,) = {stated(spans[trace_id][number].trace_state).threshold for number in kept}
        assert threshold is not None, "nobody samples upstream"
        assert int.from_bytes(trace_id[9:], "big") >= threshold
        if trace_id in shop.highest:  # drawn by the test: they stand for nobody
            continue
        stands_for = THRESHOLDS / (THRESHOLDS - threshold)
        estimate += len(kept) * stands_for
        variance += len(kept) ** 2 * stands_for * (stands_for - 1)
    # Where too few of those that stand for many were drawn, so was their variance: it grows as the estimate is short.
    sigma = math.sqrt(variance * max(1.0, emitted / estimate))
    arrived = sum(map(len, spans.values()))
    print(f"{emitted} spans emitted, {arrived} arrived, standing for {estimate:.0f}, sigma {sigma:.0f}")  # noqa: T201
    # Estimated so, the deviation has a long tail: 4 of it are not held by one sound run of four thousand.
    assert abs(estimate - emitted) <= 6 * sigma


def kill(times: int, ring_dir: Path, tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    dice = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    rules = [tmp_path / f"rules-{number}.toml" for number in range(len(RULES))]
    for path, text in zip(rules, RULES, strict=True):
        path.write_text(text)
    shop = Shop(ring_dir, dice)
    with OtlpHttpServer() as server:
        send = ("--exporter", "otlp-http", "--endpoint", f"http://127.0.0.1:{server.port}", "--batch-delay", "0.01")
        for life in range(times):
            log = tmp_path / f"{life % 8}.log"
            log.unlink(missing_ok=True)
            shop.emit(TRACES_OF_A_LIFE)
            with DrainProcess(log, ring_dir, *send, "--sampling", dice.choice(rules)) as drain:
                if dice.random() < 0.9:
                    drain.wait_for_event("serving")
                    shop.emit(TRACES_OF_A_LIFE)
                time.sleep(dice.choice([0.001, 0.02, 0.2]) * dice.random())
                drain.kill()
        shop.finish()
        last = tmp_path / "last.log"
        assert run_once(last, ring_dir, *send, "--sampling", rules[0]) == 0, last.read_text()
        assert not list(ring_dir.glob("*.ring"))
    judge(shop, server)  # now that no thread of it reads what a killed drain has sent


@pytest.mark.prove
def test_kills_while_traces_wait_tear_none_and_what_is_kept_stands_for_all(ring_dir: Path, tmp_path: Path) -> None:
    kill(100, ring_dir, tmp_path)


@pytest.mark.soak
def test_a_thousand_kills_while_traces_wait(ring_dir: Path, tmp_path: Path) -> None:
    kill(1000, ring_dir, tmp_path)
