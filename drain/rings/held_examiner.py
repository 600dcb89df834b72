"""A process of its own, which does with held records all that the drain will, and may die of it: see `examiner`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import numpy as np
import structlog

from drain.accounting.span_metrics import SpanMetrics
from drain.otlp.encoder import Encoder
from drain.otlp.kept import Kept, KeptRow, KeptTable
from drain.rings.culprits import culprits
from drain.rings.trials import MOST_UNSAFE, Trials, begin_quantum, decide, die_with_parent, rules_of, take_apart
from drain.sampling.hold.chunk import SLOTS
from drain.sampling.hold.origins import Origins
from drain.sampling.hold.recovery import CHUNK_PREFIX, Recovery
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    from drain.otlp.request import Encoding
    from drain.sampling.hold.origins import Origin


def _drop(_logger: Any, _method: str, _event: MutableMapping[str, Any]) -> NoReturn:
    raise structlog.DropEvent  # the drain says the same


_SILENT: Final = structlog.wrap_logger(None, processors=[_drop])


class Quantum(NamedTuple):
    """Held records that are handled at once.

    Attributes:
        origin: of all of them.
        slots: in their chunk.
        records: array of the origin's layout.
    """

    origin: Origin
    slots: list[int]
    records: np.ndarray


class HeldExaminer:
    """Tries what waits in a hold, in processes of their own; it changes nothing.

    Args:
        folder: of the hold.
        encoding: what the drain's exporter sends.
        batch_spans: how many records the drain handles in one go, at most.
        rules: the file with those by which the drain decides; None: they are in none.
    """

    def __init__(self, folder: Path, encoding: Encoding, batch_spans: int, rules: Path | None) -> None:
        self._folder = folder
        self._encoding: Encoding = encoding
        self._batch_spans = batch_spans
        self._rules = rules_of(rules)
        self._metrics = SpanMetrics(1000)
        self._trials = Trials()

    def verdicts(self) -> Iterator[tuple[str, list[int], str]]:
        """Yield the chunks that harm: the name, the slots that kill, and why all of it must not be read, or nothing."""
        paths = sorted(self._folder.glob(f"{CHUNK_PREFIX}*"))
        if not paths or self._survives(paths):
            return
        for path in culprits(paths, self._survives):
            yield (path.name, *self._verdict(path))

    def _survives(self, paths: Sequence[Path]) -> bool:
        return self._trials.survives(lambda: self._handle_all(paths))

    def _handle_all(self, paths: Sequence[Path]) -> None:
        for path in paths:
            for quantum in self._quanta(path):
                self._handle(quantum.origin, quantum.records)

    def _verdict(self, path: Path) -> tuple[list[int], str]:
        if not self._trials.survives(lambda: list(self._quanta(path))):
            return [], f"a process that reads it dies ({self._trials.died_of})"
        unsafe: list[int] = []
        for quantum in self._quanta(path):
            found, reason = self._unsafe_of(quantum)
            unsafe += found
            if reason:
                return [], reason
        if len(unsafe) > MOST_UNSAFE:
            died_of = self._trials.died_of
            return [], f"a process that reads it dies ({died_of}) of more than {MOST_UNSAFE} records"
        return unsafe, ""

    def _unsafe_of(self, quantum: Quantum) -> tuple[list[int], str]:
        """Return the slots of the records that kill, and why the others cannot be trusted."""

        def survives(places: Sequence[int]) -> bool:
            some = np.ascontiguousarray(quantum.records[list(places)])
            return self._trials.survives(lambda: self._handle(quantum.origin, some))

        everything = range(len(quantum.records))
        if survives(everything):
            return [], ""
        found = list(islice(culprits(everything, survives), MOST_UNSAFE + 1))
        rest = [at for at in everything if at not in set(found)]
        if len(found) <= MOST_UNSAFE and rest and not survives(rest):
            return [], f"a process that reads it dies ({self._trials.died_of}), of no record by itself"
        return [quantum.slots[at] for at in found], ""

    def _handle(self, origin: Origin, records: np.ndarray) -> None:
        begin_quantum()
        decide(self._rules, origin.layout, origin.service, origin.root_threshold, records)
        kept = Kept(KeptTable([KeptRow("rule", 0)]), np.zeros(len(records), np.uint16))
        for rows, root_threshold in ((kept, 0), (None, origin.root_threshold)):  # by rules, and in a dry run
            encoder = Encoder(origin.layout, origin.resource, root_threshold)
            encode = encoder.encode_json if self._encoding == "json" else encoder.encode
            take_apart(encode(records, rows), self._encoding)
        self._metrics.of(origin.layout, origin.service).exemplars(records)

    def _quanta(self, path: Path) -> Iterator[Quantum]:
        """Yield what waits in a chunk."""
        found = Recovery(
            self._folder,
            Origins(self._folder),
            itertools.count(1),
            boot_id=b"",
            now_nano=0,
            log=_SILENT,
            only=[path],
        )
        for chunk in found.chunks:
            slots: dict[bytes, list[int]] = defaultdict(list)  # as the drain does, which gathers what is of one origin
            origins: dict[bytes, Origin] = {}
            for segment in chunk.segments:
                if segment.origin is not None:
                    origins[segment.origin.id] = segment.origin
                    slots[segment.origin.id] += (chunk.places(segment) & SLOTS).tolist()
            for origin in origins.values():
                for start in range(0, len(slots[origin.id]), self._batch_spans):
                    some = slots[origin.id][start : start + self._batch_spans]
                    raw = chunk.copy(np.array(some, np.int64), origin.layout.slot_bytes)
                    yield Quantum(origin, some, raw.view(origin.layout.dtype).reshape(-1))


def main() -> None:
    """Read a job from standard input, and write a verdict a line; the last line is empty."""
    die_with_parent()
    job: dict[str, Any] = json.load(sys.stdin)
    if os.getppid() != job.pop("parent"):
        return
    lib.rb_guard_install()
    rules = job.pop("rules")
    examiner = HeldExaminer(Path(job.pop("folder")), rules=None if rules is None else Path(rules), **job)
    with contextlib.suppress(BrokenPipeError):
        for verdict in examiner.verdicts():
            sys.stdout.write(json.dumps(verdict) + "\n")
            sys.stdout.flush()  # what is found counts, should the rest take too long
        sys.stdout.write("\n")
        sys.stdout.flush()
