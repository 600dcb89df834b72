"""An OTLP/HTTP receiver that is killed and restarted: keeps each body before it answers, and answers as it likes.

argv: port, file, seed. A body is appended to the file in one write, with its length before it. Some requests are
refused before they are kept (503, 429), some are kept and then get no answer: the client must send those again.
"""

from __future__ import annotations

import gzip
import os
import random
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(port: int, path: str, seed: int) -> None:
    kept = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            chance = dice.random()
            if chance < 0.05:
                self.answer(503)
                return
            if chance < 0.1:
                self.answer(429, "Retry-After", "0")
                return
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            os.write(kept, struct.pack("<I", len(body)) + body)
            if chance < 0.15:
                self.close_connection = True  # kept, and the client does not know
                return
            self.answer(200)

        def answer(self, status: int, *header: str) -> None:
            self.send_response(status)
            if header:
                self.send_header(*header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
