"""A C or C++ program that fills records by a generated header writes what Python reads by the layout."""

from __future__ import annotations

import itertools
import json
import os
import re
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ringbuf
from ringbuf.layout.layout import CORE_OFFSETS, Attribute, AttributeType, SpanLayout
from ringbuf.layout.value import cut_utf8
from ringbuf.layout_c import _Header, to_c_header
from tests.examples import ABOUT_CHANCE, examples
from tests.property.strategies import attribute_values_for, layouts, readable, text, wide_text

if TYPE_CHECKING:
    from collections.abc import Callable

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
IN_ONE_PROGRAM = 25


def moved(layout: SpanLayout, gaps: list[int]) -> SpanLayout:
    """Return the layout with other offsets, as another writer may choose them."""
    content = json.loads(layout.to_json())
    end = 64
    for entry, field, gap in zip(content["attributes"], layout.fields, gaps, strict=True):
        alignment = field.attribute.alignment
        entry["offset"] = -(-end // alignment) * alignment + gap * alignment
        end = entry["offset"] + field.nbytes
    content["slot_bytes"] = -(-end // 64) * 64
    return SpanLayout.from_json(json.dumps(content).encode())


# Keys that are hard to make identifiers of: keywords, clashes, nothing but punctuation, ends of comments.
HARD = ["class", "errno", "a.b", "a_b", "A-b", "core", "…", "*/", "//", "??/", '"', "\\", "\n", "9", "pad_64"]
hard = st.sampled_from(HARD)
hard_layouts = st.builds(
    SpanLayout,
    span_names=st.lists(hard, min_size=1, max_size=6, unique=True),
    attributes=st.lists(
        st.builds(
            Attribute, hard, st.just("label"), labels=st.lists(hard, min_size=1, max_size=8, unique=True).map(tuple)
        )
        | st.builds(Attribute, hard, st.just("str"), st.integers(1, 9)),
        max_size=8,
        unique_by=lambda attribute: attribute.key,
    ),
    scope_name=hard,
)
any_layout = st.one_of(
    layouts(max_attributes=32),
    hard_layouts,
    layouts().flatmap(
        lambda layout: st.lists(st.integers(0, 9), min_size=len(layout.fields), max_size=len(layout.fields)).map(
            lambda gaps: moved(layout, gaps)
        )
    ),
)


@st.composite
def filled(draw: st.DrawFn) -> tuple[SpanLayout, dict[str, Any], int]:
    """Return a layout, values that its attributes are set to (text may be too long), and the index of a span name."""
    layout = draw(any_layout)
    values = draw(attribute_values_for(layout))
    for attribute in layout.attributes:
        if attribute.key in values and attribute.type == "str":
            values[attribute.key] = draw(wide_text | text)
        if attribute.key in values and attribute.type == "bytes":
            values[attribute.key] = draw(st.binary(max_size=2 * (attribute.size or 0)))
    return layout, values, draw(st.integers(0, len(layout.span_names) - 1))


@pytest.fixture(scope="module", params=["c11", pytest.param("c++17", marks=pytest.mark.prove)])
def compiler(request: pytest.FixtureRequest, c_compiler: str, debian_program: Callable[[str], str]) -> list[str]:
    """Return the command that compiles standard input as that language."""
    if request.param == "c11":
        return [c_compiler, "-std=c11", "-xc"]
    return [debian_program(os.environ.get("CXX", "c++")), "-std=c++17", "-xc++"]


# Whatever is drawn, one program costs a second: a few of many layouts each, and no search for the least that fails.
@settings(
    max_examples=examples(20),
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, *ABOUT_CHANCE],
)
@given(some=st.lists(filled(), min_size=IN_ONE_PROGRAM, max_size=IN_ONE_PROGRAM))
def test_records_filled_by_the_generated_setters_are_read_by_the_layout(
    some: list[tuple[SpanLayout, dict[str, Any], int]], compiler: list[str], tmp_path: Path
) -> None:
    source = ["#include <stdio.h>"]
    body = []
    for number, (layout, values, name) in enumerate(some):
        header = _Header(layout, f"r{number}")
        source.append(to_c_header(layout, f"r{number}"))
        body += [f"{{ r{number}_record record;", f"r{number}_init(&record, (enum r{number}_span_name){name});"]
        for member in header._members:
            if member.field.attribute.key in values:
                body.append(setter(f"r{number}", member, values[member.field.attribute.key]))
        body += ["fwrite(&record, sizeof record, 1, stdout);", f"rb_config config; r{number}_config(&config);"]
        body.append("fwrite(config.layout_json, config.layout_bytes, 1, stdout); }")
    source += ["int main(void) {", *body, "return 0; }"]
    out = run_c(compiler, "\n".join(source), tmp_path)
    for layout, values, name in some:
        record, out = out[: layout.slot_bytes], out[layout.slot_bytes :]
        assert layout.values(record) == {
            attribute.key: expected(attribute, values[attribute.key])
            for attribute in layout.attributes
            if attribute.key in values
        }
        core = memoryview(record)
        assert (core[52:54].cast("H")[0], core[54], core[55]) == (name, 1, 0)
        assert core[56:64].cast("I").tolist() == [0x101, 0]
        assert not any(record[:48])
        json_bytes, out = out[: len(layout.to_json())], out[len(layout.to_json()) :]
        assert json_bytes == layout.to_json()
    assert out == b""


def test_a_layout_of_256_kib_compiles(compiler: list[str], tmp_path: Path) -> None:
    labels = [f'label {number} ?\\"{"ü" * 10}' for number in range(6000)]
    layout = SpanLayout(span_names=["x"], attributes=[Attribute("class", "label", labels=tuple(labels))])
    assert 200_000 < len(layout.to_json()) < 262_144
    main = (
        "int main(void) { rb_config c; big_config(&c); return fwrite(c.layout_json, c.layout_bytes, 1, stdout) != 1; }"
    )
    out = run_c(compiler, f"#include <stdio.h>\n{to_c_header(layout, 'big')}\n{main}", tmp_path)
    assert out == layout.to_json()


def test_attributes_may_have_the_names_of_types_and_of_the_header_itself(compiler: list[str], tmp_path: Path) -> None:
    words = re.findall(r"[a-z_]+", Path(ringbuf.get_include(), "ringbuf.h").read_text(encoding="ascii"))
    words += [f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)] + ["size_t", "main", "kept"]
    keys = sorted({*HARD, *words} - CORE_OFFSETS.keys())
    types: list[tuple[AttributeType, int | None]] = [("u64", None), ("bool", None), ("str", 9), ("hex", 3)]
    source = ["#include <stdio.h>"]
    for start in range(0, len(keys), 28):
        name = f"n{start}"
        some = [*keys[start : start + 28], *(f"{name}_{what}" for what in ("record", "config", "init", "span_name"))]
        attributes = [
            Attribute(key, kind, size) for key, (kind, size) in zip(some, itertools.cycle(types), strict=False)
        ]
        source.append(to_c_header(SpanLayout(span_names=["x"], attributes=attributes), name))
    assert run_c(compiler, "\n".join([*source, "int main(void) { return 0; }"]), tmp_path) == b""


