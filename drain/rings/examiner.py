"""A process of its own, which reads rings as the drain would, and may die of it: then it says which record it was.

It forks for each try, and has one thread, so that a fork is a whole process. What kills a try is sought by halving:
first the ring, then the record. It takes and writes nothing.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.accounting.span_metrics import SpanMetrics
from drain.otlp.encode_plan import find_spans
from drain.rings.culprits import culprits
from drain.rings.ring import OPEN_FLAGS, Ring, Scratch
from drain.rings.trials import (
    MOST_UNSAFE,
    Trials,
    begin_quantum,
    decide,
    die_with_parent,
    rules_of,
    take_apart,
    write_gzip,
)
from drain.rings.verdict import Suspect, Verdict
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drain.otlp.request import Encoding

_SCRATCH_BYTES: Final = 512 << 10
_GROUP_BYTES: Final = 64 << 20  # of ring files that one process tries, so that the first are soon cleared


class Examiner:
    """Tries rings in processes of their own.

    Args:
        directory: of the rings.
        encoding: what the drain's exporter sends.
        max_bytes: larger files are passed over.
        batch_spans: how many records the drain reads in one go, at most.
        are_held: the drain decides on traces.
        rules: the file with those by which it does; None: they are in none.
    """

    def __init__(
        self,
        directory: Path,
        encoding: Encoding,
        max_bytes: int,
        batch_spans: int,
        rules: Path | None,
        *,
        are_held: bool,
    ) -> None:
        self._directory = directory
        self._encoding: Encoding = encoding
        self._max_bytes = max_bytes
        self._batch_spans = batch_spans
        self._scratch = Scratch(_SCRATCH_BYTES)
        self._metrics = SpanMetrics(1000)
        self._trials = Trials()
        self._rules = rules_of(rules) if are_held else None

    def verdicts(self, suspects: Sequence[Suspect]) -> Iterator[Verdict]:
        """Yield a verdict on each ring, those that harm nobody first."""
        fatal: list[Suspect] = []
        for group in _groups(suspects):
            found = [] if self._survives(group) else list(culprits(group, self._survives))
            yield from (Verdict(suspect.inode) for suspect in group if suspect not in found)
            fatal += found
        for suspect in fatal:
            yield self._verdict(suspect)

    def _survives(self, suspects: Sequence[Suspect]) -> bool:
        return self._trials.survives(lambda: self._read_all(suspects))

    def _read_all(self, suspects: Sequence[Suspect]) -> None:
        for suspect in suspects:
            ring = self._attached(suspect)
            if ring is None:
                continue
            for lane in ring.lanes:
                while ring.ready(lane):
                    self._handle(ring, ring.copy(lane, self._batch_spans))
            ring.close()

    def _verdict(self, suspect: Suspect) -> Verdict:
        """Find the records of a ring that kill."""
        verdict = Verdict(suspect.inode)
        if not self._trials.survives(lambda: self._attached(suspect)):
            verdict.reason = f"a process that attaches it dies ({self._trials.died_of})"
            verdict.is_attachable = False
            return verdict
        ring = self._attached(suspect)
        if ring is None:
            return verdict
        try:
            for lane in ring.lanes:
                while ring.ready(lane) and not verdict.reason:
                    start = ring.next_position(lane)
                    found, verdict.reason = self._unsafe_of(ring, ring.copy(lane, self._batch_spans))
                    if found:
                        verdict.unsafe.setdefault(lane.index, []).extend(start + at for at in found)
            if sum(map(len, verdict.unsafe.values())) > MOST_UNSAFE:
                verdict.reason = (
                    f"a process that reads it dies ({self._trials.died_of}) of more than {MOST_UNSAFE} records"
                )
        except RingFormatError:
            pass  # the drain finds the same, and says it
        finally:
            ring.close()
        return verdict

    def _unsafe_of(self, ring: Ring, records: np.ndarray) -> tuple[list[int], str]:
        """Return which records kill, and why the others cannot be trusted; they are blanked in the array."""

        def survives(places: Sequence[int]) -> bool:
            return self._trials.survives(lambda: self._handle(ring, records[places[0] : places[-1] + 1]))

        everything = range(len(records))
        if survives(everything):
            return [], ""
        found = list(islice(culprits(everything, survives), MOST_UNSAFE + 1))
        records[found] = np.zeros((), records.dtype)
        if found and (len(found) > MOST_UNSAFE or survives(everything)):
            return found, ""
        return found, f"a process that reads it dies ({self._trials.died_of}), of no record by itself"

    def _handle(self, ring: Ring, records: np.ndarray) -> None:
        """Do all that the drain does with what is in records: encode, take apart what it has encoded, count, decide."""
        begin_quantum()
        encoded = ring.encode(records)
        self._metrics.of(ring.layout, ring.service).summarise(records, encoded.invalid)
        take_apart(encoded, self._encoding)
        if self._encoding == "protobuf":
            write_gzip(ring.encoder, records)
        if self._rules is not None:
            spans = records[find_spans(records, ring.layout)]
            decide(self._rules, ring.layout, ring.service, ring.root_threshold, spans)

    def _attached(self, suspect: Suspect) -> Ring | None:
        """Return the ring; None where it is gone, another file or unsound, of which the drain need not be afraid."""
        path = self._directory / suspect.name
        try:
            fd = os.open(path, OPEN_FLAGS)
        except OSError:
            return None
        if os.fstat(fd).st_ino != suspect.inode:
            os.close(fd)
            return None
        try:
            return Ring(
                suspect.name,
                path,
                fd,
                max_bytes=self._max_bytes,
                encoding=self._encoding,
                scratch=self._scratch,
                is_trial=True,
            )
        except (RingFormatError, OSError):
            return None


def _groups(suspects: Sequence[Suspect]) -> Iterator[list[Suspect]]:
    group: list[Suspect] = []
    for suspect in suspects:
        if group and sum(other.bytes for other in group) + suspect.bytes > _GROUP_BYTES:
            yield group
            group = []
        group.append(suspect)
    if group:
        yield group


def main() -> None:
    """Read a job from standard input, and write a verdict a line."""
    die_with_parent()
    job: dict[str, Any] = json.load(sys.stdin)
    if os.getppid() != job.pop("parent"):
        return
    lib.rb_guard_install()
    suspects = [Suspect(*suspect) for suspect in job.pop("suspects")]
    rules = job.pop("rules")
    examiner = Examiner(Path(job.pop("directory")), rules=None if rules is None else Path(rules), **job)
    for verdict in examiner.verdicts(suspects):
        sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
        sys.stdout.flush()
