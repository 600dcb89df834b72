"""Tracing spans through a shared-memory ring: what a producer embeds.

A producer writes each span as one record into a ring; a separate process, the drain, delivers it as OTLP.

>>> import tempfile
>>> from ringbuf.dataplane import LeaseId, OpType, site
>>> with tempfile.TemporaryDirectory() as directory, Emitter("shop", ring_dir=directory) as emitter:
...     read = site(OpType.FBMU_READ, emitter=emitter)
...     lease = LeaseId(0xC0FFEE)
...     with read.span(lease) as span:
...         span.nbytes = 4096
...     read.emit(lease, 1_700_000_000_000_000_000, 1_700_000_000_000_000_250, 512)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ringbuf.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ringbuf._site import unix_nano
    from ringbuf.emitter import Emitter, EmitterStats
    from ringbuf.exceptions import LayoutError, RingBufferError, RingCreateError, RingFormatError, RingVersionError
    from ringbuf.layout.layout import Attribute, SpanLayout
    from ringbuf.shared import configure, get_emitter
    from ringbuf.sites.context import bind_context, current_span, use_span
    from ringbuf.sites.site import Site, SiteSpan
    from ringbuf.sites.span import current_traceparent
    from ringbuf.status import SpanKind, Status
    from ringbuf.traceparent import TraceContext, TraceParent, format_traceparent, parse_traceparent

__all__ = [
    "Attribute",
    "Emitter",
    "EmitterStats",
    "LayoutError",
    "RingBufferError",
    "RingCreateError",
    "RingFormatError",
    "RingVersionError",
    "Site",
    "SiteSpan",
    "SpanKind",
    "SpanLayout",
    "Status",
    "TraceContext",
    "TraceParent",
    "__version__",
    "bind_context",
    "configure",
    "current_span",
    "current_traceparent",
    "format_traceparent",
    "get_emitter",
    "get_include",
    "get_library_dir",
    "parse_traceparent",
    "unix_nano",
    "use_span",
]

_MODULES = {
    "Attribute": "layout.layout",
    "Emitter": "emitter",
    "EmitterStats": "emitter",
    "LayoutError": "exceptions",
    "RingBufferError": "exceptions",
    "RingCreateError": "exceptions",
    "RingFormatError": "exceptions",
    "RingVersionError": "exceptions",
    "Site": "sites.site",
    "SiteSpan": "sites.site",
    "SpanKind": "status",
    "SpanLayout": "layout.layout",
    "Status": "status",
    "TraceContext": "traceparent",
    "TraceParent": "traceparent",
    "bind_context": "sites.context",
    "configure": "shared",
    "current_span": "sites.context",
    "current_traceparent": "sites.span",
    "format_traceparent": "traceparent",
    "get_emitter": "shared",
    "parse_traceparent": "traceparent",
    "unix_nano": "_site",
    "use_span": "sites.context",
}


def __getattr__(name: str) -> Any:
    # Loaded at first use: `ringbuf.get_include()` in a build must not need the extension, and `import ringbuf`
    # shall not cost more than it has to.
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module 'ringbuf' has no attribute {name!r}") from None
    value = getattr(import_module(f"ringbuf.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def get_include() -> Path:
    """Return the folder that holds `ringbuf.h`, for `-I`."""
    return _installed("include")


def get_library_dir() -> Path:
    """Return the folder that holds `libringbuf.a`, and under it `pkgconfig` and `cmake`."""
    return _installed("lib")


def _installed(name: str) -> Path:
    # An editable install has this file in the checkout and what CMake installed in site-packages.
    from importlib.resources import files  # noqa: PLC0415 - 8 ms that only a build pays
    from pathlib import Path  # noqa: PLC0415 - the same

    return Path(str(files("ringbuf") / name))
