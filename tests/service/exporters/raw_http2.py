"""An HTTP/2 server of frames: it answers with the bytes that a test makes, also those that no library would send."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_PREFACE_BYTES = 24


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(*pairs: tuple[str, str]) -> bytes:
    """Return a header block (RFC 7541, 6.2.2: literals that are not indexed, no Huffman code)."""
    texts = ((name.encode(), value.encode()) for name, value in pairs)
    return b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in texts)


def trailers_only(*pairs: tuple[str, str]) -> Callable[[int], bytes]:
    return lambda stream: frame(HEADERS, END_STREAM | END_HEADERS, stream, headers(*pairs))


def page(status: int, content_type: str = "text/html") -> Callable[[int], bytes]:
    """Answer as a proxy does that speaks HTTP and no gRPC."""
    head = headers((":status", str(status)), ("content-type", content_type))
    return lambda stream: frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, b"<h1>no</h1>")


def reset(code: int, *, behind_headers: bool = False) -> Callable[[int], bytes]:
    head = headers((":status", "200"), ("content-type", "application/grpc"))
    first = head if behind_headers else b""
    return lambda stream: (
        (frame(HEADERS, END_HEADERS, stream, first) if first else b"")
        + frame(RST_STREAM, 0, stream, struct.pack(">I", code))
    )


class RawHttp2Server:
    """Answers each request with the bytes that `answer` makes of its stream's number."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.answer = answer
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(10)
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection, connection.makefile("rb") as stream:
            _exactly(stream.read(_PREFACE_BYTES), _PREFACE_BYTES)
            connection.sendall(frame(SETTINGS, 0, 0))
            while True:
                head = _exactly(stream.read(9), 9)
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                payload = _exactly(stream.read(size), size)
                if kind in {SETTINGS, PING} and not flags & ACK:
                    connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
                if kind == DATA and flags & END_STREAM:
                    self.calls += 1
                    connection.sendall(self.answer(int.from_bytes(head[5:])))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise EOFError
    return data
