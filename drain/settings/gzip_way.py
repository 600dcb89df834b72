"""Whether gzip is made straight from records by some settings, for those who read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.settings.exporter_kind import ExporterKind

if TYPE_CHECKING:
    from drain.settings.settings import Settings


def gzip_way(settings: Settings) -> str:
    """Return in words whether a drain with these settings makes gzip straight from records, and why it does not.

    Of which layouts it does depends on them, and on the processor: `ringbuf stat` says it.
    """
    is_http = settings.exporter is ExporterKind.OTLP_HTTP or (
        settings.exporter is ExporterKind.OTLP and settings.protocol == "http/protobuf"
    )
    if not is_http:
        return "no, only as protobuf over HTTP"
    if settings.compression not in {None, "gzip"}:
        return f"no, compression is {settings.compression}"
    if settings.sampling is not None or settings.keep_ratio is not None:
        return "no, what late sampling keeps is encoded first"
    return "yes, of layouts that allow it (ringbuf stat says which)"
