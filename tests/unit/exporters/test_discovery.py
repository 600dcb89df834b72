"""The addresses behind an endpoint's name are gateways, which come and go."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from drain import assembly
from drain.delivery.route import where
from drain.exporters.gateways.discovery import Discovery, name_at
from drain.exporters.gateways.gateways import Gateways
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.settings.configuration import load
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drain.exporters.name_resolution import Address
    from drain.otlp.request import Encoding

GATEWAYS = "http://gateways:4318"
EMPTY = Request(b"", 0, "protobuf")


class Resolver:
    """A name server: each name has the addresses that a test gives it; of others it knows nothing."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.asked = 0

    def __call__(self, host: str, port: int, _seconds: float) -> Sequence[Address]:
        self.asked += 1
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in self.addresses[host]
        ]


class Gateway:
    encoding: Encoding = "protobuf"

    def __init__(self, endpoint: str, address: str | None) -> None:
        self.endpoint = name_at(endpoint, address) if address else endpoint
        self.is_closed = False
        self.while_running: Callable[[], object] = lambda: None

    def export(self, _request: Request) -> Result:
        assert not self.is_closed
        self.while_running()
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Scene:
    """Gateways that follow a resolver, by hand."""

    def __init__(self, resolver: Resolver, *endpoints: str, balance: Any = "trace") -> None:
        self.made: dict[str, Gateway] = {}
        self.discovery = Discovery(endpoints or (GATEWAYS,), self.make, 60.0, resolver)
        members = self.discovery.members()
        self.gateways = Gateways({name: self.make(*one) for name, one in members.items()}, balance)

    def make(self, endpoint: str, address: str | None) -> Gateway:
        gateway = Gateway(endpoint, address)
        self.made[gateway.endpoint] = gateway
        return gateway

    def look(self) -> set[str]:
        self.discovery.look(self.gateways)
        return set(self.gateways.exporters)


def at(*addresses: str) -> set[str]:
    return {f"http://{address}:4318" for address in addresses}


def test_each_address_is_a_gateway_and_one_that_is_new_joins_at_once() -> None:
    resolver = Resolver(gateways=["10.0.0.2", "10.0.0.1"])
    scene = Scene(resolver)
    assert set(scene.gateways.exporters) == at("10.0.0.1", "10.0.0.2")
    before = scene.gateways.exporters
    resolver.addresses["gateways"] = ["10.0.0.1", "10.0.0.3", "10.0.0.2"]
    assert scene.look() == at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert scene.gateways.exporters.items() >= before.items(), "they go on as they are"
    assert scene.gateways.partitioner is not None
    assert set(scene.gateways.partitioner.names) == scene.look()


def test_one_has_left_when_two_look_ups_in_a_row_do_not_have_it() -> None:
    resolver = Resolver(gateways=["10.0.0.1", "10.0.0.2"])
    scene = Scene(resolver)
    for _ in range(3):  # a pod that is not ready for a moment
        resolver.addresses["gateways"] = ["10.0.0.1"]
        assert scene.look() == at("10.0.0.1", "10.0.0.2")
        resolver.addresses["gateways"] = ["10.0.0.1", "10.0.0.2"]
        assert scene.look() == at("10.0.0.1", "10.0.0.2")
    resolver.addresses["gateways"] = ["10.0.0.1"]
    scene.look()
    assert scene.look() == at("10.0.0.1")
    assert [name for name, made in scene.made.items() if made.is_closed] == ["http://10.0.0.2:4318"]


def test_it_is_closed_when_the_attempts_at_it_have_ended() -> None:
    resolver = Resolver(gateways=["10.0.0.1", "10.0.0.2"])
    scene = Scene(resolver)
    leaver = scene.made["http://10.0.0.2:4318"]
    resolver.addresses["gateways"] = ["10.0.0.1"]
    seen = []

    def leave() -> None:
        scene.look()
        scene.look()
        seen.append((set(scene.gateways.exporters), leaver.is_closed))

    leaver.while_running = leave
    assert scene.gateways.export(Request(b"", 0, "protobuf", leaver.endpoint)).verdict is Verdict.DELIVERED
    assert seen == [(at("10.0.0.1"), False)]
    assert leaver.is_closed


