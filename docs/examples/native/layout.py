"""The vocabulary of the native examples: programs that read and write files.

ringbuf layout docs/examples/native/layout.py > docs/examples/native/files_layout.h
"""

from __future__ import annotations

from typing import Final

from ringbuf import Attribute, SpanLayout

LAYOUT: Final = SpanLayout(
    span_names=["files.copy", "files.chunk", "files.count_all", "files.count"],
    attributes=[
        Attribute("files.path", "str", 44),
        Attribute("files.bytes", "u64"),
        Attribute("files.offset", "u64"),
        Attribute("files.outcome", "label", labels=("ok", "not_found", "denied", "error"), metric_label=True),
    ],
    scope_name="files",
    scope_version="1",
)
