"""Where the drain delivers to: one small protocol, one file for each kind of exporter.

An exporter makes exactly one attempt a call and says what came of it. Waiting and trying again is the delivery's
part (`drain.delivery.retry`), so that a stop, a spool or a full lane can end the waiting at any time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import ringbuf

if TYPE_CHECKING:
    from pathlib import Path

    from drain.exporters.file import FileOptions
    from drain.settings.otlp_environment import OtlpSettings

Encoding = Literal["protobuf", "json"]

EXPORTER_KINDS = ("file", "console", "otlp", "otlp-http", "otlp-http-json", "otlp-grpc")

USER_AGENT = f"OTel-OTLP-Exporter-ringbuf/{ringbuf.__version__} (Python)"
"""Names the exporter, its version and its language (specification `protocol/exporter.md`, "User Agent")."""

_KIND_BY_PROTOCOL = {"grpc": "otlp-grpc", "http/protobuf": "otlp-http", "http/json": "otlp-http-json"}


class Verdict(enum.Enum):
    """What became of one attempt, and thereby what the delivery may do next."""

    DELIVERED = "delivered"
    """The backend has the batch; a part may have been rejected for good (`Result.rejected`)."""
    RETRY = "retry"
    """Nobody knows that the backend has it: the same batch is sent again, later."""
    REFUSED = "refused"
    """The backend will never take it: sending it again is forbidden by OTLP."""
    TOO_LARGE = "too large"
    """The backend takes no request of this size: the halves may be sent."""


@dataclass(frozen=True, slots=True)
class Request:
    r"""One batch of encoded spans, not compressed.

    Attributes:
        body: a `TracesData` message when `encoding` is "protobuf" (on the wire the same as an
            `ExportTraceServiceRequest`), a whole line `{"resourceSpans":[...]}\n` when it is "json".
        spans: how many spans `body` holds.
        encoding: "protobuf" or "json".
    """

    body: bytes
    spans: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Result:
    """What one attempt came to.

    Attributes:
        verdict: what happened, and what may be done next.
        rejected: spans of a delivered batch that the backend did not take (OTLP partial success).
        message: one printable line for the log; empty when there is nothing to tell.
        retry_after: seconds that the backend asks to be left alone, or None.
        sent_bytes: size of the body as it went out, None where the exporter cannot tell.
    """

    verdict: Verdict
    rejected: int = 0
    message: str = ""
    retry_after: float | None = None
    sent_bytes: int | None = field(default=None, compare=False)


class Exporter(Protocol):
    """Delivers batches; safe to call from several threads.

    Attributes:
        encoding: the encoding that `export` sends. A request in the other one is translated, at a cost.
        endpoint: where the spans go, for logs; without credentials.
    """

    encoding: Encoding
    endpoint: str

    def export(self, request: Request) -> Result:
        """Make one attempt, blocking up to the exporter's timeout; trouble with the backend is never raised.

        Raises:
            ValueError: the request is in the other encoding, and its body does not parse.
        """
        ...

    def close(self) -> None:
        """Give up connections and files; attempts that still run may end in `Verdict.RETRY`."""
        ...


def make_exporter(
    kind: str,
    *,
    otlp: OtlpSettings,
    endpoint: str | None = None,
    output: Path | None = None,
    file: FileOptions | None = None,
) -> Exporter:
    """Return the exporter of this kind; only its own dependencies are imported.

    Args:
        kind: one of `EXPORTER_KINDS`; "otlp" is the one that `otlp.protocol` names.
        otlp: what the OTEL_EXPORTER_OTLP_* variables say, for the kinds otlp*.
        endpoint: for the kinds otlp*; beats `otlp.endpoint`. Over HTTP it is a base URL, to which `/v1/traces` is
            appended unless it ends so.
        output: the file of kind "file"; `-` is standard output.
        file: rotation, compression and sync of kind "file".

    Raises:
        ValueError: a setting cannot work; the text says which, and what to do.
    """
    from drain.settings.otlp_environment import DEFAULT_GRPC_ENDPOINT, http_traces_url  # noqa: PLC0415 - it imports this module

    if kind == "otlp":
        kind = _KIND_BY_PROTOCOL[otlp.protocol]
    match kind:
        case "file":
            from drain.exporters.file import FileExporter, FileOptions  # noqa: PLC0415 - one kind's dependencies
            from drain.exporters.stdout import StdoutExporter  # noqa: PLC0415 - one kind's dependencies

            if output is None:
                raise ValueError("exporter file needs an output: name a file, or - for standard output")
            if str(output) != "-":
                return FileExporter(output, file or FileOptions())
            if file not in {None, FileOptions()}:
                raise ValueError("standard output cannot be rotated, synced or compressed: name a file, or use a pipe")
            return StdoutExporter()
        case "console":
            from drain.exporters.console import ConsoleExporter  # noqa: PLC0415 - one kind's dependencies

            return ConsoleExporter()
        case "otlp-http" | "otlp-http-json":
            from drain.exporters.otlp_http import OtlpHttpExporter  # noqa: PLC0415 - one kind's dependencies

            encoding: Encoding = "json" if kind == "otlp-http-json" else "protobuf"
            return OtlpHttpExporter(http_traces_url(otlp, endpoint), encoding, otlp)
        case "otlp-grpc":
            from drain.exporters.otlp_grpc import OtlpGrpcExporter  # noqa: PLC0415 - one kind's dependencies

            return OtlpGrpcExporter(endpoint or otlp.endpoint or DEFAULT_GRPC_ENDPOINT, otlp)
        case _:
            raise ValueError(f"unknown exporter {kind!r}: choose one of {', '.join(EXPORTER_KINDS)}")
