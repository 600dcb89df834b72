"""`--timeout` bounds the whole of an attempt over HTTP: the look-up of the name, all the addresses, the handshake."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from drain.exporters.otlp_http import OtlpHttpExporter
from drain.exporters.protocol import Result, Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpHttpServer
from tests.service.exporters.batches import request
from tests.waiting import SECONDS, comes_true, until

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 0.5
NAME = "collector.example"


@pytest.fixture
def deaf() -> Iterator[int]:
    """Yield the port of a listener whose backlog is full: the kernel drops what would connect."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def exporter_to(url: str, timeout: float = TIMEOUT) -> OtlpHttpExporter:
    return OtlpHttpExporter(f"{url}/v1/traces", "protobuf", OtlpSettings(timeout_seconds=timeout))


def names_resolve_to(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host == NAME and not options.get("flags"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_server_that_does_not_answer_ends_with_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    asked = []
    answer = threading.Event()

    def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
        if host == NAME and not options.get("flags"):
            asked.append(host)
            assert answer.wait(SECONDS)
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    exporter = exporter_to(f"http://{NAME}:4318")
    try:
        results = [exporter.export(request()) for _ in range(2)]
        # The second attempt waits for the same answer: no heap of threads while DNS is away.
        until(lambda: asked)
        assert len(asked) == 1
    finally:
        answer.set()
        exporter.close()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "name-resolution"])
    for result in results:
        assert result.verdict is Verdict.RETRY
        assert result.message == f"no address of the name {NAME} within {TIMEOUT:g} s"
        assert not result.is_timeout  # a smaller request would fare no better
    until(lambda: "not known" in exporter.export(request()).message, lambda: None)
    assert len(asked) >= 2


def test_the_second_address_has_its_turn_where_the_first_swallows_everything(
    monkeypatch: pytest.MonkeyPatch, deaf: int
) -> None:
    with OtlpHttpServer() as server:
        names_resolve_to(monkeypatch, ("127.0.0.1", deaf), ("127.0.0.1", server.port))
        exporter = exporter_to(f"http://{NAME}:4318", 4 * TIMEOUT)
        # One that is held up has no time left for the last address, and who answers may be held up, too.
        until(lambda: exporter.export(request()).verdict is Verdict.DELIVERED, lambda: None)
        exporter.close()


def test_all_the_addresses_together_have_the_time_of_one_attempt(monkeypatch: pytest.MonkeyPatch, deaf: int) -> None:
    given: list[float | None] = []
    messages: list[str] = []
    real = socket.socket.settimeout

    def settimeout(sock: socket.socket, seconds: float | None) -> None:
        given.append(seconds)
        real(sock, seconds)

    monkeypatch.setattr(socket.socket, "settimeout", settimeout)
    names_resolve_to(monkeypatch, *[("127.0.0.1", deaf)] * 4)
    exporter = exporter_to(f"http://{NAME}:4318")

    def attempt() -> None:
        given.clear()
        result = exporter.export(request())
        messages.append(result.message)
        assert (result.verdict, result.is_timeout) == (Verdict.RETRY, False)
        assert sum(seconds or TIMEOUT for seconds in given) <= TIMEOUT * 1.01

    until(lambda: len(given) == 4, attempt)  # one that is held up has no time left for the last
    assert messages[-1] == f"no connection to {NAME}:4318 within {TIMEOUT:g} s"
    exporter.close()


def test_a_refused_connection_names_the_place_and_no_class_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens
        names_resolve_to(monkeypatch, ("127.0.0.1", bound.getsockname()[1]))
        exporter = exporter_to(f"http://{NAME}:4318")
        messages: list[str] = []
        refused = f"{NAME}:4318: [Errno 111] Connection refused"
        until(lambda: refused in messages, lambda: messages.append(exporter.export(request()).message))
        exporter.close()


def test_a_handshake_that_drips_ends_with_the_attempt() -> None:
    """Each byte starts a socket's own timeout anew; and TLS reads with another object than the one that connected."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        is_over = threading.Event()

        def drip() -> None:
            while not is_over.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as connection:  # until the client goes
                    connection.settimeout(SECONDS)
                    connection.sendall(b"\x16\x03\x03\x3f\xff\x02")  # a handshake record of 16 KiB
                    while not is_over.wait(TIMEOUT / 5):
                        connection.sendall(b"\0")

        thread = threading.Thread(target=drip)
        thread.start()
        exporter = exporter_to(f"https://127.0.0.1:{listener.getsockname()[1]}")
        results: list[Result] = []

        def is_ended_in_the_handshake() -> bool:  # and not in a read by urllib3 that was held up
            return bool(results) and results[-1].message.startswith("no TLS handshake or tunnel with 127.0.0.1:")

        def attempt_until_it_is() -> None:
            comes_true(is_ended_in_the_handshake, lambda: results.append(exporter.export(request())))

        attempts = threading.Thread(target=attempt_until_it_is, daemon=True)
        attempts.start()
        attempts.join(SECONDS / 3)
        is_over.set()
        thread.join()
        exporter.close()
    assert is_ended_in_the_handshake()
    assert {(result.verdict, result.is_timeout) for result in results} == {(Verdict.RETRY, False)}
