"""An OTLP/HTTP receiver in changing moods: keeps each body before it accepts it, and misbehaves as it is told.

    receiver.py PORT KEPT MOOD

MOOD is a file with the name of a mood, read at each request. A body is appended to KEPT in one write, its length first;
what is refused for good, to KEPT.refused.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STOP_SECONDS = 10.0  # no connection outlives the client's patience by more


class Receiver(BaseHTTPRequestHandler):
    """One request, in the mood of the moment."""

    protocol_version = "HTTP/1.1"
    timeout = STOP_SECONDS
    kept = refused = -1
    mood = Path()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(OSError):  # the client has had enough
            MOODS[self.mood.read_text()](self)

    def keep(self, to: int | None = None) -> None:
        body = gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body
        os.write(self.kept if to is None else to, struct.pack("<I", len(body)) + body)

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def accept(self) -> None:
        self.keep()
        self.answer(200)

    def accept_with_rubbish(self) -> None:
        self.keep()
        self.answer(200, {}, b"\xff" * 500)

    def accept_at_length(self) -> None:
        self.keep()
        self.answer(200, {"X-Long": "x" * 100_000})

    def refuse(self) -> None:
        self.keep(self.refused)
        self.answer(405, {"Content-Type": "text/plain"}, b"no")

    def redirect(self) -> None:
        self.keep(self.refused)
        self.answer(307, {"Location": "http://127.0.0.1:1/"})

    def hang_up(self) -> None:
        """Keep it, and leave the client in the dark."""
        self.keep()
        self.close_connection = True

    def be_silent(self) -> None:
        self.close_connection = True
        self.connection.recv(1)  # until the client has had enough

    def dawdle(self) -> None:
        """Answer byte by byte, which the client's timeout ends."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def ramble(self) -> None:
        """Accept with a body without end."""
        self.keep()
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    def talk_rubbish(self) -> None:
        self.close_connection = True
        self.wfile.write(os.urandom(2000))

    def log_message(self, *_arguments: object) -> None:
        pass


MOODS: dict[str, Callable[[Receiver], None]] = {
    "well": Receiver.accept,
    "unavailable": lambda request: request.answer(503),
    "throttling": lambda request: request.answer(429, {"Retry-After": "0"}),
    "refusing": Receiver.refuse,
    "redirecting": Receiver.redirect,
    "hanging up": Receiver.hang_up,
    "silent": Receiver.be_silent,
    "dawdling": Receiver.dawdle,
    "rambling": Receiver.ramble,
    "rubbish": Receiver.talk_rubbish,
    "rubbish for an answer": Receiver.accept_with_rubbish,
    "long headers": Receiver.accept_at_length,
}


def main() -> None:
    port, kept, mood = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    Receiver.kept, Receiver.refused = os.open(kept, flags, 0o600), os.open(f"{kept}.refused", flags, 0o600)
    Receiver.mood = Path(mood)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()