@pytest.mark.parametrize("answer", [None, []])
def test_a_name_server_that_is_away_or_knows_nothing_takes_no_gateway_away(answer: list[str] | None) -> None:
    resolver = Resolver(gateways=["10.0.0.1"])
    scene = Scene(resolver)
    if answer is None:
        del resolver.addresses["gateways"]
    else:
        resolver.addresses["gateways"] = answer
    for _ in range(5):
        assert scene.look() == at("10.0.0.1")


def test_names_are_looked_up_at_the_same_time() -> None:
    """One after the other, ten names would hold up a start for a minute where the name server hangs."""
    resolver = Resolver(gateways=["10.0.0.1"], others=["10.0.0.2"], third=["10.0.0.3"])
    all_asked = threading.Barrier(3)

    def answer_once_all_are_asked(host: str, port: int, seconds: float) -> Sequence[Address]:
        all_asked.wait(SECONDS)
        return resolver(host, port, seconds)

    endpoints = [GATEWAYS, "http://others:4318", "http://third:4318"]
    discovery = Discovery(endpoints, Gateway, 60.0, answer_once_all_are_asked)
    assert discovery.members().keys() == at("10.0.0.1", "10.0.0.2", "10.0.0.3")


def test_an_endpoint_that_never_had_an_address_is_a_gateway_itself_until_it_has_one() -> None:
    resolver = Resolver(other=["10.0.0.9"])
    scene = Scene(resolver, GATEWAYS, "http://other:4318")
    assert set(scene.gateways.exporters) == {GATEWAYS, *at("10.0.0.9")}
    resolver.addresses["gateways"] = ["10.0.0.1"]
    assert scene.look() == at("10.0.0.1", "10.0.0.9")


def test_a_gateway_with_addresses_of_both_families_is_one() -> None:
    assert set(Scene(Resolver(gateways=["fd00::1", "10.0.0.1"])).gateways.exporters) == at("10.0.0.1")
    assert set(Scene(Resolver(gateways=["fd00::1", "fd00::2"])).gateways.exporters) == at("[fd00::1]", "[fd00::2]")


def test_one_that_cannot_be_made_is_tried_again() -> None:
    resolver = Resolver(gateways=["10.0.0.1"])
    scene = Scene(resolver)
    make, tries = scene.make, itertools.count()

    def fails_once(endpoint: str, address: str | None) -> Gateway:
        if not next(tries):
            raise ValueError("certificate and key do not fit together")
        return make(endpoint, address)

    scene.discovery._make = fails_once
    resolver.addresses["gateways"] = ["10.0.0.1", "10.0.0.2"]
    assert scene.look() == at("10.0.0.1")
    assert scene.look() == at("10.0.0.1", "10.0.0.2")


def test_while_one_cannot_be_made_nothing_else_changes() -> None:
    resolver = Resolver(gateways=["10.0.0.1"])
    scene = Scene(resolver)
    before = scene.gateways.partitioner

    def fails(_endpoint: str, _address: str | None) -> Gateway:
        raise ValueError("certificate and key do not fit together")

    scene.discovery._make = fails
    resolver.addresses["gateways"] = ["10.0.0.1", "10.0.0.2"]
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert scene.look() == at("10.0.0.1")
    assert scene.gateways.partitioner is before, "who is away is so still"
    assert "gateways have changed" not in {line["event"] for line in lines}


