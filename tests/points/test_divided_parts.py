"""SIGKILL while parts in the spool are cut for other destinations: each span is there once, and arrives once."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.halves import by_destination
from drain.otlp.destinations import Rendezvous
from drain.otlp.request import Request
from drain.spool import spool as spool_module
from drain.spool.limits import SpoolLimits
from drain.spool.spool import Spool
from drain.state_directory import SPOOL_FOLDER
from tests.otlp_server import OtlpHttpServer

if TYPE_CHECKING:
    from tests.nursery import Nursery

PARTS, SPANS = 3, 20
SECONDS = 120.0
CODE = "import sys; from tests.points.test_divided_parts import divide_all; divide_all(sys.argv[1])"
POINTS = (
    *("drain.spool.store.SpoolStore.divide/before:2", "drain.spool.database.SpoolDatabase.divide/before:2"),
    *("drain.spool.database.SpoolDatabase._insert/before:4", "drain.spool.database.SpoolDatabase._insert/after:4"),
    *("drain.spool.database.SpoolDatabase.divide/after:2", "drain.spool.database.SpoolDatabase.commit/after:2"),
    *("drain.spool.holds.Holds.let_go/before:2", "drain.spool.store.SpoolStore.divide/after:2"),
)
HOMES = Rendezvous(("http://a", "http://b"))


@pytest.fixture(autouse=True)
def _disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_TAKE_SECONDS", SECONDS)


def spool_in(folder: Path) -> Spool:
    return Spool(folder, SpoolLimits(1 << 24, 0.0, "backpressure"), log=structlog.get_logger())


def fill(folder: Path, destination: str) -> list[bytes]:
    """Store parts for a destination; return their trace ids."""
    traces = [os.urandom(16) for _ in range(PARTS * SPANS)]
    spool = spool_in(folder)
    for at in range(PARTS):
        message = TracesData()
        spans = [Span(trace_id=trace, span_id=bytes(7) + b"1") for trace in traces[at * SPANS : (at + 1) * SPANS]]
        message.resource_spans.add().scope_spans.add().spans.extend(spans)
        spool.put(Request(message.SerializeToString(), SPANS, "protobuf", destination, {"shop": SPANS})).result(SECONDS)
    assert spool.close(SECONDS)
    return traces


def divide_all(folder: str) -> None:
    spool_module._TAKE_SECONDS = SECONDS  # type: ignore[misc]  # as above, in the process that is killed
    spool = spool_in(Path(folder))
    for entry in spool.take(PARTS):
        spool.divide(entry, by_destination(entry.request, lambda trace, _service: HOMES.home(trace)))
    spool.close()


def traces_of(body: bytes) -> list[bytes]:
    found = TracesData.FromString(body).resource_spans
    return [span.trace_id for one in found for scope in one.scope_spans for span in scope.spans]


@pytest.mark.parametrize("point", POINTS)
def test_each_span_is_there_once(point: str, clean: Nursery, tmp_path: Path) -> None:
    traces = fill(tmp_path / "spool", "http://gone")
    child = clean.fork("-c", CODE, str(tmp_path / "spool"), log=tmp_path / "log", kill_at=point)
    assert child.wait() == -signal.SIGKILL, child.log.read_text()
    spool = spool_in(tmp_path / "spool")
    sums = spool.status().services["shop"]
    assert (sums.spooled, sums.waiting, sums.unaccounted) == (len(traces), len(traces), 0)
    entries = spool.take(99)
    assert Counter(trace for entry in entries for trace in traces_of(entry.request.body)) == Counter(traces)
    is_done = point.endswith(("commit/after:2", "let_go/before:2", "SpoolStore.divide/after:2"))
    divided = {entry.request.destination for entry in entries if entry.request.spans < SPANS}
    assert divided == {"http://a", "http://b"}
    assert sum(entry.request.destination == "http://gone" for entry in entries) == (1 if is_done else 2)
    for entry in entries:
        spool.done(entry, Outcome(delivered=entry.request.spans))
    assert spool.close(SECONDS)


@pytest.mark.parametrize("point", ["divide/before", "_insert/after:2", "divide/after", "commit/after"])
def test_each_span_arrives_once(point: str, clean: Nursery, ring_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    traces = fill(tmp_path / "state" / SPOOL_FOLDER, "http://127.0.0.1:1")
    with OtlpHttpServer() as first, OtlpHttpServer() as second:
        arguments = ["--ring-dir", ring_dir, "--state-dir", tmp_path / "state", "--listen", "off"]
        arguments += ["--endpoint", first.url, "--endpoint", second.url, "--exporter", "otlp-http", "--once"]
        text = [str(argument) for argument in arguments]
        step = f"drain.spool.database.SpoolDatabase.{point}"
        child = clean.fork("drain", *text, log=tmp_path / "first.log", kill_at=step)
        assert child.wait() == -signal.SIGKILL, child.log.read_text()
        again = clean.fork("drain", *text, log=tmp_path / "second.log")
        assert again.wait() == 0, again.log.read_text()
        arrived = {
            server.url: [trace for one in server.requests for trace in traces_of(one.body)]
            for server in (first, second)
        }
    assert Counter(itertools.chain(*arrived.values())) == Counter(traces)
    homes = Rendezvous(list(arrived))
    assert all(homes.home(trace) == url for url, some in arrived.items() for trace in some)
