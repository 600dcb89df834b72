"""A drain keeps the memory of a batch for the next."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from drain.commands import serve

BATCHES = 10
PAGES = (18 << 20) // 4096  # of a batch
BATCHES_AND_THEIR_FAULTS = f"""
import resource
from drain.commands.serve import _keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def make_a_batch():
    body = bytes(bytearray(6 << 20))
    b"".join((body, body))

_keep_memory()
make_a_batch()
before = faults()
for _ in range({BATCHES}):
    make_a_batch()
print(faults() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library cannot be told so")
def test_the_next_batch_has_the_pages_of_the_one_before() -> None:
    command = [sys.executable, "-c", BATCHES_AND_THEIR_FAULTS]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert int(told) < BATCHES * PAGES / 10


def test_a_c_library_without_such_a_setting_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    serve._keep_memory()
