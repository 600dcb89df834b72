"""The OTEL_EXPORTER_OTLP_* variables, rule by rule as the specification has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.exporters.endpoint import http_traces_url
from drain.settings.otlp_environment import OtlpSettings, header_problem, parse_headers

PREFIX = "OTEL_EXPORTER_OTLP_"


def settings(**variables: str) -> OtlpSettings:
    return OtlpSettings.from_environment({PREFIX + name: value for name, value in variables.items()})


def test_without_variables_the_defaults_are_the_specifications() -> None:
    assert settings() == OtlpSettings()
    assert OtlpSettings().protocol == "http/protobuf"
    assert OtlpSettings().timeout_seconds == 10.0
    assert not OtlpSettings().insecure
    assert http_traces_url(OtlpSettings()) == "http://localhost:4318/v1/traces"


def test_every_variable_is_read_and_names_its_origin() -> None:
    values = {
        "ENDPOINT": "https://c:1",
        "PROTOCOL": "grpc",
        "HEADERS": "a=b",
        "COMPRESSION": "gzip",
        "TIMEOUT": "1500",
        "CERTIFICATE": "/ca",
        "CLIENT_KEY": "/key",
        "CLIENT_CERTIFICATE": "/chain",
        "INSECURE": "True",
    }
    read = settings(**values)
    assert (read.endpoint, read.protocol, read.headers, read.compression) == ("https://c:1", "grpc", {"a": "b"}, "gzip")
    assert (read.timeout_seconds, read.insecure) == (1.5, True)
    assert (read.certificate, read.client_key, read.client_certificate) == (Path("/ca"), Path("/key"), Path("/chain"))
    assert sorted(read.origins.values()) == sorted(PREFIX + name for name in values)
    assert read.warnings == ()
    special = settings(**{f"TRACES_{name}": value for name, value in values.items()})
    assert sorted(special.origins.values()) == sorted(f"{PREFIX}TRACES_{name}" for name in values)


def test_the_traces_form_beats_the_general_one() -> None:
    read = settings(TIMEOUT="1000", TRACES_TIMEOUT="2000", HEADERS="a=1", TRACES_HEADERS="b=2")
    assert read.timeout_seconds == 2.0
    assert read.headers == {"b": "2"}
    assert read.origins["timeout_seconds"] == "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_is_an_unset_one(empty: str) -> None:
    read = settings(TIMEOUT="1000", TRACES_TIMEOUT=empty, ENDPOINT=empty)
    assert read.timeout_seconds == 1.0
    assert read.endpoint is None
    assert read.warnings == ()


@pytest.mark.parametrize("text", ["ten", "-1", "1.5", "1e3", "1_000", "٣", "0x10"])
def test_a_number_that_cannot_be_read_is_warned_about_and_the_next_in_line_counts(text: str) -> None:
    read = settings(TRACES_TIMEOUT=text, TIMEOUT="3000")
    assert read.timeout_seconds == 3.0
    assert read.warnings == (
        f"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is ignored: {text!r} is not a whole number of milliseconds",
    )
    assert settings(TIMEOUT=text).timeout_seconds == 10.0


@pytest.mark.parametrize(
    ("name", "text"),
    [("PROTOCOL", "HTTP/PROTOBUF"), ("PROTOCOL", "http"), ("COMPRESSION", "brotli"), ("INSECURE", "1")],
)
def test_a_word_that_is_not_known_is_warned_about_and_ignored(name: str, text: str) -> None:
    read = settings(**{name: text})
    assert read.origins == {}
    assert len(read.warnings) == 1
    assert read.warnings[0].startswith(f"OTEL_EXPORTER_OTLP_{name} is ignored: {text!r} is n")


def test_no_limit_is_one_hour() -> None:
    assert settings(TIMEOUT="0").timeout_seconds == 3600.0
    assert settings(TIMEOUT="999999999999999").timeout_seconds == 3600.0


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/mine", "https://h/mine/v1/traces"),
        ("https://h/mine/", "https://h/mine/v1/traces"),
        ("http://h/v1/traces", "http://h/v1/traces/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ("HTTP://h?tenant=1", "http://h/v1/traces?tenant=1"),
    ],
)
def test_a_base_endpoint_gets_the_path_of_the_traces(base: str, url: str) -> None:
    assert http_traces_url(settings(ENDPOINT=base)) == url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/"),
        ("http://h:4318/", "http://h:4318/"),
        ("http://h/mine", "http://h/mine"),
        ("http://h/v1/traces", "http://h/v1/traces"),
        ("http://h/mine/", "http://h/mine/"),
        ("http://h?k=v", "http://h/?k=v"),
    ],
)
def test_the_endpoint_of_the_traces_is_used_as_it_is(endpoint: str, url: str) -> None:
    assert http_traces_url(settings(ENDPOINT="http://other", TRACES_ENDPOINT=endpoint)) == url


@pytest.mark.parametrize(
    ("flag", "url"),
    [
        ("http://h:1", "http://h:1/v1/traces"),
        ("http://h:1/v1/traces", "http://h:1/v1/traces"),
        ("http://h:1/a/v1/traces", "http://h:1/a/v1/traces"),
    ],
)
def test_a_flag_beats_the_environment_and_is_a_base_unless_it_has_the_path(flag: str, url: str) -> None:
    assert http_traces_url(settings(TRACES_ENDPOINT="http://other/x"), flag) == url


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("a=1", {"a": "1"}),
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (" a = 1 , b\t=\t2 ", {"a": "1", "b": "2"}),
        ("a=1,,b=2,", {"a": "1", "b": "2"}),
        ("a=", {"a": ""}),
        ("a=b=c==", {"a": "b=c=="}),
        ("Authorization=Basic%20Zm9v%3D", {"authorization": "Basic Zm9v="}),
        ("a=x%2Cy", {"a": "x,y"}),
        ("a=1;p=q", {"a": "1;p=q"}),
        ("a=1,A=2", {"a": "2"}),
    ],
)
def test_headers_are_a_w3c_baggage_list_percent_decoded(text: str, headers: dict[str, str]) -> None:
    assert parse_headers(text) == (headers, [])


@pytest.mark.parametrize("member", ["novalue", "=v", "a b=v", "a%0Ab=v", "a=x%0D%0Ab: y", "a=%00", "a=%C3%A9", "a=%FF"])
def test_a_header_that_cannot_be_sent_is_left_out_and_its_value_never_told(member: str) -> None:
    headers, problems = parse_headers(f"ok=1,{member}")
    assert headers == {"ok": "1"}
    assert len(problems) == 1
    assert problems[0].startswith("header 2 is ignored: ")
    read = settings(HEADERS="token=s3cret%0A")
    assert read.warnings == (
        "OTEL_EXPORTER_OTLP_HEADERS: header 1 is ignored: the value of token has characters beyond printable ASCII",
    )
    assert "s3cret" not in repr(read)


@given(st.text())
def test_whatever_the_headers_hold_only_sendable_ones_come_out(text: str) -> None:
    headers, _ = parse_headers(text)
    assert all(header_problem(name, value) is None for name, value in headers.items())
    assert not any(c in name + value for name, value in headers.items() for c in "\r\n\0")
