from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from drain.tools.looking.filter_doubts import doubts
from drain.tools.looking.span_fields import attributes_of, duration_of, durations_of, name_of
from drain.tools.looking.span_filter import SpanFilter, span_filter
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.layout.value import pack_value
from ringbuf.phase219 import DATAPLANE_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYOUT = SpanLayout(
    span_names=["kv.get", "kv.put", "index.scan"],
    attributes=[
        Attribute("tier", "label", labels=("hot", "warm", "cold")),
        Attribute("bytes", "u64"),
        Attribute("delta", "i32"),
        Attribute("ratio", "f64"),
        Attribute("hit", "bool"),
        Attribute("key", "hex", 4),
        Attribute("table", "str", 8),
    ],
)


def records(*spans: dict[str, Any], layout: SpanLayout = LAYOUT) -> np.ndarray:
    """Return one record for each dict of attributes; `name`, `nano` and `trace` are of the core."""
    made = layout.empty(len(spans))
    for index, span in enumerate(spans):
        made["name"][index] = span.get("name", 0)
        made["start_unix_nano"][index], made["end_unix_nano"][index] = 1000, 1000 + span.get("nano", 0)
        made["trace_id"][index] = list(bytes.fromhex(span.get("trace", "00" * 15 + "01")))
        raw = made.view(np.uint8).reshape(len(spans), -1)[index]
        for field in layout.fields:
            value = span.get(field.attribute.key)
            if value is not None:
                content, _ = pack_value(field, value)
                raw[field.offset : field.offset + field.nbytes] = np.frombuffer(content, np.uint8)
                made["present"][index] |= 1 << field.index
    return made


def matches(spans: np.ndarray, *attributes: str, layout: SpanLayout = LAYOUT, **options: Any) -> list[int]:
    """Return the indices of the spans that match."""
    wanted = span_filter(attributes=list(attributes), **options)
    return np.flatnonzero(wanted.of(layout)(spans)).tolist()


SPANS = records(
    {"tier": "hot", "bytes": 10, "delta": -5, "ratio": 0.5, "hit": True, "key": b"\x00\x01\x02\xff", "table": "users"},
    {"tier": "cold", "bytes": 2**64 - 1, "delta": 5, "ratio": 2.0, "hit": False, "key": b"\x00" * 4, "table": "ünï"},
    {"name": 1},
)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("tier=hot", [0]),
        ("tier!=hot", [1, 2]),
        ("tier=lukewarm", []),
        ("bytes=10", [0]),
        ("bytes>10", [1]),
        ("bytes>=10", [0, 1]),
        ("bytes<11", [0]),
        ("bytes<=18446744073709551614", [0]),
        ("bytes=18446744073709551615", [1]),
        ("bytes>-1", [0, 1]),
        ("bytes=many", []),
        ("bytes!=many", [0, 1, 2]),
        ("delta<0", [0]),
        ("delta>=-5", [0, 1]),
        ("ratio>0.75", [1]),
        ("ratio=.5", [0]),
        ("hit=true", [0]),
        ("hit=False", [1]),
        ("hit!=true", [1, 2]),
        ("key=000102ff", [0]),
        ("key=000102FF", [0]),
        ("key!=000102ff", [1, 2]),
        ("table=users", [0]),
        ("table=ünï", [1]),
        ("table!=users", [1, 2]),
        ("users=1", []),
        ("nowhere=1", []),
        ("nowhere!=1", [0, 1, 2]),
        (" tier = hot ", [0]),
    ],
)
def test_a_condition_on_an_attribute(condition: str, found: list[int]) -> None:
    assert matches(SPANS, condition) == found


def test_all_conditions_must_hold() -> None:
    assert matches(SPANS, "bytes>1", "hit=false") == [1]


@pytest.mark.parametrize(
    ("names", "found"), [(["kv.get"], [0, 1]), (["kv.*"], [0, 1, 2]), (["kv.put", "x"], [2]), (["KV.*"], [])]
)
def test_a_name_or_a_pattern(names: list[str], found: list[int]) -> None:
    assert matches(SPANS, names=names) == found


@pytest.mark.parametrize(("text", "found"), [("250ns", [0, 1, 2]), ("10us", [1, 2]), ("10.001µs", [2]), ("1s", [2])])
def test_the_least_duration(text: str, found: list[int]) -> None:
    spans = records({"nano": 250}, {"nano": 10_000}, {"nano": 10**9})
    assert matches(spans, min_duration=text) == found


