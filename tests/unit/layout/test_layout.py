"""SpanLayout: what it refuses, what its JSON may not say, and the object."""

from __future__ import annotations

import copy
import doctest
import enum
import json
import pickle
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
import ringbuf.layout.attribute
import ringbuf.layout.layout
import ringbuf.layout.layout_json
import ringbuf.layout.value
import ringbuf.sites.packing
from ringbuf._ringbuf import lib
from ringbuf.exceptions import LayoutError
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.sites.packing import pack_constants
from tests.emitted import emitted
from tests.unit.layout.layouts import SMALL, labels_of, layout_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# ---- what a layout refuses ----


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Attribute("", "u8"), "key is empty"),
        (lambda: Attribute("k\ud800", "u8"), "lone surrogate"),
        (lambda: Attribute("k", "u128"), "'k': no such type as 'u128'"),  # type: ignore[arg-type]  # that is the point
        (lambda: Attribute("k", "u8", 1), "'k': a u8 takes no size"),
        (lambda: Attribute("k", "hex"), "'k': a hex needs a size"),
        (lambda: Attribute("k", "str", 0), "'k': size 0"),
        (lambda: Attribute("k", "bytes", -1), "'k': size -1"),
        (lambda: Attribute("k", "hex", 16321), "'k': size 16321"),
        (lambda: Attribute("k", "str", 16319), "'k': size 16319"),
        (lambda: Attribute("k", "label"), "'k': a label needs labels"),
        (lambda: Attribute("k", "label", labels=()), "'k': 0 labels"),
        (lambda: Attribute("k", "label", labels=labels_of(65537)), "'k': 65537 labels"),
        (lambda: Attribute("k", "label", labels=("a", "")), "'k': labels: one of them is empty"),
        (lambda: Attribute("k", "label", labels=("a", "b", "a")), "'k': labels: 'a' is there twice"),
        (lambda: Attribute("k", "label", labels=("\udcff",)), "'k': labels: one of them has a lone surrogate"),
        (lambda: Attribute("k", "u8", labels=("a",)), "'k': a u8 takes no labels"),
        (lambda: Attribute("k", "str", 3, metric_label=True), "'k': only a label or bool may be a metric_label"),
        (lambda: layout_of(span_names=[]), "span_names: 0"),
        (lambda: layout_of(span_names=["a", ""]), "span_names: one of them is empty"),
        (lambda: layout_of(span_names=["a", "a"]), "span_names: 'a' is there twice"),
        (lambda: layout_of(span_names=["\ud800"]), "span_names: one of them has a lone surrogate"),
        (lambda: layout_of(span_names=labels_of(65536)), "span_names: 65536"),
        (lambda: layout_of(span_names=["x" * 262144]), "bytes of JSON"),
        (lambda: layout_of(scope_name="\ud800"), "scope_name has a lone surrogate"),
        (lambda: layout_of(scope_version="\ud800"), "scope_version has a lone surrogate"),
        (lambda: layout_of(schema_url="\ud800"), "schema_url has a lone surrogate"),
        (lambda: layout_of(Attribute("k", "u8"), Attribute("k", "u16")), "'k' is there twice"),
        (lambda: layout_of(Attribute("trace_id", "hex", 16)), "'trace_id': a field of the record's core"),
        (lambda: layout_of(*(Attribute(f"k{index}", "u8") for index in range(33))), "attributes: 33"),
        (lambda: layout_of(Attribute("j", "hex", 16000), Attribute("k", "hex", 321)), "'k' exceeds the largest slot"),
    ],
)
def test_an_invalid_layout_is_a_value_error_that_names_the_field(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attribute(b"k", "u8"),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "hex", 3.0),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "hex", True),
        lambda: Attribute("k", "label", labels="abc"),
        lambda: Attribute("k", "label", labels=(1, 2)),  # type: ignore[arg-type]  # that is the point
        lambda: Attribute("k", "bool", metric_label=1),  # type: ignore[arg-type]  # that is the point
        lambda: layout_of("k"),  # type: ignore[arg-type]  # that is the point
        lambda: layout_of(span_names="name"),
        lambda: layout_of(span_names=1),
        lambda: layout_of(scope_name=None),
    ],
)
def test_another_python_type_is_a_type_error(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"k|span_names|scope_name"):
        make()


