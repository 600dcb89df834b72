"""The resource: where its attributes come from, what they may be, and their JSON in a ring's header."""

from __future__ import annotations

import doctest
import enum
import json
import os
import re
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import OTELResourceDetector

from ringbuf.log import wait_until_told
from ringbuf.ring import resource
from ringbuf.ring.resource import build_resource, resource_from_json, resource_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringbuf.ring.resource import AttributeValue

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (TEXT, st.booleans(), INT64, FLOAT)
values = st.recursive(
    st.none() | st.one_of(*SCALARS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4),
    max_leaves=8,
)
resources = st.dictionaries(TEXT.filter(bool), values, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def build(
    service_name: str | None = None, attributes: Mapping[str, AttributeValue] | None = None, **environ: str
) -> dict[str, AttributeValue]:
    return build_resource(service_name, attributes, version="9.8.7", environ=environ)


def test_a_resource_says_which_process_filled_the_ring() -> None:
    built = build("shop")
    del built["service.instance.id"]
    assert built == {
        "service.name": "shop",
        "process.pid": os.getpid(),
        "host.name": os.uname().nodename,
        "telemetry.sdk.name": "ringbuf",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": "9.8.7",
    }


def test_a_process_has_an_instance_id_of_its_own_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that takes the place of a removed one has not another instance of the service."""
    instance = str(build()["service.instance.id"])
    assert build()["service.instance.id"] == instance
    assert str(uuid.UUID(instance)) == instance
    assert (uuid.UUID(instance).version, uuid.UUID(instance).variant) == (4, uuid.RFC_4122)
    monkeypatch.setattr("os.getpid", lambda: -1)  # as a forked child sees it
    assert build()["service.instance.id"] != instance


@pytest.mark.parametrize(
    ("argument", "attribute", "variable", "pairs", "expected"),
    [
        ("argument", "attribute", "variable", "service.name=pair", "argument"),
        (None, "attribute", "variable", "service.name=pair", "attribute"),
        (None, None, "variable", "service.name=pair", "variable"),
        (None, None, None, "service.name=pair", "pair"),
        ("", "attribute", "variable", "service.name=pair", "variable"),
        (None, "", "variable", "service.name=pair", "variable"),
        (None, None, "", "service.name=pair", "pair"),
        (None, None, "", "service.name=", f"unknown_service:{sys.executable.rpartition('/')[2]}"),
        ("", None, "", "", f"unknown_service:{sys.executable.rpartition('/')[2]}"),
    ],
)
def test_the_first_source_that_names_the_service_wins(
    argument: str | None, attribute: str | None, variable: str | None, pairs: str, expected: str
) -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": pairs}
    if variable is not None:
        environ["OTEL_SERVICE_NAME"] = variable
    attributes = None if attribute is None else {"service.name": attribute}
    assert build(argument, attributes, **environ)["service.name"] == expected


@pytest.mark.parametrize("executable", ["", None])
def test_a_process_without_an_executable_is_an_unknown_service(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert build()["service.name"] == "unknown_service"


def test_the_caller_beats_the_environment_and_the_environment_what_is_found() -> None:
    pairs = "host.name=pair,service.instance.id=pair,zone=pair"
    built = build("shop", {"host.name": "given", "process.pid": 7}, OTEL_RESOURCE_ATTRIBUTES=pairs)
    assert built["host.name"] == "given"
    assert built["process.pid"] == 7
    assert built["service.instance.id"] == "pair"
    assert built["zone"] == "pair"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (" a = 1 ,\tb=2 ", {"a": "1", "b": "2"}),
        ("a=1=2", {"a": "1=2"}),
        ("a=", {"a": ""}),
        ("a=1,a=2", {"a": "2"}),
        ("a=x%2Cy%3Dz", {"a": "x,y=z"}),
        ("a=%C3%A9%20", {"a": "é "}),
        ("a%3Db=1", {"a=b": "1"}),
        ("a=%zz%4", {"a": "%zz%4"}),
        ("a=%FF", {"a": "\ufffd"}),
        ("a=\udcff", {"a": "\ufffd"}),
        ("a=\udcc3\udca9", {"a": "\ufffd\ufffd"}),
        ("", {}),
    ],
)
def test_the_pairs_of_the_variable_are_read(
    variable: str, expected: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    built = build("shop", OTEL_RESOURCE_ATTRIBUTES=variable)
    assert {name: built[name] for name in built.keys() - build("shop").keys()} == expected
    wait_until_told(60)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variable", "kept", "warnings"),
    [("a=1,nonsense,b=2", {"a", "b"}, 1), ("a=1,", {"a"}, 1), ("=1,b=2", {"b"}, 1), (",, ,", set(), 4)],
)
def test_a_malformed_pair_is_warned_about_and_the_others_are_kept(
    variable: str, kept: set[str], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    built = build("shop", OTEL_RESOURCE_ATTRIBUTES=variable)
    assert built.keys() - build("shop").keys() == kept
    wait_until_told(60)
    assert [(record.name, record.levelname) for record in caplog.records] == [("ringbuf", "WARNING")] * warnings


@given(
    st.text(st.sampled_from("ab=,% 2Cé\t"), max_size=30).filter(lambda text: not re.search("%[^=,]*=|(^|,)\\s*=", text))
)
def test_the_sdk_reads_the_same_pairs(variable: str) -> None:
    """Two differences are left out: the SDK does not decode names, and keeps an empty one here (to drop it later)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", variable)
        patch.delenv("OTEL_SERVICE_NAME", raising=False)
        theirs = dict(OTELResourceDetector().detect().attributes)
    built = build("shop", OTEL_RESOURCE_ATTRIBUTES=variable)
    assert {name: built[name] for name in built.keys() - build("shop").keys()} == theirs


def test_bytes_that_are_no_utf8_do_not_keep_a_process_from_being_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    names = os.uname_result(("Linux", "host\udcff", "6", "1", "x"))
    monkeypatch.setattr(os, "uname", lambda: names)
    monkeypatch.setattr(sys, "executable", "/bin/\udcffpython")
    built = build(OTEL_RESOURCE_ATTRIBUTES="k\udcff=v")
    assert built["host.name"] == "host\ufffd"
    assert built["service.name"] == "unknown_service:\ufffdpython"
    assert built["k\ufffd"] == "v"
    assert build(OTEL_SERVICE_NAME="shop\udcff")["service.name"] == "shop\ufffd"
    assert resource_from_json(resource_to_json(built)) == built


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Ratio(float):
    __slots__ = ()


def nested(depth: int) -> AttributeValue:
    value: AttributeValue = 1
    for _ in range(depth):
        value = [value]
    return value


def test_values_are_kept_as_their_plain_type() -> None:
    given_attributes: dict[str, AttributeValue] = {
        "str": Colour.RED,
        "bool": True,
        "int": Level.HIGH,
        "float": Ratio(1.0),
        "strings": ("a", Colour.RED),
        "bools": [True, False],
        "ints": range(2),
        "floats": (0.5, 1.0),
        "none": [],
        "mixed": (1, None, Colour.RED),
        "nested": {Colour.RED: {"a": (Level.HIGH,)}},
    }
    built = build("shop", given_attributes)
    plain = {name: built[name] for name in given_attributes}
    assert [type(plain[name]) for name in ("str", "bool", "int", "float")] == [str, bool, int, float]
    assert repr(plain) == (
        "{'str': 'red', 'bool': True, 'int': 3, 'float': 1.0, 'strings': ['a', 'red'], 'bools': [True, False], "
        "'ints': [0, 1], 'floats': [0.5, 1.0], 'none': [], "
        "'mixed': [1, None, 'red'], 'nested': {'red': {'a': [3]}}}"
    )


@pytest.mark.parametrize("build_or_write", [lambda attributes: build("shop", attributes), resource_to_json])
@pytest.mark.parametrize(
    ("attributes", "error", "reason"),
    [
        ({"k": {1, 2}}, TypeError, "'k' must be str, bool, .* of these, not set"),
        ({"k": {"a": b"bytes"}}, TypeError, "'k' must be .* not bytes"),
        ({"k": {1: 1}}, TypeError, "name must be a str, not int"),
        ({"k": [{"": 1}]}, ValueError, "name must not be empty"),
        ({"k": [[{"a": float("nan")}]]}, ValueError, "'k' is nan"),
        ({"k": nested(16)}, ValueError, "'k' is nested too deeply"),
        ({"k": b"bytes"}, TypeError, "'k' must be .* not bytes"),
        ({"k": bytearray(1)}, TypeError, "'k' must be .* not bytearray"),
        ({"k": memoryview(b"1")}, TypeError, "'k' must be .* not memoryview"),
        ({"k": 1j}, TypeError, "'k' must be .* not complex"),
        ({"k": [b"1"]}, TypeError, "'k' must be .* not bytes"),
        ({"k": 2**63}, ValueError, "'k' is an int beyond int64"),
        ({"k": -(2**63) - 1}, ValueError, "'k' is an int beyond int64"),
        ({"k": [0, 2**63]}, ValueError, "'k' is an int beyond int64"),
        ({"k": float("nan")}, ValueError, "'k' is nan, which JSON cannot hold"),
        ({"k": float("-inf")}, ValueError, "'k' is -inf, which JSON cannot hold"),
        ({"k": [1.0, float("inf")]}, ValueError, "'k' is inf, which JSON cannot hold"),
        ({"k": "a\ud800"}, ValueError, "'k' holds a lone surrogate"),
        ({"k": ["a\udfff"]}, ValueError, "'k' holds a lone surrogate"),
        ({"k\ud800": 1}, ValueError, r"'k\\ud800' holds a lone surrogate"),
        ({"": 1}, ValueError, "name must not be empty"),
        ({1: 1}, TypeError, "name must be a str, not int"),
    ],
)
def test_an_invalid_attribute_is_refused_by_name(
    build_or_write: object, attributes: dict[str, AttributeValue], error: type[Exception], reason: str
) -> None:
    assert callable(build_or_write)
    with pytest.raises(error, match=reason):
        build_or_write(attributes)


@pytest.mark.parametrize("name", [1, b"shop", ["shop"], False])
def test_a_service_name_that_is_no_string_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match=r"'service\.name' must be"):
        build(name)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match=r"'service\.name' must be"):
        build(None, {"service.name": name})  # type: ignore[dict-item]  # that is the point