def test_an_end_before_the_start_is_a_negative_duration() -> None:
    spans = records({"nano": -300}, {"nano": 300})
    assert durations_of(spans).tolist() == [-300, 300]
    assert [duration_of(span) for span in spans] == [-300, 300]
    assert matches(spans, min_duration="1ns") == [1]


@pytest.mark.parametrize(("trace", "found"), [("ab", [0, 1]), ("ab1", [0]), ("AB1" + "0" * 29, [0]), ("abc", [])])
def test_a_trace_by_its_beginning(trace: str, found: list[int]) -> None:
    spans = records({"trace": "ab1" + "0" * 29}, {"trace": "ab2" + "0" * 29}, {"trace": "ba" + "0" * 30})
    assert matches(spans, trace=trace) == found


def test_the_outcome_is_the_one_of_phase_219() -> None:
    made = records({"grafos.outcome": "ok"}, {"grafos.outcome": "timeout"}, {}, layout=DATAPLANE_LAYOUT)
    assert matches(made, outcome="timeout", layout=DATAPLANE_LAYOUT) == [1]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"status": ["error"]}, [2]),
        ({"status": ["ok", "error"]}, [1, 2]),
        ({"kind": ["server"]}, [0, 2]),
        ({"kind": ["server"], "status": ["error"]}, [2]),
        ({"kind": ["producer", "consumer"]}, []),
    ],
)
def test_the_kind_and_the_status(options: dict[str, Any], found: list[int]) -> None:
    spans = records({}, {}, {})
    spans["kind"], spans["status"] = [2, 3, 2], [0, 1, 2]
    assert matches(spans, **options) == found


def test_a_key_may_be_what_stands_after_a_dot_where_that_is_one_key() -> None:
    made = records({"grafos.bytes": 4096}, {"grafos.bytes": 4095}, layout=DATAPLANE_LAYOUT)
    assert matches(made, "bytes>=4096", layout=DATAPLANE_LAYOUT) == [0]
    assert matches(made, "kind=mem", layout=DATAPLANE_LAYOUT) == []
    two = SpanLayout(span_names=["x"], attributes=[Attribute("a.bytes", "u8"), Attribute("b.bytes", "u8")])
    assert matches(records({"a.bytes": 1}, layout=two), "bytes=1", layout=two) == []


def test_a_key_of_a_span_that_carries_otlp_may_be_what_stands_after_a_dot() -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("otlp", "otlp", 120)])
    carried = Span(attributes=[KeyValue(key="http.response.status_code", value=AnyValue(int_value=503))])
    spans = records({"otlp": carried.SerializeToString()}, layout=layout)
    assert matches(spans, "status_code>=500", layout=layout) == [0]


def test_a_condition_whose_sign_the_shell_took_says_what_to_do() -> None:
    with pytest.raises(typer.BadParameter, match="needs quotes"):
        span_filter(attributes=["bytes"])


@pytest.mark.parametrize(
    "option",
    [
        {"attributes": ["tier"]},
        {"attributes": ["=hot"]},
        {"attributes": ["bytes>many"]},
        {"min_duration": "10"},
        {"min_duration": "fast"},
        {"trace": "xyz"},
        {"trace": ""},
        {"trace": "0" * 33},
    ],
)
def test_an_option_that_says_nothing_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter):
        span_filter(**option)


def test_what_is_out_of_bounds_matches_nothing() -> None:
    spans = records({"tier": "hot", "hit": True})
    spans["name"], spans["tier"] = 999, 200
    spans.view(np.uint8)[LAYOUT.offsets["hit"]] = 7
    assert matches(spans, names=["*"]) == []
    assert matches(spans, "tier!=cold") == []
    assert matches(spans, "hit!=x") == []
    assert name_of(LAYOUT, spans[0]) == "(invalid)"
    assert attributes_of(LAYOUT, spans[0]) is None


def test_spans_that_carry_otlp_are_found_by_what_is_in_it() -> None:
    layout = SpanLayout(span_names=["span"], attributes=[Attribute("otlp", "otlp", 120), Attribute("bytes", "u64")])
    carried = Span(name="GET /cart", attributes=[KeyValue(key="http.status", value=AnyValue(int_value=503))])
    spans = records({"otlp": carried.SerializeToString(), "bytes": 3}, {"bytes": 4}, layout=layout)
    assert name_of(layout, spans[0]) == "GET /cart"
    assert attributes_of(layout, spans[0]) == {"bytes": 3, "http.status": 503}
    assert name_of(layout, spans[1]) == "span"
    assert matches(spans, names=["GET *"], layout=layout) == [0]
    assert matches(spans, "http.status>=500", layout=layout) == [0]
    assert matches(spans, "bytes=4", layout=layout) == [1]


OPERATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
NUMBERS = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.lists(st.floats(-1e9, 1e9), max_size=8),
    OPERATORS,
    NUMBERS,
)
def test_a_whole_array_is_judged_as_its_values_are(
    integers: Sequence[int], floats: Sequence[float], sign: str, number: float
) -> None:
    spans = records(*({"bytes": value} for value in integers), *({"ratio": value} for value in floats))
    for key in ("bytes", "ratio"):
        wanted = span_filter(attributes=[f"{key}{sign}{number}"])
        (condition,) = wanted.conditions
        one_by_one = [condition.holds((attributes_of(LAYOUT, span) or {}).get(key)) for span in spans]
        assert wanted.of(LAYOUT)(spans).tolist() == one_by_one


def test_without_a_condition_every_span_matches() -> None:
    assert SpanFilter().of(LAYOUT)(SPANS).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"attributes": ["grafos.outcom=ok"]},
            ["no span of these rings has an attribute 'grafos.outcom'", "'grafos.outcome'?"],
        ),
        ({"attributes": ["outcom=ok"]}, ["no span of these rings has an attribute 'outcom'", "'grafos.outcome'?"]),
        ({"attributes": ["zzz=1"]}, ["attribute 'zzz'; there is grafos.bytes, grafos.lease.id"]),
        ({"outcome": "timout"}, ["grafos.outcome has no label 'timout'; did you mean 'timeout'?"]),
        ({"attributes": ["operation!=fbmu-read"]}, ["grafos.operation has no label 'fbmu-read'", "'fbmu_read'?"]),
        ({"attributes": ["bytes=many"]}, ["grafos.bytes is a number, and 'many' is none"]),
        ({"attributes": ["operation>3"]}, ["grafos.operation is no number: > holds of none"]),
        ({"attributes": ["lease.id=7"]}, ["grafos.lease.id has 32 hex digits"]),
        ({"names": ["grafos.dataplane.fmbu"]}, ["is called 'grafos.dataplane.fmbu'", "'grafos.dataplane.fbmu'?"]),
        ({"names": ["kv.*"]}, ["no span of these rings is called 'kv.*'"]),
    ],
)
def test_what_a_filter_can_never_match_is_said_with_the_nearest(options: dict[str, Any], words: list[str]) -> None:
    (doubt,) = doubts(span_filter(**options), [DATAPLANE_LAYOUT])
    for word in words:
        assert word in doubt
    carries_otlp = SpanLayout(span_names=["span"], attributes=[Attribute("otlp", "otlp", 120)])
    assert doubts(span_filter(**options), [DATAPLANE_LAYOUT, carries_otlp]) == []
    assert doubts(span_filter(**options), []) == []


def test_what_a_ring_says_of_itself_cannot_steer_the_terminal() -> None:
    layout = SpanLayout(span_names=["x"], attributes=[Attribute("a\x1b[31mbytes", "label", labels=("\x1b[31m",))])
    for condition in ("bytes=1", "a\x1b[31mbytes=1", "zzz=1"):
        (doubt,) = doubts(span_filter(attributes=[condition]), [layout])
        assert "\x1b" not in doubt


@pytest.mark.parametrize(
    "options",
    [
        {"attributes": ["tier=hot", "bytes>=4096", "hit=TRUE", "key=000102FF", "table=anything", "ratio<.5"]},
        {"names": ["kv.*", "index.scan"]},
        {"min_duration": "1s", "kind": ["server"], "status": ["ok"], "trace": "ab"},
        {},
    ],
)
def test_a_filter_that_can_match_is_no_doubt(options: dict[str, Any]) -> None:
    assert doubts(span_filter(**options), [LAYOUT]) == []


def test_a_key_that_may_be_two_is_said() -> None:
    two = SpanLayout(span_names=["x"], attributes=[Attribute("a.bytes", "u8"), Attribute("b.bytes", "u8")])
    assert doubts(span_filter(attributes=["bytes=1"]), [two]) == ["'bytes' may mean 2 attributes: a.bytes, b.bytes"]


def test_what_one_of_several_layouts_has_is_no_doubt() -> None:
    hot = SpanLayout(span_names=["x"], attributes=[Attribute("tier", "label", labels=("burning",))])
    assert doubts(span_filter(attributes=["tier=burning"]), [LAYOUT, hot]) == []
    assert doubts(span_filter(attributes=["grafos.bytes=1"]), [LAYOUT, DATAPLANE_LAYOUT]) == []