def test_what_is_just_within_the_limits_is_accepted() -> None:
    assert Attribute("k", "label", labels=labels_of(256)).format == "B"
    assert Attribute("k", "label", labels=labels_of(257)).format == "H"
    assert Attribute("k", "label", labels=labels_of(65536)).format == "H"
    assert layout_of(Attribute("k", "hex", 16320)).slot_bytes == lib.RB_MAX_SLOT_BYTES
    assert layout_of(Attribute("k", "str", 16318)).slot_bytes == lib.RB_MAX_SLOT_BYTES
    assert layout_of().slot_bytes == 64
    assert layout_of(Attribute("k", "hex", 64)).slot_bytes == 128
    assert layout_of(Attribute("k", "hex", 65)).slot_bytes == 192
    many = layout_of(*(Attribute(f"k{index}", "u8") for index in range(32)))
    assert many.index("k31") == 31
    # Short enough for the JSON, as many as `name` can count.
    names = [chr(code) for code in range(32, 127) if chr(code) not in '"\\']
    crowd = [a + b for a in names for b in names]
    assert layout_of(span_names=crowd).name_index(crowd[-1]) == len(crowd) - 1


def test_labels_of_an_enum_become_plain_strings() -> None:
    class Operation(enum.StrEnum):
        READ = "read"
        WRITE = "write"

    attribute = Attribute("operation", "label", labels=tuple(Operation))
    assert attribute.labels == ("read", "write")
    assert [type(label) for label in attribute.labels] == [str, str]


# ---- what a layout's JSON may not say ----


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(SMALL.to_json()) | members).encode()


def with_attribute(**members: Any) -> bytes:
    """Return SMALL's JSON with members of the first attribute changed, or left out where the value is `...`."""
    content = json.loads(SMALL.to_json())
    first = content["attributes"][0] | members
    content["attributes"][0] = {key: value for key, value in first.items() if value is not ...}
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"span_names":["\xff"]}', "not UTF-8: invalid start byte at byte 16"),
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{", "not JSON"),
        (b'{"slot_bytes":NaN}', "not JSON: NaN"),
        (b'{"slot_bytes":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"x":' * 50_000, "nested too deeply"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b" " * 262145, "262145 bytes of JSON"),
        (b"{}", "'attributes' is missing"),
        (b'{"a":1,"a":1}', "a key twice"),
        (changed(attributes={}), "'attributes' is not an array"),
        (changed(attributes=[1]), "attribute 0 is no object"),
        (changed(attributes=[{}] * 33), "33 attributes"),
        (changed(slot_bytes=128.0), "'slot_bytes' is not an integer"),
        (changed(slot_bytes=100), "slot_bytes 100 is not a multiple of 64"),
        (changed(slot_bytes=0), "slot_bytes 0"),
        (changed(slot_bytes=-64), "slot_bytes -64"),
        (changed(slot_bytes=16448), "slot_bytes 16448"),
        (changed(span_names="name"), "'span_names' is not an array"),
        (changed(span_names=["a", 1]), "span_names: not all of them are strings"),
        (changed(span_names=[]), "span_names: 0"),
        (changed(span_names=["\ud800"]), "lone surrogate"),
        (changed(scope_name=1), "'scope_name' is not a string"),
        (changed(schema_url=None), "'schema_url' is not a string"),
        (with_attribute(key=...), "attribute 0: 'key' is missing"),
        (with_attribute(key=""), "key is empty"),
        (with_attribute(key="flags"), "'flags': a field of the record's core"),
        (with_attribute(key="outcome"), "'outcome' is there twice"),
        (with_attribute(type="proto"), "'size': no such type as 'proto'"),
        (with_attribute(type=[]), "'type' is not a string"),
        (with_attribute(offset=...), "'size': 'offset' is missing"),
        (with_attribute(offset=True), "'offset' is not an integer"),
        (with_attribute(offset=60), "'size': offset 60 lies in the record's core"),
        (with_attribute(offset=-8), "'size': offset -8 lies in the record's core"),
        (with_attribute(offset=128), "end outside the slot"),
        (with_attribute(offset=125), "end outside the slot"),
        (with_attribute(offset=2**70), "end outside the slot"),
        (with_attribute(offset=70), "'size': offset 70 is no multiple of 4"),
        (with_attribute(type="hex", offset=66), "overlaps"),
        (with_attribute(type="hex", offset=65), "'outcome': offset 68 overlaps attribute 'size'"),
        (with_attribute(bytes=8), "'size': 8 bytes, where its type takes 4"),
        (with_attribute(bytes="4"), "'bytes' is not an integer"),
        (with_attribute(type="str", bytes=2), "'size': size 0"),
        (with_attribute(type="hex", bytes=2**70), "'size': size"),
        (with_attribute(labels=["a"]), "takes no labels"),
        (with_attribute(type="label", bytes=1), "needs labels"),
        (with_attribute(type="label", bytes=1, labels=[1]), "labels: not all of them are strings"),
        (with_attribute(type="label", bytes=2, labels=["a"]), "2 bytes, where its type takes 1"),
        (with_attribute(metric_label=True), "only a label or bool"),
        (with_attribute(metric_label=1), "'metric_label' is not true or false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "json",
)
def test_an_unsound_json_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(reason)):
        SpanLayout.from_json(data)


