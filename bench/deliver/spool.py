"""What the spool takes and gives back: spans and bytes a second. `python -m bench.deliver.spool [FOLDER [ROUNDS]]`.

FOLDER is on the disk that is asked about (default: the present one): every figure but those of the compression is the
disk's as much as ours. In each round as many batches of 8192 spans as make 128 MiB before compression are put, until
the last is durable; then all are taken by four threads, and removed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import zstandard
from isal import isal_zlib

from bench.cost.encode import records
from bench.measure import Figure
from drain.accounting.outcome import Outcome
from drain.otlp.encoder import Encoder
from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits
from ringbuf.dataplane import DATAPLANE_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable

SPANS: Final = 8192
_ROUND_BYTES: Final = 128 << 20
_THREADS: Final = 4
_COMPRESSIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip 0 (isal)": lambda body: isal_zlib.compress(body, 0, 31),
    "gzip 1 (isal), the spool's": lambda body: isal_zlib.compress(body, 1, 31),
    "gzip 2 (isal)": lambda body: isal_zlib.compress(body, 2, 31),
    "zstd 1": lambda body: zstandard.ZstdCompressor(level=1, write_checksum=True).compress(body),
    "zstd 3": lambda body: zstandard.ZstdCompressor(level=3, write_checksum=True).compress(body),
}


def main() -> None:
    """Measure, and print a line for each figure: the median of the rounds [smallest ... largest]."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.spool", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="on the disk that is asked about (.)")
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="(5)")
    options = parser.parse_args()
    folder, rounds = options.folder, options.rounds
    encoder = Encoder(DATAPLANE_LAYOUT, {"service.name": "bench"})
    request = Request(encoder.encode(records(SPANS)).body, SPANS, "protobuf")
    print(f"{SPANS} spans: {len(request.body)} bytes as protobuf")
    for name, compress in _COMPRESSIONS.items():
        compressed = len(compress(request.body))
        figure = Figure.of(_rate(compress, request.body) for _ in range(rounds))
        print(f"{name:28} {_millions(figure)} million spans/s, {compressed / SPANS:6.1f} bytes a span")
    figures = [_through_the_spool(folder, request) for _ in range(rounds)]
    for at, name in enumerate(("put until durable", "taken and removed")):
        figure = Figure.of(each[at] for each in figures)
        print(f"{name:28} {_millions(figure)} million spans/s")
    print(f"{'file':28} {figures[0][2] / SPANS:.1f} bytes a span")


def _rate(compress: Callable[[bytes], bytes], body: bytes) -> float:
    times = 20
    start = time.perf_counter()
    for _ in range(times):
        compress(body)
    return times * SPANS / (time.perf_counter() - start)


def _through_the_spool(folder: Path, request: Request) -> tuple[float, float, float]:
    """Return spans a second put, spans a second taken, and bytes of file for a batch."""
    batches = _ROUND_BYTES // len(request.body)
    path = Path(tempfile.mkdtemp(prefix="bench-spool-", dir=folder))
    spool = Spool(path / "spool", SpoolLimits(1 << 30), log=structlog.wrap_logger(structlog.testing.CapturingLogger()))
    try:
        start = time.perf_counter()
        # Each its own: a request is compressed once.
        requests = [Request(request.body, SPANS, "protobuf", services={"bench": SPANS}) for _ in range(batches)]
        futures = [spool.put(request) for request in requests]
        for future in futures:
            spool.back(future.result())
        put = batches * SPANS / (time.perf_counter() - start)
        file_bytes = spool.status().file_bytes / batches
        start = time.perf_counter()
        threads = [threading.Thread(target=_empty, args=(spool,)) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spool.close()
        return put, batches * SPANS / (time.perf_counter() - start), file_bytes
    finally:
        shutil.rmtree(path)


def _empty(spool: Spool) -> None:
    while entries := spool.take():
        for entry in entries:
            spool.done(entry, Outcome(delivered=entry.request.spans))


def _millions(figure: Figure) -> str:
    return f"{figure.median / 1e6:5.2f} [{figure.low / 1e6:.2f} ... {figure.high / 1e6:.2f}]"


if __name__ == "__main__":
    main()
