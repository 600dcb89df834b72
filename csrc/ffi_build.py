"""Feeds the marked sections of headers to cffi.

Of ringbuf.h ABI and HOT go to `_hot`, COLD to `_ringbuf`, which includes `_hot`; of the drain's own both to `_ringbuf`.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
DRAINS = [
    "accounting/exemplars.h",
    "accounting/span_codes.h",
    "destinations/kafka.h",
    "hold/hold.h",
    "otlp/kept/kept.h",
    "sampling/traces.h",
]

# cffi wraps each call between these two macros: as plain braces the call keeps the GIL.
KEEP_THE_GIL = """
#include <Python.h>
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""


def section(name: str, header: str = "ringbuf.h") -> str:
    """Return the blocks between `/* [name] */` and `/* [/name] */`, in their order."""
    text = (HERE / header).read_text(encoding="utf-8")
    blocks = re.findall(rf"^/\* \[{name}\] \*/$(.*?)^/\* \[/{name}\] \*/$", text, re.DOTALL | re.MULTILINE)
    if not blocks:
        raise SystemExit(f"{header} has no section [{name}]")
    return "\n".join(blocks)


hot = FFI()
hot.cdef(section("ABI") + section("HOT"))
hot.set_source("ringbuf._hot", KEEP_THE_GIL + '#include "ringbuf.h"')

# Included, not declared again: a pointer or struct that one module made is then of the type that the other takes.
ringbuf = FFI()
ringbuf.include(hot)
ringbuf.cdef(section("COLD"))
for header in DRAINS:
    ringbuf.cdef(section("ABI", header) + section("COLD", header))
ringbuf.set_source("ringbuf._ringbuf", "".join(f'#include "{header}"\n' for header in ["ringbuf.h", *DRAINS]))