def test_a_service_name_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'service\.name' holds a lone surrogate"):
        build("shop\udc80")


@given(resources)
def test_json_brings_every_value_and_type_back(attributes: dict[str, AttributeValue]) -> None:
    data = resource_to_json(attributes)
    # repr tells 1, 1.0 and True apart, and 0.0 from -0.0.
    assert repr(resource_from_json(data)) == repr(attributes)
    assert json.loads(data.decode("utf-8")) == attributes


def test_json_is_compact_utf8() -> None:
    assert resource_to_json({"é": [1.0, 2.5], "b": True}) == '{"é":[1.0,2.5],"b":true}'.encode()
    assert resource_to_json({}) == b"{}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON"),
        (b"{} x", "not JSON: Extra data"),
        (b"{}\0", "not JSON: Extra data"),
        (b"\xff", "not UTF-8"),
        (b'{"k":"\xff"}', "not UTF-8"),
        ('{"k":1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b'"text"', "no object"),
        (b"1", "no object"),
        (b'{"k":9223372036854775808}', "'k' is an int beyond int64"),
        (b'{"k":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"k":1e400}', "'k' is inf, which JSON cannot hold"),
        (b'{"k":NaN}', "not JSON: NaN"),
        (b'{"k":[-Infinity]}', "not JSON: -Infinity"),
        (b'{"k":"\\ud800"}', "'k' holds a lone surrogate"),
        (b'{"\\udc00":1}', "holds a lone surrogate"),
        (b'{"k":1,"k":1}', "a key twice"),
        (b'{"k":{"a":1,"a":1}}', "a key twice"),
        (b'{"k":' + b"[" * 16 + b"]" * 16 + b"}", "'k' is nested too deeply"),
        (b'{"k":' + b'{"a":' * 16 + b"1" + b"}" * 16 + b"}", "'k' is nested too deeply"),
        (b'{"":1}', "name must not be empty"),
        (b'{"k":"a\nb"}', "Invalid control character"),
        (b'{"k":' + b"[" * 200_000, "nested too deeply"),
        (b'{"k":' * 100_000, "nested too deeply"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_json_from_anybody_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resource_from_json(data)


def test_a_hostile_name_is_quoted_short() -> None:
    with pytest.raises(ValueError, match="'kkk") as caught:
        resource_from_json(b'{"' + b"k" * 100_000 + b'":1e400}')
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_json_from_anybody_is_read_in_full_or_refused(data: bytes) -> None:
    try:
        read = resource_from_json(data)
    except ValueError:
        return
    assert resource_from_json(resource_to_json(read)) == read


def test_the_process_environment_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-the-environment")
    assert build_resource(None, None, version="1")["service.name"] == "from-the-environment"


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(resource)
    assert result.attempted > 0
    assert result.failed == 0
