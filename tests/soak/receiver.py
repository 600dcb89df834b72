"""An OTLP/HTTP receiver in changing moods: keeps each body before it accepts it, and misbehaves as it is told.

    receiver.py PORT KEPT MOOD

MOOD is a file with the name of a mood, read at each request. A body is appended to KEPT; what is refused for good, to
KEPT.refused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.kept_bodies import KeptBodies
from tests.otlp_server import OtlpHttpServer, disconnect, drip, endless, reply, silent
from tests.soak.ledger import NUMBER_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.otlp_server import OtlpHandler

    Play = Callable[[OtlpHandler], None]
    Mood = Callable[["Files", OtlpHandler], None]

REFUSED_OF: Final = 100
"""Of so many spans one is bad, whichever request it comes in: halving a batch that is refused finds it."""


def has_bad_span(body: bytes) -> bool:
    """Whether a receiver that refuses bad spans answers 400."""
    return any(
        (span.start_time_unix_nano & ((1 << NUMBER_BITS) - 1)) % REFUSED_OF == 0
        for resource_spans in TracesData.FromString(body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    )


class Files:
    """What a receiver keeps: the bodies that it takes, and those that it refuses for good.

    Args:
        kept: the file of the former; the other's name ends in `.refused`.
    """

    def __init__(self, kept: Path) -> None:
        self.kept = KeptBodies(kept)
        self.refused = KeptBodies(kept.with_name(f"{kept.name}.refused"))


def taking(play: Play) -> Mood:
    """Keep the body first."""

    def meet(files: Files, handler: OtlpHandler) -> None:
        files.kept.add(handler.received.body)
        play(handler)

    return meet


def without(play: Play) -> Mood:
    """Keep nothing."""
    return lambda _files, handler: play(handler)


def refuse_bad_spans(files: Files, handler: OtlpHandler) -> None:
    body = handler.received.body
    is_bad = has_bad_span(body)
    (files.refused if is_bad else files.kept).add(body)
    handler.answer(400 if is_bad else 200, b"no" if is_bad else b"")


def redirect(files: Files, handler: OtlpHandler) -> None:
    files.refused.add(handler.received.body)
    handler.answer(307, headers={"Location": "http://127.0.0.1:1/"})


def talk_rubbish(handler: OtlpHandler) -> None:
    handler.wfile.write(os.urandom(2000))
    handler.close_connection = True


MOODS: Final[dict[str, Mood]] = {
    "well": taking(reply(200)),
    "unavailable": without(reply(503)),
    "throttling": without(reply(429, headers={"Retry-After": "0"})),
    "refusing": refuse_bad_spans,
    "redirecting": redirect,
    "hanging up": taking(disconnect),
    "silent": without(silent),
    "dawdling": without(drip(b"HTTP/1.1 200 OK\r\nX-Drip: ")),
    "rambling": taking(endless()),
    "rubbish": without(talk_rubbish),
    "rubbish for an answer": taking(reply(200, b"\xff" * 500)),
    "long headers": taking(reply(200, headers={"X-Long": "x" * 100_000})),
}


def main() -> None:
    port, kept, mood = sys.argv[1:]
    files = Files(Path(kept))

    def meet(handler: OtlpHandler) -> None:
        with contextlib.suppress(OSError):  # the client has had enough
            MOODS[Path(mood).read_text()](files, handler)

    with OtlpHttpServer(int(port), otherwise=meet, keeps=False):
        signal.pause()
