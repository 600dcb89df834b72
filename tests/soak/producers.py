"""Producers of several kinds, which emit numbered spans until their input ends, or a kill ends them.

    producers.py KIND RING_DIR LEDGER FIRST_STREAM SEED

Each says in the ledger what it is about to write and what it has written. What finds no room is tried again.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.service.draining import LAYOUT
from tests.soak.ledger import CHILDREN, DONE, INTENT, NUMBER_BITS, REASONS, STREAMS_OF_A_PROCESS, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringbuf import Emitter

CUSTOM = SpanLayout(
    span_names=["get", "put"],
    attributes=[Attribute("key", "str", 24), Attribute("hit", "bool", metric_label=True)],
    scope_name="soak",
)
CAPACITY = 4096
TELLING_SHARE = 0.05
NO_ROOM = 3  # exit code
_PR_SET_PDEATHSIG = 1


class Producer:
    """One process, its streams and its pace."""

    def __init__(self, arguments: list[str]) -> None:
        kind, ring_dir, ledger, first, seed = arguments
        self.kind = kind
        self.ring_dir = Path(ring_dir)
        self.ledger = open_ledger(Path(ledger))
        self.first = int(first)
        self.dice = random.Random(int(seed))  # noqa: S311 - to be repeated, not to be secret
        self.is_child = False
        self.told_in = self.first  # the stream whose words say what was dropped

    def is_over(self) -> bool:
        return not self.is_child and bool(select.select([sys.stdin], [], [], 0)[0])

    def open(self, layout: SpanLayout | None, lanes: int | None = None) -> Emitter:
        self.emitter = ringbuf.Emitter(
            f"{self.kind}-{self.first}", ring_dir=self.ring_dir, layout=layout, capacity=CAPACITY, lanes=lanes
        )
        return self.emitter

    def rest(self) -> None:
        """Keep the pace, and now and then write down what was dropped until now.

        Not each time: `stats` looks for the ring's file, which a producer that only emits does not.
        """
        if self.dice.random() < TELLING_SHARE:
            stats = self.emitter.stats()
            for reason, word in REASONS.items():
                self.ledger[self.told_in, word] = getattr(stats, reason)
        time.sleep(self.dice.random() * 0.02)

    def one_by_one(self, stream: int, emit: Callable[[int], bool], most: int = 1 << NUMBER_BITS) -> None:
        """Emit by a door that takes one span, whose start is given."""
        words, base, number = self.ledger[stream], stream << NUMBER_BITS, 0
        while not self.is_over() and number < most:
            for _ in range(self.dice.randint(1, 60)):
                words[INTENT] = number + 1
                if not emit(base | number):
                    words[INTENT] = number
                    break
                number += 1
                words[DONE] = number
            self.rest()

    def run_sites(self) -> None:
        """Phase 219: two threads on sites of one emitter."""
        with self.open(None) as emitter:
            read, lease = site(OpType.FBMU_READ, emitter=emitter), LeaseId(7)

            def emit(start: int) -> bool:
                return bool(read.emit(lease, start, start + 250, 4096, Outcome.OK))

            other = threading.Thread(target=self.one_by_one, args=(self.first + 1, emit))
            other.start()
            self.one_by_one(self.first, emit)
            other.join()

    def run_custom(self) -> None:
        with self.open(CUSTOM, lanes=2) as emitter:
            get = emitter.site("get", varying=["key", "hit"])
            self.one_by_one(self.first, lambda start: get.emit(start, start + 1, f"key-{start}", start % 2 == 0))

    def run_batches(self) -> None:
        words, base, number = self.ledger[self.first], self.first << NUMBER_BITS, 0
        with self.open(LAYOUT) as emitter:
            while not self.is_over():
                made = np.zeros(self.dice.randint(1, 300), LAYOUT.dtype)
                made["start_unix_nano"] = made["number"] = np.arange(base + number, base + number + len(made))
                made["present"] = 1
                made["flags"] = 0x101
                emitter.fill_ids(made)
                words[INTENT] = number + len(made)
                number += emitter.emit_batch(made)
                words[DONE] = number
                words[INTENT] = number
                self.rest()

    def run_forks(self) -> None:
        """Beside spans of its own, fork children that emit some and end, by themselves or killed."""
        with self.open(CUSTOM) as emitter:
            put = emitter.site("put", varying=["key", "hit"])

            def emit(start: int) -> bool:
                return bool(put.emit(start, start + 1, "from a child", False))

            children: list[int] = []
            while not self.is_over():
                self.emit_some(emit)
                child_stream = self.first + 1 + len(children)
                if child_stream < self.first + STREAMS_OF_A_PROCESS and self.dice.random() < 0.2:
                    children.append(self.fork(child_stream, emit))
                    self.ledger[self.first, CHILDREN] = len(children)
                if children and self.dice.random() < 0.02:
                    os.kill(self.dice.choice(children), signal.SIGKILL)  # not waited for yet: its pid is its own
                self.rest()
            for pid in children:
                os.waitpid(pid, 0)

    def emit_some(self, emit: Callable[[int], bool]) -> None:
        words = self.ledger[self.first]
        for _ in range(self.dice.randint(1, 60)):
            number = int(words[DONE])
            words[INTENT] = number + 1
            if not emit(self.first << NUMBER_BITS | number):
                words[INTENT] = number
                break
            words[DONE] = number + 1

    def fork(self, stream: int, emit: Callable[[int], bool]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        # No orphan outlives the soak.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self.is_child = True
        self.told_in = stream
        if os.getppid() == parent:
            # After a ring that could not be made, the next try comes a second later.
            self.one_by_one(stream, emit, most=400)
        os._exit(0)

    def run(self) -> None:
        kinds = {
            "sites": self.run_sites,
            "custom": self.run_custom,
            "batches": self.run_batches,
            "forks": self.run_forks,
        }
        kinds[self.kind]()


def main() -> None:
    warnings.simplefilter("default")  # of rings that cannot be made, and of spans that nobody has taken
    try:
        Producer(sys.argv[1:]).run()
    except ringbuf.RingBufferError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(NO_ROOM)
