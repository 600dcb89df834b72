"""Several endpoints: a trace goes to its home, requests take turns, or the first that is there gets all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from drain import assembly
from drain.exporters.gateways.gateways import Gateways
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Partitioned, Result, Verdict
from drain.otlp.destinations import CollectorRing, Rendezvous
from drain.otlp.request import Request
from drain.settings.configuration import ConfigurationError, load
from drain.telemetry.health import Health
from drain.telemetry.metric_values import endpoint_attempts
from tests.clocks import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from drain.otlp.destinations import TraceHomes
    from drain.otlp.request import Encoding
    from drain.settings.balance import Balance
    from drain.settings.configuration import Configuration
    from drain.settings.otlp_environment import OtlpSettings

NAMES = ("http://a:4318", "http://b:4318", "http://c:4318")
ANY = Request(b"", 1, "protobuf")


class Endpoint:
    """Takes everything, unless it is away."""

    encoding: Encoding = "protobuf"

    def __init__(self, name: str, fleet: list[str]) -> None:
        self.endpoint = name
        self.is_away = False
        self._fleet = fleet

    def export(self, _request: Request) -> Result:
        self._fleet.append(self.endpoint[7])
        return Result(Verdict.RETRY, message="it is away") if self.is_away else Result(Verdict.DELIVERED)

    def close(self) -> None:
        self._fleet.append("closed")


class Fleet:
    def __init__(self, balance: Balance) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.endpoints = {name: Endpoint(name, self.asked) for name in NAMES}
        self.gateways = Gateways(self.endpoints, balance, clock=self.clock)

    def send(self, count: int, destination: str = "") -> str:
        """Send so many requests; return who was asked."""
        self.asked.clear()
        for _ in range(count):
            self.gateways.export(Request(b"", 1, "protobuf", destination))
        return "".join(self.asked)


def test_a_part_is_tried_at_its_home_and_nowhere_else() -> None:
    fleet = Fleet("trace")
    assert isinstance(fleet.gateways, Partitioned)
    fleet.endpoints[NAMES[1]].is_away = True
    assert fleet.send(3, NAMES[1]) == "bbb"
    assert fleet.gateways.partitioner is not None
    assert fleet.gateways.partitioner.names == NAMES


@pytest.mark.parametrize(("balance", "homes"), [("trace", Rendezvous(NAMES)), ("collector-ring", CollectorRing(NAMES))])
def test_a_trace_has_the_home_that_the_option_is_for(balance: Balance, homes: TraceHomes) -> None:
    partitioner = Fleet(balance).gateways.partitioner
    assert partitioner is not None
    for number in range(1, 200):  # by the other function some of them are elsewhere
        assert partitioner.home(bytes([number] * 16), "") == homes.home(bytes([number] * 16))


def test_requests_take_turns_and_pass_over_those_that_are_away() -> None:
    fleet = Fleet("round-robin")
    assert fleet.gateways.partitioner is None
    assert fleet.send(6) == "abcabc"
    fleet.endpoints[NAMES[1]].is_away = True
    assert fleet.send(8) == "abcacaca"
    fleet.clock.now += 6
    assert fleet.send(4).count("b") == 1, "it is tried again, once"
    fleet.endpoints[NAMES[1]].is_away = False
    fleet.clock.now += 60
    fleet.send(3)
    assert fleet.send(9).count("b") == 3, "back"


def test_the_first_that_is_there_gets_all_and_one_that_comes_and_goes_is_trusted_by_and_by() -> None:
    fleet = Fleet("failover")
    assert fleet.send(3) == "aaa"
    fleet.endpoints[NAMES[0]].is_away = True
    assert fleet.send(4) == "abbb"
    for _ in range(3):
        fleet.clock.now += 60
        assert fleet.send(3) == "abb"
    fleet.endpoints[NAMES[0]].is_away = False
    fleet.clock.now += 60
    assert fleet.send(3) == "aaa", "each is one after the other, as long as it takes them"
    fleet.endpoints[NAMES[0]].is_away = True
    assert fleet.send(2) == "ab"
    fleet.clock.now += 4
    assert fleet.send(1) == "b"


def test_what_was_under_way_when_one_went_away_does_not_keep_it_away_for_longer() -> None:
    fleet = Fleet("failover")
    first = fleet.endpoints[NAMES[0]]
    under_way = 0

    def fail_together(request: Request) -> Result:
        nonlocal under_way
        under_way += 1
        if under_way < 8:
            fleet.gateways.export(request)  # before this one has its answer
        fleet.clock.now += 0.1
        return Result(Verdict.RETRY)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "export", fail_together)
        fleet.send(1)
    assert under_way == 8
    fleet.clock.now += 6
    assert fleet.send(1) == "a", "as after one failure"


@pytest.mark.parametrize("balance", ["round-robin", "failover"])
def test_what_waits_for_one_goes_to_others_once_traces_have_no_home_any_more(balance: Balance) -> None:
    """It was spooled with --balance trace, and the operator lets others have it while its home is away."""
    fleet = Fleet(balance)
    fleet.endpoints[NAMES[0]].is_away = True
    assert fleet.send(3, NAMES[0])[:2] == "ab"


def test_the_log_says_which_is_passed_over_and_when_it_is_back() -> None:
    with structlog.testing.capture_logs() as lines:
        fleet = Fleet("failover")
        fleet.endpoints[NAMES[0]].is_away = True
        for _ in range(2):
            fleet.send(3)
            fleet.clock.now += 60
        fleet.endpoints[NAMES[0]].is_away = False
        fleet.send(9)
    assert [(line["event"], line["endpoint"]) for line in lines if "endpoint" in line] == [
        ("endpoint is passed over, others get its spans", NAMES[0]),
        ("endpoint is used again", NAMES[0]),
    ]


def test_one_is_tried_all_the_same_when_all_are_away() -> None:
    fleet = Fleet("failover")
    for endpoint in fleet.endpoints.values():
        endpoint.is_away = True
    assert fleet.send(6)[:3] == "abc"
    assert fleet.gateways.export(ANY).verdict is Verdict.RETRY


def test_all_are_closed() -> None:
    fleet = Fleet("trace")
    fleet.gateways.close()
    assert fleet.asked == ["closed"] * 3


def test_all_are_closed_and_renewed_though_one_raises() -> None:
    fleet = Fleet("trace")

    def fail() -> None:
        raise OSError("this one does not")

    for name, endpoint in fleet.endpoints.items():
        endpoint.renew = fail if name == NAMES[1] else lambda: fleet.asked.append("renewed")  # type: ignore[attr-defined]
    fleet.endpoints[NAMES[1]].close = fail  # type: ignore[method-assign]
    for step, said in ((fleet.gateways.renew, "renewed"), (fleet.gateways.close, "closed")):
        fleet.asked.clear()
        with pytest.raises(OSError, match="this one"):
            step()
        assert fleet.asked == [said] * 2


def test_those_that_were_made_are_closed_where_another_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(_configuration: Configuration, _otlp: OtlpSettings, endpoint: str, _address: str | None) -> Endpoint:
        if endpoint == NAMES[2]:
            raise ValueError("no such certificate")
        made.append(endpoint)
        return Endpoint(endpoint, made)

    monkeypatch.setattr(assembly, "_one_exporter", make)
    with pytest.raises(ValueError, match="no such certificate"):
        assembly.make_exporter(load({"endpoint": list(NAMES)}, None))
    assert made == [*NAMES[:2], "closed", "closed"]


def test_several_endpoints_are_named_by_flags_a_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "drain.toml"
    file.write_text('endpoint = ["http://a:4318", "http://b:4318"]\nbalance = "failover"\n')
    monkeypatch.setenv("RINGBUF_DRAIN_ENDPOINT", "http://a:4318, http://b:4318")
    of_variable = load({}, None)
    monkeypatch.delenv("RINGBUF_DRAIN_ENDPOINT")
    of_flags = load({"endpoint": ["http://a:4318", "http://b:4318"]}, None)
    of_file = load({}, file)
    assert {one.settings.endpoint for one in (of_variable, of_flags, of_file)} == {"http://a:4318,http://b:4318"}
    assert (of_flags.settings.balance, of_file.settings.balance) == ("trace", "failover")
    exporter = assembly.make_exporter(of_flags)
    assert isinstance(exporter, Gateways)
    assert list(exporter.exporters) == ["http://a:4318", "http://b:4318"]
    assert exporter.endpoint == "http://a:4318/v1/traces, http://b:4318/v1/traces"
    exporter.close()
    single = assembly.make_exporter(load({"endpoint": ["http://a:4318"]}, None))
    assert single.endpoint == "http://a:4318/v1/traces"
    single.close()


def test_each_endpoint_has_its_counts() -> None:
    fleet = Fleet("trace")
    fleet.endpoints[NAMES[1]].is_away = True
    for destination, spans in ((NAMES[0], 100), (NAMES[0], 20), (NAMES[1], 30)):
        fleet.gateways.export(Request(b"", spans, "protobuf", destination))
    assert fleet.gateways.partitioner is not None
    fleet.gateways.partitioner.leave_out([NAMES[1]])
    fleet.gateways.partitioner.handed_over(NAMES[1], 30)
    states = {state.name: state for state in fleet.gateways.endpoint_states()}
    assert [state.attempts["delivered"] for state in states.values()] == [2, 0, 0]
    assert [state.spans for state in states.values()] == [120, 0, 0]
    assert [(state.failing, state.away, state.handed_over) for state in states.values()] == [
        (0, 0, 0),
        (1, 1, 30),
        (0, 0, 0),
    ]
    exporter = MeasuredExporter(fleet.gateways)
    assert [state.failure for state in states.values()] == ["", "it is away", ""]
    assert Health(exporter.state).backend()["endpoints"] == {NAMES[1]: "it is away"}
    fleet.endpoints[NAMES[1]].is_away = False
    fleet.gateways.export(Request(b"", 1, "protobuf", NAMES[1]))
    assert Health(exporter.state).backend()["endpoints"] == {}
    reading: Any = SimpleNamespace(exports=MeasuredExporter(fleet.gateways).state())
    assert ((NAMES[1], "retry"), 1) in list(endpoint_attempts(reading))


def test_the_log_says_how_many_spans_a_request_has_and_what_to_do_where_they_are_few() -> None:
    with structlog.testing.capture_logs() as lines:
        fleet = Fleet("trace")
        for seconds, spans in ((10, 40), (51, 20), (61, 500)):
            fleet.clock.now += seconds
            fleet.gateways.export(Request(b"", spans, "protobuf", NAMES[0]))
    told = [(line["requests"], line["spans_a_request"], bool(line["hint"])) for line in lines]
    assert told == [(2, 30, True), (1, 500, False)]


def test_batches_that_are_sorted_by_gateway_are_gathered_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {"endpoint": list(NAMES), "exporter": "otlp-http"}
    assert assembly.limits(load(several, None)).batch_delay == 1.0
    assert "batch_delay = 1.0  # default" in load(several, None).describe(), "what is shown is in effect"
    assert assembly.limits(load({**several, "batch_delay": "0.1"}, None)).batch_delay == 0.1
    assert assembly.limits(load({**several, "balance": "collector-ring"}, None)).batch_delay == 1.0
    assert assembly.limits(load({**several, "balance": "failover"}, None)).batch_delay == 0.2
    assert assembly.limits(load({**several, "endpoint": NAMES[0]}, None)).batch_delay == 0.2
    assert assembly.limits(load({**several, "endpoint": NAMES[0], "resolve_interval": "9"}, None)).batch_delay == 1.0
    monkeypatch.setenv("RINGBUF_DRAIN_RESOLVE_INTERVAL", "9")
    assert assembly.limits(load({"exporter": "otlp-http"}, None)).batch_delay == 0.2, "no endpoint is named"


@pytest.mark.parametrize("endpoints", [["http://a", "http://a"], ["http://a", ""], ["http://a,,http://b"]])
def test_endpoints_that_cannot_be_are_refused(endpoints: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        load({"endpoint": endpoints}, None)


def test_no_key_in_an_endpoint_is_shown_or_becomes_a_name() -> None:
    configuration = load({"endpoint": ["http://a/v1/traces?key=secret1", "http://b/v1/traces?key=secret2"]}, None)
    assert "secret" not in configuration.describe()
    exporter = assembly.make_exporter(configuration)
    assert isinstance(exporter, Gateways)
    assert "secret" not in exporter.endpoint + str(list(exporter.exporters))
    exporter.close()
    with pytest.raises(ValueError, match="cannot be told apart"):
        assembly.make_exporter(load({"endpoint": ["http://a?key=1", "http://a?key=2"]}, None))
