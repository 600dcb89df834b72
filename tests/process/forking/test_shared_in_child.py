"""The shared emitter in a forked child, which may be configured there as if it were the first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.consumer import Consumer, rings_in, span_ids
from tests.nursery import output_of

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import os, ringbuf
from ringbuf.dataplane import *
def configure(service):
    ringbuf.configure(service, ring_dir=sys.argv[1], capacity=64)
def fork(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
read = site(OpType.FBMU_READ)
configure("parent")
assert read.emit(LeaseId(1), 1, 2)
"""


def spans_by_service(ring_dir: Path) -> dict[str, int]:
    spans = {}
    ids: list[bytes] = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            records = consumer.take_all()
            spans[str(json.loads(consumer.json("resource"))["service.name"])] = len(records)
            ids += span_ids(records)
    assert len(ids) == len(set(ids))
    return spans


def test_a_child_may_configure_the_emitter_that_it_inherited(ring_dir: Path) -> None:
    output_of(
        BEGIN
        + """
def work():
    configure("child")
    assert read.emit(LeaseId(2), 1, 2) and site(OpType.FBMU_WRITE).emit(LeaseId(2), 1, 2)
    try:
        configure("again")
    except RuntimeError as error:
        assert "has a ring" in str(error)
    else:
        raise AssertionError("two rings")
fork(work)
assert read.emit(LeaseId(1), 1, 2)
""",
        ring_dir,
    )
    assert spans_by_service(ring_dir) == {"parent": 2, "child": 2}


def test_a_child_that_does_not_is_what_its_parent_is(ring_dir: Path) -> None:
    output_of(BEGIN + "os.environ['OTEL_SERVICE_NAME'] = 'other'\nfork(lambda: read.emit(LeaseId(2), 1, 2))", ring_dir)
    paths = rings_in(ring_dir)
    assert len(paths) == 2
    assert all(path.name.startswith("parent-") for path in paths)


@pytest.mark.parametrize("emits_first", [False, True])
def test_a_child_that_has_emitted_is_told_the_truth(ring_dir: Path, emits_first: bool) -> None:
    output_of(
        BEGIN
        + """
def work():
    if sys.argv[2] == "True":
        read.emit(LeaseId(2), 1, 2)
    try:
        configure("child")
        refused = False
    except RuntimeError:
        refused = True
    assert refused is (sys.argv[2] == "True")
fork(work)
""",
        ring_dir,
        emits_first,
    )


def test_a_child_of_a_closed_parent_counts_as_local_until_it_configures(ring_dir: Path) -> None:
    output_of(
        BEGIN
        + """
ringbuf.get_emitter().close()
def work():
    assert not read.emit(LeaseId(2), 1, 2)
    assert ringbuf.get_emitter().stats().local == 1
    configure("child")
    assert site(OpType.FBMU_READ).emit(LeaseId(2), 1, 2)
fork(work)
""",
        ring_dir,
    )
    assert spans_by_service(ring_dir) == {"parent": 1, "child": 1}


def test_threads_of_a_child_that_begin_at_once_lose_nothing(ring_dir: Path) -> None:
    # One of them makes the ring, in milliseconds; the others come meanwhile.
    output_of(
        BEGIN
        + """
import threading
def work():
    ready = threading.Barrier(8)
    written = []
    def emit(number):
        ready.wait(120)
        written.append(read.emit(LeaseId(number), 1, 2))
    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = ringbuf.get_emitter().stats()
    assert written == [True] * 8 and stats.published == stats.attempts == 8, (written, stats)
sys.setswitchinterval(1e-5)
for _ in range(30):
    fork(work)
""",
        ring_dir,
    )
    assert len(rings_in(ring_dir)) == 31
