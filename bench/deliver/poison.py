"""Good spans delivered a second beside batches that the backend never takes. `python -m bench.deliver.poison`.

For each cell of the table a drain with a ring directory of its own, one producer (service "poison") whose batches the
receiver always answers 503, and one (service "good") that emits at an even rate. Of all requests the receiver fails a
share by chance, too. The figure is the good spans that the receiver has taken, each once, when the time is over; the
ratio is to the cell without poison beside it. The poison is there before the first good span.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import ringbuf
from bench.deliver.end_to_end import drain
from bench.deliver.sender import paced
from bench.results import describe_machine
from tests.otlp_server import OtlpHttpServer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.otlp_server import OtlpHandler

_POISON: Final = (0, 4, 20, 100)
_FAILING: Final = (0.0, 0.1, 0.5)
_GATHER_SECONDS: Final = 1.0  # the drain has taken the poison by then, so that no batch holds both services
_TIMEOUT_SECONDS: Final = 60.0
_HEAD: Final = ("failing", "spool", "poison batches", "good spans/s", "to none", "poison refused", "dropped")


class Receiver:
    """Takes requests of good spans only, and fails a share of all by chance.

    Args:
        failing: the share, 0 to 1.
        seed: of the chance.

    Attributes:
        endpoint: where it listens.
        good: ids of the good spans that it took.
        poisoned: requests that were refused for their poison.
    """

    def __init__(self, failing: float, seed: int) -> None:
        self.good: set[bytes] = set()
        self.poisoned = 0
        self._failing = failing
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._server = OtlpHttpServer(otherwise=self._meet, keeps=False)
        self.endpoint = self._server.url

    def _meet(self, handler: OtlpHandler) -> None:
        services = {
            attribute.value.string_value
            for resource_spans in handler.received.message.resource_spans
            for attribute in resource_spans.resource.attributes
            if attribute.key == "service.name"
        }
        with self._lock:
            is_poisoned = "poison" in services
            self.poisoned += is_poisoned
            is_taken = self._chance.random() >= self._failing and not is_poisoned
            if is_taken:
                self.good.update(span.span_id for span in handler.received.spans)
        handler.answer(200 if is_taken else 503)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop()


@dataclass(frozen=True, slots=True)
class Load:
    """What every cell has in common.

    Attributes:
        seconds: that good spans are emitted for.
        rate: good spans a second.
        batch_spans: of the drain, and of each batch of poison.
        seed: of the receiver's failures.
        log_level: of the drain, whose log goes to standard error.
    """

    seconds: float
    rate: float
    batch_spans: int
    seed: int
    log_level: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a cell found: good spans delivered a second, requests refused for poison, good spans dropped at the ring."""

    rate: float
    poisoned: int
    dropped: int


def cell(load: Load, *, poison: int, spools: bool, failing: float) -> Found:
    """Run one cell.

    Args:
        load: what all have in common.
        poison: batches that are never taken.
        spools: whether the drain has a state directory.
        failing: the share of requests that fails by chance.
    """
    with ExitStack() as cleanup:
        receiver = cleanup.enter_context(Receiver(failing, load.seed))
        rings = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        state = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-"))
        settings = ["--endpoint", receiver.endpoint, "--compression", "none", "--batch-spans", str(load.batch_spans)]
        settings += ["--shutdown-timeout", "0", "--log-level", load.log_level]
        settings += ["--state-dir", state] if spools else []
        bad = cleanup.enter_context(_emitter("poison", rings, poison * load.batch_spans))
        good = cleanup.enter_context(_emitter("good", rings, int(load.rate * load.seconds)))
        _emit(bad, poison * load.batch_spans)
        cleanup.enter_context(drain(rings, "otlp-http", *settings))
        time.sleep(_GATHER_SECONDS)
        end = time.monotonic() + _TIMEOUT_SECONDS
        while poison and not receiver.poisoned:
            if time.monotonic() >= end:
                raise RuntimeError("the drain has not sent the poison")
            time.sleep(0.01)
        _total, begin = paced(lambda count: _emit(good, count), load.rate, load.seconds)
        time.sleep(max(0.0, begin + load.seconds - time.perf_counter()))
        seconds, spans = time.perf_counter() - begin, len(receiver.good)
        stats = good.stats()
        return Found(spans / seconds, receiver.poisoned, stats.attempts - stats.published)


def table(load: Load, grid: Iterable[tuple[float, bool]], poison: Iterable[int]) -> Iterable[str]:
    """Run all cells; yield the lines of a table of Markdown as they are found.

    Args:
        load: what all have in common.
        grid: shares that fail, each with whether there is a spool.
        poison: numbers of batches, 0 first.
    """
    yield "| " + " | ".join(_HEAD) + " |"
    yield "|" + len(_HEAD) * "---|"
    numbers = tuple(poison)
    for failing, spools in grid:
        none = 0.0
        for number in numbers:
            found = cell(load, poison=number, spools=spools, failing=failing)
            none = none if number else found.rate
            ratio = f"{found.rate / none:.2f}" if number and none else "-"
            cells = f"{failing:g}", "yes" if spools else "none", f"{number}", f"{found.rate:,.0f}", ratio
            yield "| " + " | ".join((*cells, f"{found.poisoned}", f"{found.dropped}")) + " |"


def main() -> None:
    """Print the machine, the method and the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.poison", description=__doc__)
    parser.add_argument("--seconds", type=float, help="that good spans are emitted for, in each cell (6; quick: 3)")
    parser.add_argument("--rate", type=float, default=2000.0, help="good spans a second (2,000)")
    parser.add_argument("--batch-spans", type=int, default=100, help="spans in a batch (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the receiver's failures (1)")
    parser.add_argument("--log-level", default="error", help="of the drain, to standard error (error)")
    parser.add_argument("--quick", action="store_true", help="8 of the 24 cells, 3 s each")
    options = parser.parse_args()
    seconds = options.seconds or (3.0 if options.quick else 6.0)
    load = Load(seconds, options.rate, options.batch_spans, options.seed, options.log_level)
    logging.getLogger("ringbuf").setLevel(logging.ERROR)  # a cell ends with spans in its rings, which it warns of
    failing, poison = ((0.0, 0.5), (0, 20)) if options.quick else (_FAILING, _POISON)
    machine = describe_machine()
    print(
        f"{machine['cpu']}, {machine['cpus']} cores, {machine['system']}, Python {machine['python']}, {machine['when']}"
    )
    print(
        f"{load.rate:,.0f} good spans a second for {seconds:g} s a cell, batches of {load.batch_spans}, "
        f"seed {load.seed}; one round\n"
    )
    for line in table(load, itertools.product(failing, (False, True)), poison):
        print(line, flush=True)


def _emitter(service: str, rings: str, spans: int) -> ringbuf.Emitter:
    layout = ringbuf.SpanLayout(span_names=["work"], attributes=[], scope_name="bench.deliver.poison")
    return ringbuf.Emitter(service, layout=layout, ring_dir=rings, capacity=1 << max(10, (2 * spans).bit_length()))


def _emit(emitter: ringbuf.Emitter, count: int) -> None:
    emit = emitter.site("work").emit
    for _ in range(count):
        emit(ringbuf.unix_nano())


if __name__ == "__main__":
    main()
