"""Without memory (ENOMEM) a producer says so; a drain serves the rings that it can map, and the rest later."""

from __future__ import annotations

import resource
from pathlib import Path

import ringbuf
from tests.python import output_of
from tests.service.draining import LAYOUT, DrainProcess, emit, numbers_in_file, ring_files, until

MEBIBYTE = 1 << 20
LARGE = 1 << 20  # slots of 128 bytes

PRODUCER = """
import os, resource, sys
import ringbuf
from tests.service.draining import LAYOUT, emit

first = ringbuf.Emitter("shop", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64)
descriptors = os.listdir("/proc/self/fd")
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (32 << 20), resource.RLIM_INFINITY))
try:
    ringbuf.Emitter("large", ring_dir=sys.argv[1], layout=LAYOUT, capacity=1 << 20)
except ringbuf.RingBufferError as error:
    print("a large ring:", "mmap: Cannot allocate memory" in str(error))
print("descriptors left:", len(os.listdir("/proc/self/fd")) - len(descriptors))
print("goes on:", emit(first, range(5)))
ringbuf.Emitter("small", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64).close()
first.close()
"""


def test_a_producer_without_memory_says_so_and_leaves_nothing(ring_dir: Path) -> None:
    assert output_of(PRODUCER, ring_dir).splitlines() == [
        "a large ring: True",
        "descriptors left: 0",
        "goes on: 5",
    ]
    assert len(ring_files(ring_dir)) == 1  # the small one never had a span


def virtual_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def test_a_ring_that_cannot_be_mapped_waits_and_the_others_go_on(ring_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "spans.jsonl"
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64) as small,
        DrainProcess(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) as drain,
    ):
        emit(small, range(10))
        until(lambda: small.stats().pending == 0)
        pid = drain.process.pid
        limit = virtual_bytes(pid) + 64 * MEBIBYTE
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=LARGE) as large:
            emit(large, range(10, 20))
            said = drain.wait_for_event("ring cannot be attached now")
            assert "Cannot allocate memory" in said["reason"]
            emit(small, range(20, 30))
            until(lambda: small.stats().pending == 0)
            assert large.stats().pending == 10
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            until(lambda: large.stats().pending == 0)
        assert drain.stop() == 0
    assert sorted(numbers_in_file(output)) == list(range(30))