def test_a_reason_stays_short_whatever_the_json_says() -> None:
    with pytest.raises(LayoutError) as caught:
        SpanLayout.from_json(with_attribute(key="\n" * 100_000, offset=0))
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


def test_members_that_a_later_version_adds_are_ignored() -> None:
    assert SpanLayout.from_json(changed(later={"x": [1, None]})) == SMALL
    assert SpanLayout.from_json(with_attribute(unit="By")) == SMALL


def test_scope_and_metric_label_may_be_left_out() -> None:
    content = json.loads(SMALL.to_json())
    for key in ("scope_name", "scope_version", "schema_url"):
        del content[key]
    assert SpanLayout.from_json(json.dumps(content).encode()) == SMALL


# ---- the object ----


def test_a_layout_is_immutable_and_hashed_by_its_json() -> None:
    with pytest.raises(FrozenInstanceError):
        SMALL.slot_bytes = 64  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        SMALL.offsets["size"] = 0  # type: ignore[index]  # that is the point
    again = SpanLayout(span_names=iter(SMALL.span_names), attributes=iter(SMALL.attributes))
    assert {SMALL: 1}[again] == 1
    assert layout_of() != layout_of(scope_name="s")
    assert SMALL.to_json() != SMALL


def test_a_layout_survives_pickle_and_copy() -> None:
    moved = SpanLayout.from_json(with_attribute(offset=100))
    for again in (pickle.loads(pickle.dumps(moved)), copy.deepcopy(moved), copy.copy(moved)):  # noqa: S301 - our own
        assert again == moved
        assert again.offsets["size"] == 100


def made(layout: SpanLayout, varying: Any) -> None:
    with emitted(layout, varying):
        pass


def test_unknown_keys_and_names_are_value_errors_that_name_them() -> None:
    with pytest.raises(ValueError, match="'nothing'"):
        SMALL.index("nothing")
    with pytest.raises(ValueError, match="'nothing'"):
        SMALL.name_index("nothing")
    with pytest.raises(ValueError, match="'nothing'"):
        made(SMALL, ["size", "nothing"])
    with pytest.raises(ValueError, match="'size' is there twice"):
        made(SMALL, ["size", "size"])
    with pytest.raises(TypeError, match="varying"):
        made(SMALL, "size")


def test_a_record_with_a_label_or_length_out_of_bounds_is_a_value_error() -> None:
    layout = layout_of(Attribute("label", "label", labels=("a", "b")), Attribute("text", "str", 4))
    record = layout.empty(1)[0]
    record["label"], record["text"]["length"] = 2, 5
    assert layout.values(record) == {}
    record["present"] = 1
    with pytest.raises(ValueError, match="label: label 2 of 2"):
        layout.values(record)
    record["present"] = 2
    with pytest.raises(ValueError, match="text: length 5, where at most 4"):
        layout.values(record)
    with pytest.raises(ValueError, match="127 bytes"):
        layout.values(bytes(127))


def test_hostile_bytes_of_a_bool_or_str_have_a_value() -> None:
    layout = layout_of(Attribute("flag", "bool"), Attribute("text", "str", 4))
    record = bytearray(pack_constants(layout, "name", {"flag": True, "text": "abcd"}))
    record[layout.offsets["flag"]] = 2
    record[layout.offsets["text"] + 2] = 0xFF
    assert layout.values(bytes(record)) == {"flag": True, "text": "\ufffdbcd"}


def test_importing_the_layout_does_not_load_numpy() -> None:
    code = "import sys, ringbuf.layout.layout, ringbuf.sites.packing; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-Ic", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        ringbuf.layout.attribute,
        ringbuf.layout.layout,
        ringbuf.layout.layout_json,
        ringbuf.sites.packing,
        ringbuf.layout.value,
    ],
)
def test_the_examples_in_the_docstrings_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
