"""Connections that died, tokens and certificates that changed: the next attempts go by new ones."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Self

import grpc
import pytest
import trustme

from drain.exporters import otlp_grpc, renewal
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer, reply
from tests.waiting import SECONDS, until

from .batches import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.exporters.protocol import Exporter

KINDS = pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])


@pytest.fixture(autouse=True)
def _look_at_files_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(renewal, "_ROTATION_SECONDS", 0.0)


def server_of(kind: str, **options: Any) -> OtlpHttpServer | OtlpGrpcServer:
    return OtlpGrpcServer(**options) if kind == "otlp-grpc" else OtlpHttpServer(**options)


class Relay:
    """Passes bytes on to a port; `freeze` lets the connections that there are die without a word."""

    def __init__(self, port: int) -> None:
        self.accepted = 0
        self.ended = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self._stopping = threading.Event()
        self._frozen = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def freeze(self) -> None:
        self._frozen.set()
        self._frozen = threading.Event()  # of the connections to come

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self.accepted += 1
                backend = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, backend]
                for source, target in ((client, backend), (backend, client)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target, self._frozen))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, frozen: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not frozen.is_set():
                    target.sendall(data)
        self.ended += 1

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._threads[0].join()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for one in (*self._sockets, self._listener):
            one.close()


@KINDS
def test_a_connection_that_died_without_a_word_is_left(kind: str) -> None:
    with server_of(kind) as server, Relay(server.port) as relay:
        exporter = make_exporter(kind, endpoint=relay.url, otlp=OtlpSettings(timeout_seconds=1.5))
        until(lambda: exporter.export(request()).verdict is Verdict.DELIVERED, lambda: None)
        relay.freeze()
        # The third attempt, unless it is held up.
        until(lambda: exporter.export(request()).verdict is Verdict.DELIVERED, lambda: None)
        exporter.close()
    assert relay.accepted >= 2


def test_a_grpc_connection_that_answers_no_ping_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands between acknowledges each packet, and hands none on.

    The core sends a ping only while a call is open, and when the last one is a second old, which may have been to
    measure the connection. In how many attempts that comes to pass is not what this is about.
    """
    monkeypatch.setattr(otlp_grpc, "_KEEPALIVE_MS", 100)
    monkeypatch.setattr(otlp_grpc, "_KEEPALIVE_ANSWER_MS", 300)
    monkeypatch.setattr(renewal, "_FAILURES", 1 << 30)  # it is the core that ends the connection, and nobody else
    with OtlpGrpcServer() as server, Relay(server.port) as relay:
        exporter = make_exporter("otlp-grpc", endpoint=relay.url, otlp=OtlpSettings(timeout_seconds=1.5))
        until(lambda: exporter.export(request()).verdict is Verdict.DELIVERED, lambda: None)
        time.sleep(0.2)  # for the answer to the ping that measures: without one, that would end the connection
        relay.freeze()
        until(lambda: relay.ended, lambda: exporter.export(request()))
        until(lambda: exporter.export(request()).verdict is Verdict.DELIVERED, lambda: None)
        exporter.close()


def test_after_a_503_a_new_connection_is_tried() -> None:
    with OtlpHttpServer() as server:
        exporter = make_exporter("otlp-http", endpoint=server.url, otlp=OtlpSettings())
        server.play(reply(503), reply(503))
        verdicts = [exporter.export(request()).verdict for _ in range(3)]
        exporter.close()
        assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.DELIVERED]
        assert len(server.connections) == 2


@KINDS
@pytest.mark.parametrize(("age", "connections"), [(0.0, 1), (1e-9, 3)])
def test_a_connection_is_left_when_it_is_old(kind: str, age: float, connections: int) -> None:
    with server_of(kind) as server, Relay(server.port) as relay:
        exporter = make_exporter(kind, endpoint=relay.url, otlp=OtlpSettings(max_connection_age=age))
        assert all(exporter.export(request()).verdict is Verdict.DELIVERED for _ in range(3))
        exporter.close()
        assert relay.accepted == connections