def test_the_setter_of_a_label_sets_the_status_where_the_label_says_so(compiler: list[str], tmp_path: Path) -> None:
    outcome = Attribute("outcome", "label", labels=("paid", "declined"), error_labels=("declined",))
    header = to_c_header(SpanLayout(span_names=["x"], attributes=[outcome]), "shop")
    main = """int main(void) {
        shop_record record;
        shop_init(&record, SHOP_NAME_X);
        shop_set_outcome(&record, SHOP_OUTCOME_PAID);
        putchar('0' + record.core.status);
        shop_set_outcome(&record, SHOP_OUTCOME_DECLINED);
        putchar('0' + record.core.status);
        return 0;
    }"""
    assert run_c(compiler, f"#include <stdio.h>\n{header}\n{main}", tmp_path) == b"02"


def run_c(compiler: list[str], source: str, folder: Path) -> bytes:
    """Compile a program, warnings being errors, and return what it prints."""
    program = folder / "program"
    command = [*compiler, *STRICT, "-", "-o", str(program), f"-I{ringbuf.get_include()}"]
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:] + source[-4000:]
    ran = subprocess.run([program], capture_output=True, check=False)
    assert ran.returncode == 0
    return ran.stdout


def setter(name: str, member: Any, value: Any) -> str:
    """Return the call that sets an attribute to a value."""
    attribute = member.field.attribute
    match attribute.type:
        case "label":
            argument = member.labels[attribute.labels.index(value)]
        case "bool":
            argument = str(value).lower()
        case "f64":
            copied = f"const uint64_t bits = UINT64_C({bits_of(value)}); double v; memcpy(&v, &bits, 8);"
            return f"{{ {copied} {name}_set_{member.name}(&record, v); }}"
        case "hex" | "str" | "bytes" | "otlp" | "scope":
            raw = value.encode() if isinstance(value, str) else value
            listed = ", ".join(map(str, raw)) or "0"
            if attribute.type == "hex":
                return f"{{ static const uint8_t v[] = {{{listed}}}; {name}_set_{member.name}(&record, v); }}"
            call = f"{name}_set_{member.name}(&record, (const char *)v, {len(raw)})"
            was_cut = int(len(raw) > attribute.size)
            return f"{{ static const uint8_t v[] = {{{listed}}}; if ({call} != {was_cut}) return 1; }}"
        case "i64":
            # The least has no literal of its own: a minus sign before a number that is too large.
            argument = f"(-INT64_C({-(value + 1)}) - 1)" if value < 0 else f"INT64_C({value})"
        case "u64":
            argument = f"UINT64_C({value})"
        case _:
            argument = str(value) if value >= -(2**31) + 1 else "(-2147483647 - 1)"
            argument += "u" if attribute.type == "u32" else ""
    return f"{name}_set_{member.name}(&record, {argument});"


def bits_of(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def expected(attribute: Attribute, value: Any) -> Any:
    """Return a value as it is read again: cut to its field."""
    if attribute.type == "str":
        return cut_utf8(value.encode(), attribute.size or 0).decode()
    if attribute.type == "bytes":
        return value[: attribute.size]
    return readable(attribute, value)
