"""A batch is in the spool when it is on the disk: a machine that loses its power then has it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.python import output_of

if TYPE_CHECKING:
    import pytest

PUT = """
import ctypes, sys
from pathlib import Path
import structlog
from drain.otlp.request import Request
from drain.spool.spool import Spool, SpoolLimits
calls = ctypes.CDLL(None).sync_shim_calls
calls.restype = ctypes.c_uint64
log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
spool = Spool(Path(sys.argv[1]), SpoolLimits(16 << 20), log=log)
for number in range(5):
    before = calls()
    spool.put(Request(b"%d" % number, 1, "protobuf", services={"shop": 1})).result(30)
    print(calls() - before)
spool.close()
"""


def test_a_batch_is_said_to_be_spooled_after_the_disk_has_it(
    c_compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "sync_shim.so"
    source = Path(__file__).with_name("sync_shim.c")
    subprocess.run([c_compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", shim, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    calls = [int(line) for line in output_of(PUT, tmp_path / "spool").splitlines()]
    assert len(calls) == 5
    assert min(calls) >= 1, calls