@KINDS
def test_calls_that_run_when_a_connection_is_left_are_not_cancelled(kind: str) -> None:
    with server_of(kind) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(max_connection_age=1e-9))
        verdicts: list[Verdict] = []
        threads = [
            threading.Thread(target=lambda: verdicts.extend(exporter.export(request()).verdict for _ in range(25)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        exporter.close()
    assert verdicts == [Verdict.DELIVERED] * 100


@KINDS
def test_a_token_that_changes_is_taken_up(kind: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("# of the gateway\nAuthorization: Bearer one\n\n")
    with server_of(kind) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(headers_file=token, headers={"a": "b"}))
        exporter.export(request())
        token.write_text("Authorization: Bearer second\n")
        exporter.export(request())
        token.write_text("half a li")  # in the middle of being written
        assert exporter.export(request()).verdict is Verdict.DELIVERED
        exporter.close()
        assert [one.headers["authorization"] for one in server.requests] == ["Bearer one", *["Bearer second"] * 2]
        assert all(one.headers["a"] == "b" for one in server.requests)


@KINDS
def test_a_headers_file_that_cannot_work_is_refused_without_its_words(kind: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    for text in ("s3cret", "a: s3cret\x00", "a b: s3cret"):
        token.write_text(text)
        with pytest.raises(ValueError, match=r"line 1 of .*token cannot be sent") as caught:
            make_exporter(kind, endpoint="http://127.0.0.1:1", otlp=OtlpSettings(headers_file=token))
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot read"):
        make_exporter(kind, endpoint="http://127.0.0.1:1", otlp=OtlpSettings(headers_file=tmp_path / "none"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(kind: str, authority: trustme.CA, *, asks_clients: bool = False) -> OtlpHttpServer | OtlpGrpcServer:
    import ssl  # noqa: PLC0415 - beside its only use

    leaf = authority.issue_cert("127.0.0.1")
    if kind == "otlp-grpc":
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        roots = authority.cert_pem.bytes() if asks_clients else None
        pair = leaf.private_key_pem.bytes(), chain
        return OtlpGrpcServer(credentials=grpc.ssl_server_credentials([pair], roots, asks_clients))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if asks_clients:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return OtlpHttpServer(tls=context)


def delivers(exporter: Exporter) -> bool:
    return exporter.export(request()).verdict is Verdict.DELIVERED


@KINDS
def test_authorities_that_change_are_taken_up_by_the_next_attempt_and_half_a_file_is_not(
    kind: str, tmp_path: Path, authority: trustme.CA
) -> None:
    trusted = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(trusted)
    with tls_server(kind, authority) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(certificate=trusted, timeout_seconds=60))
        assert not delivers(exporter)
        authority.cert_pem.write_to_path(trusted)
        assert delivers(exporter), "the file has changed; a second failure would have made a new connection, too"
        trusted.write_text("-----BEGIN CERT")
        assert delivers(exporter)
        trustme.CA().cert_pem.write_to_path(trusted)
        assert not delivers(exporter)
        exporter.close()


@KINDS
def test_a_client_certificate_that_is_renewed_is_shown_by_the_next_attempt(
    kind: str, tmp_path: Path, authority: trustme.CA
) -> None:
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"

    def issue(by: trustme.CA) -> None:
        leaf = by.issue_cert("client")
        leaf.private_key_pem.write_to_path(key)
        chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    authority.cert_pem.write_to_path(trusted)
    issue(trustme.CA())
    settings = OtlpSettings(certificate=trusted, client_certificate=chain, client_key=key, timeout_seconds=60)
    with tls_server(kind, authority, asks_clients=True) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=settings)
        assert not delivers(exporter)
        issue(authority)
        assert delivers(exporter)
        exporter.close()


@pytest.mark.parametrize(
    ("kind", "variable"),
    [("otlp-http", "SSL_CERT_FILE"), ("otlp-grpc", "SSL_CERT_FILE"), ("otlp-grpc", "SSL_CERT_DIR")],
)
def test_both_protocols_trust_what_openssl_trusts(
    kind: str, variable: str, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "README").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem" if variable == "SSL_CERT_FILE" else tmp_path))
    with tls_server(kind, authority) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(timeout_seconds=60))
        assert delivers(exporter)
        exporter.close()


class ProxyServer(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Proxy)
        self.asked: list[str | None] = []


@contextlib.contextmanager
def proxy_server() -> Iterator[ProxyServer]:
    with ProxyServer() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(120)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Lets nobody through, and remembers who asked."""

    server: ProxyServer

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.headers.get("Proxy-Authorization"))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # unread, it would take the answer back by a reset
        self.send_error(407)

    def do_POST(self) -> None:
        self.do_CONNECT()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "scheme", "variable"),
    [
        ("otlp-http", "http", "http_proxy"),
        ("otlp-http", "http", "all_proxy"),
        ("otlp-http", "https", "https_proxy"),
        ("otlp-grpc", "http", "http_proxy"),
        ("otlp-grpc", "http", "all_proxy"),  # which gRPC's own rules do not know
    ],
)
def test_a_proxy_gets_its_credentials_and_its_407_is_held(
    kind: str, scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_server() as proxy:
        monkeypatch.setenv(variable, f"http://me:pass%21@127.0.0.1:{proxy.server_port}")
        settings = OtlpSettings(timeout_seconds=60, hold=False)
        exporter = make_exporter(kind, endpoint=f"{scheme}://collector.invalid:4318", otlp=settings)
        result = exporter.export(request())
        exporter.close()
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, True)
    assert set(proxy.asked) == {f"Basic {b64encode(b'me:pass!').decode()}"}


@KINDS
def test_what_is_exempt_is_not_asked_of_the_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_server() as proxy, server_of(kind) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(timeout_seconds=60))
        assert delivers(exporter), "a loopback address"
        exporter.close()
    assert proxy.asked == []
