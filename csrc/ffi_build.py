"""Feeds the marked sections of ringbuf.h to cffi: ABI and HOT to `_hot`, COLD to `_ringbuf`, which includes `_hot`."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).with_name("ringbuf.h").read_text(encoding="utf-8")

# cffi wraps each call between these two macros: as plain braces the call keeps the GIL.
KEEP_THE_GIL = """
#include <Python.h>
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""


def section(name: str) -> str:
    """Return the blocks between `/* [name] */` and `/* [/name] */`, in their order."""
    blocks = re.findall(rf"^/\* \[{name}\] \*/$(.*?)^/\* \[/{name}\] \*/$", HEADER, re.DOTALL | re.MULTILINE)
    if not blocks:
        raise SystemExit(f"ringbuf.h has no section [{name}]")
    return "\n".join(blocks)


hot = FFI()
hot.cdef(section("ABI") + section("HOT"))
hot.set_source("ringbuf._hot", KEEP_THE_GIL + '#include "ringbuf.h"')

# Included, not declared again: a pointer or struct that one module made is then of the type that the other takes.
ringbuf = FFI()
ringbuf.include(hot)
ringbuf.cdef(section("COLD"))
ringbuf.set_source("ringbuf._ringbuf", '#include "ringbuf.h"')
