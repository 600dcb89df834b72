"""Spans for people: one line each, and nothing in a span commands the terminal."""

from __future__ import annotations

import errno
import io

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from drain.exporters.console import ConsoleExporter
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Encoding, Request
from drain.settings.otlp_environment import OtlpSettings

from .batches import START, attributes, request, text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(span: Span, *, terminal: bool = False) -> str:
    message = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    return shown(Request(message.SerializeToString(), 1, "protobuf"), terminal=terminal)


def shown(batch: Request, *, terminal: bool = False) -> str:
    out = Terminal() if terminal else io.StringIO()
    assert ConsoleExporter(out).export(batch) == Result(Verdict.DELIVERED)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_each_span_is_one_line_of_what_a_reader_wants(encoding: Encoding) -> None:
    first, second, third = shown(request(3, encoding)).splitlines()
    assert first == (
        "2025-11-22T14:00:00.000000Z demo grafos.dataplane.fbmu 1.500µs error "
        f"{1:032x}/{1001:016x} grafos.operation=fbmu_read grafos.lease.id={1:032x} grafos.bytes=4096"
    )
    assert " unset " in second
    assert f" parent={7:016x} " in second
    assert "grafos.bytes=12288" in third


def test_what_a_backend_would_show_of_a_span_is_in_its_line() -> None:
    line = printed(
        Span(
            name="charge",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=START,
            end_time_unix_nano=START + 5000,
            status=Status(code=Status.STATUS_CODE_ERROR, message="card\x1b declined"),
            attributes=attributes({"shop.items": text("3")}),
            events=[
                Span.Event(name="retry", time_unix_nano=START + 2500, attributes=attributes({"attempt\n": text("2")})),
                Span.Event(name="give\tup", time_unix_nano=START - 1),
            ],
            links=[Span.Link(trace_id=b"\1" * 16, span_id=b"\2" * 8, attributes=attributes({"why": text("batch")}))],
            dropped_events_count=4,
        )
    )
    assert ' 5.000µs error "card\\x1b declined" client ' in line
    assert line.endswith(
        " shop.items=3 event=retry@2.500µs{attempt\\n:2} event=give\\tup@-1ns"
        f" link={'01' * 16}/{'02' * 8}{{why:batch}} dropped_events_count=4\n"
    )


@pytest.mark.parametrize(
    ("kind", "word"), [(0, ""), (1, ""), (2, "server "), (4, "producer "), (5, "consumer "), (9, "kind=9 ")]
)
def test_a_kind_is_told_unless_it_is_the_usual_one(kind: int, word: str) -> None:
    assert f" unset {word}/" in printed(Span(name="n", kind=kind))  # type: ignore[arg-type]  # any number comes


def test_a_long_line_is_not_broken() -> None:
    assert len(shown(request(1, size=5000)).splitlines()) == 1


def test_a_pipe_gets_no_colours_and_a_terminal_does(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    assert "\x1b[" in shown(request(1), terminal=True)
    exporter = make_exporter("console", otlp=OtlpSettings())
    exporter.export(request(1))
    exporter.close()
    out = capfd.readouterr().out
    assert "fbmu_read" in out
    assert "\x1b" not in out


def test_control_characters_and_markup_stay_text() -> None:
    line = printed(
        Span(name="a\x1b[2Jb\nc", attributes=attributes({"[red]k\r": text("v\u202e[/red]")})), terminal=False
    )
    assert line.count("\n") == 1
    assert "a\\x1b[2Jb\\nc" in line
    assert "[red]k\\r=v\\u202e[/red]" in line


def test_every_kind_of_value_is_shown() -> None:
    values = {
        "b": AnyValue(bool_value=True),
        "f": AnyValue(double_value=0.5),
        "y": AnyValue(bytes_value=b"\x01\xff"),
        "a": AnyValue(array_value=ArrayValue(values=[text("x"), AnyValue(int_value=-1)])),
        "m": AnyValue(kvlist_value=KeyValueList(values=attributes({"k": text("v")}))),
        "n": AnyValue(),
    }
    assert printed(Span(attributes=attributes(values))).endswith(" b=True f=0.5 y=01ff a=[x,-1] m={k:v} n=\n")


@pytest.mark.parametrize(
    ("nanos", "shown_as"),
    [(0, "0ns"), (999, "999ns"), (1_000, "1.000µs"), (2_500_000, "2.500ms"), (90_000_000_000, "90.000s")],
)
def test_durations_have_the_unit_that_fits(nanos: int, shown_as: str) -> None:
    line = printed(Span(start_time_unix_nano=START, end_time_unix_nano=START + nanos))
    assert f" {shown_as} " in line


def test_hostile_times_do_not_stop_it() -> None:
    line = printed(
        Span(start_time_unix_nano=2**64 - 1, end_time_unix_nano=0, status=Status(code=Status.STATUS_CODE_OK))
    )
    assert line.startswith("2554-07-21T23:34:33.709551Z")
    assert " ok " in line


def test_an_output_that_cannot_hold_a_character_gets_its_escape() -> None:
    out = io.BytesIO()
    exporter = ConsoleExporter(io.TextIOWrapper(out, encoding="ascii"))
    assert exporter.export(request(1)).verdict is Verdict.DELIVERED
    assert b" 1.500\\xb5s " in out.getvalue()


def test_a_body_that_is_no_message_is_refused() -> None:
    assert ConsoleExporter(io.StringIO()).export(Request(b"\xff", 1, "protobuf")).verdict is Verdict.REFUSED


def test_an_output_that_fails_is_retried() -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.EPIPE, "Broken pipe")

    result = ConsoleExporter(Broken()).export(request(1))
    assert result == Result(Verdict.RETRY, message="console: Broken pipe")
