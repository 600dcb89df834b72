"""Attributes to OTLP, value by value: integers, text, hex, floats, labels, at every length."""

from __future__ import annotations

import base64
import itertools
import json
import locale
import os
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.encoder import Encoder, to_resource_spans
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import make_records
from tests.python import ROOT
from tests.unit.otlp.core_records import CORE, LABELS, Rows, one, spans_of, values_in

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_attribute_that_is_not_present_may_hold_anything() -> None:
    records = one(LABELS, {})
    records["outcome"] = 255
    records["note"]["length"] = 65535
    records["present"] = 0xFFFFFFFC  # bits without an attribute
    (span,) = spans_of(Encoder(LABELS, {}).encode(records).body)
    assert not span.attributes
    (text,) = json.loads(Encoder(LABELS, {}).encode_json(records).body)["scopeSpans"][0]["spans"]
    assert text["attributes"] == []


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_integers_keep_their_value_at_every_length(kind: Any) -> None:
    bits = int(kind[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    near = {sign * 2**power + step for power in range(65) for step in (-1, 0, 1) for sign in (1, -1)}
    near |= {10**power + step for power in range(20) for step in (-1, 0, 1)}
    numbers = sorted(number for number in near if low <= number <= high)
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("n", kind)])
    found = values_in(layout, make_records(layout, [(CORE, {"n": number}) for number in numbers]))
    assert found == [number if number < 2**63 else str(number) for number in numbers]


@pytest.mark.parametrize("leads", [b"\xf0\xf4", pytest.param(b"\xe0\xed\xf1", marks=[pytest.mark.prove])])
def test_text_that_is_not_utf8_is_mended_as_python_does(leads: bytes) -> None:
    # The first and last byte of every class that Unicode's table 3-7 has, and those just outside.
    edges = b"A\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"
    texts = [bytes(text) for length in range(4) for text in itertools.product(edges, repeat=length)]
    texts += [bytes((lead, *rest)) for lead in leads for rest in itertools.product(edges, repeat=3)]
    texts += [b"12345678" + text + b"1234567" for text in texts[:600]]
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("text", "str", 20)])
    records = np.repeat(make_records(layout, [(CORE, {"text": ""})]), len(texts))
    records["text"]["length"] = [len(text) for text in texts]
    records["text"]["data"] = np.frombuffer(b"".join(text.ljust(20, b"\0") for text in texts), "u1").reshape(-1, 20)
    assert values_in(layout, records) == [text.decode(errors="replace") for text in texts]


def test_keys_labels_names_and_text_may_have_any_character() -> None:
    odd = "".join(map(chr, range(128))) + "é€\u2028𝄞" + "x" * 70
    layout = SpanLayout(
        span_names=[odd],
        attributes=[
            Attribute(odd, "label", labels=(odd, "z")),
            Attribute(odd + "2", "str", 400),
            Attribute(odd + "3", "bool"),
        ],
    )
    records = one(layout, {odd: odd, odd + "2": odd, odd + "3": True})
    (span,) = spans_of(Encoder(layout, {}).encode(records).body)
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == (odd, odd, odd)
    (text,) = json.loads(Encoder(layout, {}).encode_json(records).body)["scopeSpans"][0]["spans"]
    assert (text["name"], text["attributes"][0]["key"]) == (odd, odd)
    assert [attribute["value"] for attribute in text["attributes"]] == [
        {"stringValue": odd},
        {"stringValue": odd},
        {"boolValue": True},
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 200])
def test_hex_of_every_size_has_its_digits(size: int) -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("id", "hex", size), Attribute("last", "bool")])
    data = bytes((7 * index + 3) % 256 for index in range(size))
    assert values_in(layout, one(layout, {"id": data, "last": True})) == [data.hex()]
    everything = [bytes([byte] * size) for byte in range(256)]
    rows: Rows = [(CORE, {"id": data, "last": False}) for data in everything]
    assert values_in(layout, make_records(layout, rows)) == [data.hex() for data in everything]


@pytest.mark.parametrize("length", [*range(8), 30, 76, 77, 126, 127, 128, 129, 400, 16_000, 16_318])
def test_lengths_take_as_many_bytes_as_they_need(length: int) -> None:
    """From a span whose length has one byte to one whose length has three."""
    layout = SpanLayout(span_names=["s"], attributes=[Attribute("b", "bytes", max(1, length))])
    data = bytes(index % 251 for index in range(length))
    records = make_records(layout, [(CORE, {"b": data}), (CORE, {"b": b""}), (CORE, {"b": data})])
    reference = to_resource_spans(records, layout, {})
    assert Encoder(layout, {}).encode(records).body == TracesData(resource_spans=[reference]).SerializeToString()
    text = json.loads(Encoder(layout, {}).encode_json(records).body)
    value = text["scopeSpans"][0]["spans"][2]["attributes"][0]["value"]
    assert base64.b64decode(value["bytesValue"], validate=True) == data


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (0.000123, "0.000123"),
        (123456.789, "123456.789"),
        (123456789012345.0, "123456789012345.0"),
        (1e15, "1e+15"),
        (1234567890123456.0, "1234567890123456.0"),
        (9007199254740993.0, "9007199254740992.0"),
        (1 / 3, "0.3333333333333333"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e300, "1e+300"),
        (5e-324, "4.94065645841247e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
    ],
)
def test_a_float_has_the_digits_that_it_needs(value: float, digits: str) -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("f", "f64")])
    body = Encoder(layout, {}).encode_json(one(layout, {"f": value})).body
    assert f'"doubleValue":{digits}}}}}'.encode() in body


# German but for the order of words, which takes two seconds to compile.
WITH_COMMA = {"CTYPE": "i18n_ctype", "COLLATE": "POSIX"} | dict.fromkeys(
    [
        *("NUMERIC", "MONETARY", "TIME", "MESSAGES"),
        *("PAPER", "NAME", "ADDRESS", "TELEPHONE", "MEASUREMENT", "IDENTIFICATION"),
    ],
    "de_DE",
)


def test_a_decimal_comma_does_not_reach_the_json(
    monkeypatch: pytest.MonkeyPatch,
    debian_program: Callable[[str], str],
    missing_debian: Callable[[str], NoReturn],
) -> None:
    compiled = ROOT / "build" / "locales" / "with_comma.UTF-8"
    if not compiled.exists():
        part = compiled.with_name(f"{os.getpid()}.UTF-8")
        part.parent.mkdir(parents=True, exist_ok=True)
        source = part.with_suffix(".source")
        source.write_text("".join(f'LC_{name}\ncopy "{of}"\nEND LC_{name}\n' for name, of in WITH_COMMA.items()))
        command = [debian_program("localedef"), "-i", str(source), "-f", "UTF-8", str(part)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            missing_debian("localedef with its data (package locales)")
        part.rename(compiled)
    monkeypatch.setenv("LOCPATH", str(compiled.parent))
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("f", "f64")])
    numeric = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, compiled.name)
        assert locale.localeconv()["decimal_point"] == ","
        body = Encoder(layout, {}).encode_json(one(layout, {"f": 1 / 3})).body
    finally:
        locale.setlocale(locale.LC_NUMERIC, numeric)
    assert b'"doubleValue":0.3333333333333333}' in body


def test_a_label_has_its_string_below_and_above_256() -> None:
    labels = tuple(f"label {index}" for index in range(300))
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("label", "label", labels=labels)])
    found = values_in(layout, make_records(layout, [(CORE, {"label": label}) for label in labels]))
    assert found == list(labels)