def test_whoever_asks_meanwhile_finds_all_gateways_of_before_or_all_of_after() -> None:
    scene = Scene(Resolver(gateways=["10.0.0.1", "10.0.0.2"]))
    gateways, seen = scene.gateways, []

    class Asking(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            seen.append(set(gateways.exporters))
            return super().__getitem__(name)

    stays = {"http://10.0.0.1:4318": scene.made["http://10.0.0.1:4318"]}
    leaves = scene.made["http://10.0.0.2:4318"]
    are_locked = []
    leaves.close = lambda: are_locked.append(gateways._lock.locked())  # type: ignore[method-assign]
    joins = {f"http://10.0.0.{number}:4318": Gateway(GATEWAYS, f"10.0.0.{number}") for number in (3, 4)}
    gateways.become(stays | joins, Asking(dict.fromkeys(stays | joins, GATEWAYS)))
    assert seen[:2] == [at("10.0.0.1", "10.0.0.2")] * 2
    assert set(gateways.exporters) == at("10.0.0.1", "10.0.0.3", "10.0.0.4")
    assert are_locked == [False], "attempts go on while one is closed"


def test_the_log_names_those_behind_one_name_once() -> None:
    resolver = Resolver(gateways=["10.0.0.1", "10.0.0.2"])
    scene = Scene(resolver)
    for gateway in scene.made.values():
        gateway.endpoint = f"{GATEWAYS}/v1/traces"
    gateways = Gateways(scene.gateways.exporters, "trace")
    assert gateways.endpoint == f"{GATEWAYS}/v1/traces"
    assert where(gateways.endpoint, "http://10.0.0.2:4318") == f"{GATEWAYS}/v1/traces http://10.0.0.2:4318"


def test_metrics_have_the_names_that_were_configured_however_many_addresses_come_and_go() -> None:
    resolver = Resolver(gateways=["10.0.0.1", "10.0.0.2"])
    scene = Scene(resolver, balance="round-robin")
    gateways = Gateways(
        scene.gateways.exporters, "round-robin", endpoints=dict.fromkeys(scene.gateways.exporters, GATEWAYS)
    )
    for number in range(20):
        gateways.export(EMPTY)
        resolver.addresses["gateways"] = [f"10.0.1.{number}"]
        scene.discovery.look(gateways)
    (state,) = gateways.endpoint_states()
    assert (state.name, state.attempts["delivered"], state.failing) == (GATEWAYS, 20, 0)
    assert state.gateways == len(gateways.exporters)


def test_the_thread_looks_again_until_all_is_closed() -> None:
    resolver = Resolver(gateways=["10.0.0.1"])
    scene = Scene(resolver)
    discovery = Discovery([GATEWAYS], scene.make, 0.01, resolver)
    gateways = scene.gateways
    gateways.before_close = discovery.close
    discovery.follow(gateways)
    resolver.addresses["gateways"] = ["10.0.0.2"]
    until(lambda: set(gateways.exporters) == at("10.0.0.2"))
    gateways.close()
    assert scene.made["http://10.0.0.2:4318"].is_closed


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_an_exporter_connects_to_its_address_and_speaks_to_the_name(kind: str) -> None:
    with OtlpHttpServer() if kind == "otlp-http" else OtlpGrpcServer() as server:
        url = f"http://gateways.test:{server.port}"
        settings = OtlpSettings(timeout_seconds=SECONDS)
        with closing(make_exporter(kind, endpoint=url, address="127.0.0.1", otlp=settings)) as exporter:
            assert exporter.export(EMPTY).verdict is Verdict.DELIVERED
        headers = {name.lower(): value for name, value in server.requests[0].headers.items()}
        if kind == "otlp-http":
            assert headers["host"] == f"gateways.test:{server.port}"


def test_of_an_endpoint_with_addresses_gateways_are_made() -> None:
    configuration = load({"endpoint": ["http://127.0.0.1:4318/otlp?key=secret"], "resolve_interval": "60"}, None)
    gateways = assembly.make_exporter(configuration)
    assert isinstance(gateways, Gateways)
    assert list(gateways.exporters) == ["http://127.0.0.1:4318/otlp?key=(hidden)"]
    gateways.close()
