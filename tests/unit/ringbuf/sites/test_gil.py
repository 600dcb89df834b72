"""The hot functions keep the GIL; the others give it up."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ringbuf._hot as hot_module  # type: ignore[import-not-found,unused-ignore] # built
import ringbuf._ringbuf as cold_module  # type: ignore[import-not-found,unused-ignore] # built

GIVES_THE_GIL_UP = "PyEval_SaveThread"
DYNSYM = 11  # SHT_DYNSYM
UNDEFINED = 0  # SHN_UNDEF


def imported_symbols(path: Path) -> set[str]:
    """Return the names that a 64-bit little-endian ELF file takes from others."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (sections_at,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    # Name, type, flags, address, offset, size, link, info, alignment, entry size.
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + index * size) for index in range(count)]
    names = set()
    for section in sections:
        if section[1] != DYNSYM:
            continue
        strings_at = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], section[9]):
            name, _, _, defined_in = struct.unpack_from("<IBBH", data, at)
            if defined_in == UNDEFINED:
                start = strings_at + name
                names.add(data[start : data.index(b"\0", start)].decode())
    return names - {""}


def test_the_hot_module_cannot_give_the_gil_up() -> None:
    symbols = imported_symbols(Path(hot_module.__file__))
    assert "PyErr_Occurred" in symbols  # the table was read
    assert GIVES_THE_GIL_UP not in symbols


def test_the_other_module_gives_it_up() -> None:
    assert GIVES_THE_GIL_UP in imported_symbols(Path(cold_module.__file__))


@pytest.mark.parametrize("module", [hot_module, cold_module])
def test_nm_finds_the_same_symbols(module: Any) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm to compare with")
    path = module.__file__
    done = subprocess.run([nm, "-D", "--undefined-only", path], capture_output=True, text=True, check=True)
    names = {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()}
    assert imported_symbols(Path(path)) == names
