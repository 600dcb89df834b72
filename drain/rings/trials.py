"""Work that may kill the process that does it: done in a child, which is seen to live or to die.

A process that uses this has one thread, so that a fork is a whole process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import TYPE_CHECKING, Final, NoReturn

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.copied_records import CopiedRecords
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.gzip_writers import WRITERS
from drain.otlp.json_lines import from_json_line
from drain.sampling.rules import of_ratio
from drain.sampling.rules_file import RulesError, read_rules
from drain.sampling.sampler import Why
from drain.sampling.seen_records import RecordLooker
from drain.sampling.traces import Traces
from ringbuf.layout.present_bits import present_bits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from drain.otlp.encoder import Encoded, Encoder
    from drain.otlp.request import Encoding
    from drain.sampling.rules import Rules
    from ringbuf.layout.layout import SpanLayout

MOST_UNSAFE: Final = 16
"""Records of a file that are passed over: a file that has more is set aside."""

_TRIES: Final = 3  # of a process that is killed from outside, or by the kernel for want of memory
_CPU_SECONDS: Final = 10.0  # for a quantum, which takes milliseconds: a loop without end dies, too
_PR_SET_PDEATHSIG: Final = 1


class Trials:
    """Does work in children.

    Attributes:
        died_of: the name of the signal that killed the last that died.
    """

    def __init__(self) -> None:
        self.died_of = ""

    def survives(self, work: Callable[[], object]) -> bool:
        """Whether a process that does this lives; it may raise."""
        for _ in range(_TRIES):
            child = os.fork()
            if child == 0:
                _do_and_exit(work)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                return True
            self.died_of = signal.Signals(os.WTERMSIG(status)).name
            if os.WTERMSIG(status) != signal.SIGKILL:
                return False
        return False


def begin_quantum() -> None:
    """Let this process die if what it does now never ends."""
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)  # SIGPROF kills


def take_apart(encoded: Encoded, encoding: Encoding) -> None:
    """Do with what was encoded what delivery may do."""
    if encoding == "json" and encoded.spans:
        from_json_line(b'{"resourceSpans":[' + encoded.body + b"]}\n")
    else:
        TracesData.FromString(encoded.body).SerializeToString()


def write_gzip(encoder: Encoder, records: np.ndarray) -> None:
    """Copy records and write them straight to gzip, if they may be: also when all that is in them has been met."""
    if WRITERS.takes(encoder):
        copied = CopiedRecords(encoder, records)
        writer = DirectGzip()
        for _ in range(2):
            writer.add(encoder, copied.records)
        writer.finish()


def rules_of(file: Path | None) -> Rules:
    """Return the rules by which a drain with a hold decides.

    Where they are in no file, or have gone bad since, they are such as keep all: these look at records as well.
    """
    try:
        return of_ratio(1.0) if file is None else read_rules(file)
    except (RulesError, OSError):
        return of_ratio(1.0)


def decide(rules: Rules, layout: SpanLayout, service: str, root_threshold: int, spans: np.ndarray) -> None:
    """Do what late sampling does with the spans of a look: see which conditions they meet, and decide."""
    seen = RecordLooker(rules, layout, service, root_threshold).look(spans)
    count = max(1, len(spans))
    traces = Traces(rules, bytes(16), traces=count, spans=count, decided=count, look=count)
    traces.look(
        traces.join(),
        spans,
        seen.masks,
        0,
        root_threshold=root_threshold,
        thresholds=seen.thresholds,
        randoms=seen.randoms,
        present_bits=present_bits(len(layout.attributes)),
    )
    traces.decide_early(count, Why.STOP, 0)
    traces.take()


def die_with_parent() -> None:
    """Let this process be killed when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _do_and_exit(work: Callable[[], object]) -> NoReturn:
    code = 0
    try:
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()
        # What wrote behind its memory is often found only by the next that asks for some.
        for bits in range(6, 24):
            bytearray(1 << bits)
    except BaseException:  # noqa: BLE001 - what raises harms nobody: the drain meets it, and says it
        code = 1
    finally:
        os._exit(code)
