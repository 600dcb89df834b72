"""The values that records take: in which forms, within which bounds, and what is said of the others."""

from __future__ import annotations

import decimal
import enum
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
import ringbuf.layout.attribute
import ringbuf.layout.layout
import ringbuf.layout.layout_json
import ringbuf.layout.value
import ringbuf.sites.packing
from ringbuf._ringbuf import ffi
from ringbuf.layout.layout import Attribute
from ringbuf.sites.packing import pack_constants
from tests.consumer import records_in
from tests.emitted import emitted
from tests.unit.layout.layouts import EVERY_TYPE, SMALL, layout_of

if TYPE_CHECKING:
    from pathlib import Path

INTEGER_BOUNDS = {
    "i8": (-0x80, 0x7F),
    "i16": (-0x8000, 0x7FFF),
    "i32": (-0x80000000, 0x7FFFFFFF),
    "i64": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
    "u8": (0, 0xFF),
    "u16": (0, 0xFFFF),
    "u32": (0, 0xFFFFFFFF),
    "u64": (0, 0xFFFFFFFFFFFFFFFF),
}


class Index(enum.IntEnum):
    OK = 0
    ERROR = 1


class Text(enum.StrEnum):
    ERROR = "error"


class OldText(str, enum.Enum):  # noqa: UP042 - its str() is not its value, unlike StrEnum's
    ERROR = "error"


def packed_value(attribute: Attribute, value: object) -> object:
    """Return what a value has become in a record, as a constant and as a varying value, which must agree."""
    layout = layout_of(attribute)
    constant = pack_constants(layout, "name", {attribute.key: value})
    with emitted(layout, [attribute.key]) as site:
        record = site.record(1, 2, value)
    assert record.tobytes()[64:] == constant[64:]
    assert record["present"] == int.from_bytes(constant[48:52], "little")
    return layout.values(constant).get(attribute.key)


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        (Attribute("k", "bool"), False, False),
        (Attribute("k", "u8"), Index.ERROR, 1),
        (Attribute("k", "i64"), np.int64(-5), -5),
        (Attribute("k", "u64"), np.uint64(2**64 - 1), 2**64 - 1),
        (Attribute("k", "f64"), 3, 3.0),
        (Attribute("k", "f64"), np.float32(0.5), 0.5),
        (Attribute("k", "f64"), decimal.Decimal("0.25"), 0.25),
        (Attribute("k", "f64"), float("inf"), float("inf")),
        (Attribute("k", "label", labels=("ok", "error")), "error", "error"),
        (Attribute("k", "label", labels=("ok", "error")), 1, "error"),
        (Attribute("k", "label", labels=("ok", "error")), Index.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), Text.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), OldText.ERROR, "error"),
        (Attribute("k", "label", labels=("ok", "error")), np.uint8(1), "error"),
        (Attribute("k", "hex", 2), b"\x01\xff", "01ff"),
        (Attribute("k", "hex", 2), bytearray(b"\x01\xff"), "01ff"),
        (Attribute("k", "hex", 2), memoryview(b"\x01\xff"), "01ff"),
        (Attribute("k", "str", 4), "", ""),
        (Attribute("k", "str", 4), "a\0b", "a\0b"),
        (Attribute("k", "str", 4), "a\ud800b", "a?b"),
        (Attribute("k", "str", 4), Text.ERROR.value[:2], "er"),
        (Attribute("k", "bytes", 2), b"", b""),
        (Attribute("k", "bytes", 2), bytearray(b"\0\1"), b"\0\1"),
        (Attribute("k", "bytes", 2), memoryview(b"abcd")[::2], b"ac"),
        (Attribute("k", "u8"), 0, 0),
        (Attribute("k", "u8"), None, None),
        (Attribute("k", "hex", 2), None, None),
        (Attribute("k", "str", 2), None, None),
    ],
)
def test_a_value_in_any_of_its_forms(attribute: Attribute, value: object, expected: object) -> None:
    got = packed_value(attribute, value)
    assert got == expected
    assert type(got) is type(expected)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a value that does not fit raise, which else is left out and told of."""
    monkeypatch.setenv("RINGBUF_STRICT", "1")


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        (Attribute("k", "bool"), 1, TypeError),
        (Attribute("k", "bool"), "true", TypeError),
        (Attribute("k", "u8"), True, TypeError),
        (Attribute("k", "u8"), 1.0, TypeError),
        (Attribute("k", "u8"), "1", TypeError),
        (Attribute("k", "f64"), True, TypeError),
        (Attribute("k", "f64"), "1.0", TypeError),
        (Attribute("k", "f64"), 1j, TypeError),
        pytest.param(Attribute("k", "f64"), 10**400, ValueError, id="10**400"),
        pytest.param(Attribute("k", "f64"), 10**5000, ValueError, id="10**5000 f64"),
        pytest.param(Attribute("k", "i64"), 10**5000, ValueError, id="10**5000 i64"),
        (Attribute("k", "label", labels=("ok", "error")), "nothing", ValueError),
        (Attribute("k", "label", labels=("ok", "error")), 2, ValueError),
        (Attribute("k", "label", labels=("ok", "error")), -1, ValueError),
        (Attribute("k", "label", labels=("ok", "error")), True, TypeError),
        (Attribute("k", "label", labels=("ok", "error")), 1.0, TypeError),
        (Attribute("k", "label", labels=("ok", "error")), [], TypeError),
        (Attribute("k", "hex", 2), b"\0", ValueError),
        (Attribute("k", "hex", 2), b"\0\0\0", ValueError),
        (Attribute("k", "hex", 2), "0000", TypeError),
        (Attribute("k", "hex", 2), "00", TypeError),
        (Attribute("k", "hex", 2), [0, 0], TypeError),
        (Attribute("k", "str", 2), b"a", TypeError),
        (Attribute("k", "str", 2), 1, TypeError),
        (Attribute("k", "bytes", 2), "a", TypeError),
        (Attribute("k", "bytes", 2), 1, TypeError),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_key(
    attribute: Attribute, value: object, error: type[Exception], strict: None
) -> None:
    layout = layout_of(Attribute("before", "str", 3), attribute)
    with emitted(layout, ["before", "k"]) as site:
        with pytest.raises(error, match=r"^k: "):
            site.record(1, 2, "abcd", value)
        assert (site.cuts, site.attempts) == (0, 0)
        with pytest.raises(error, match=r"^k: "):  # at the end of the block, when the span is written without it
            site.spanned("abcd", value)
        assert (site.cuts, site.attempts) == (1, 1)
    with pytest.raises(error, match=r"^k: "):
        pack_constants(layout, "name", {"k": value})


@pytest.mark.parametrize("kind", INTEGER_BOUNDS)
def test_every_integer_type_takes_its_bounds_and_nothing_beyond(kind: Any, strict: None) -> None:
    attribute = Attribute("k", kind)
    least, greatest = INTEGER_BOUNDS[kind]
    for value in (least, greatest):
        assert packed_value(attribute, value) == value
    for value in (least - 1, greatest + 1):
        refusal = f"^k: {value} is out of the range of {kind}$"
        with emitted(layout_of(attribute), ["k"]) as site, pytest.raises(ValueError, match=refusal):
            site.record(1, 2, value)
        with pytest.raises(ValueError, match=f"^k: {value} is out of the range of {kind}$"):
            pack_constants(layout_of(attribute), "name", {"k": value})


def test_an_error_shows_no_more_than_the_beginning_of_a_long_value() -> None:
    with emitted(SMALL, ["size"]) as site, pytest.raises(TypeError) as caught:
        site.record(1, 2, "x" * 100_000)
    assert len(str(caught.value)) < 100


def test_times_are_u64_and_named_when_they_are_not(strict: None) -> None:
    with emitted(SMALL, []) as site:
        record = site.record(0, 2**64 - 1)
        assert (record["start_unix_nano"], record["end_unix_nano"]) == (0, 2**64 - 1)
        with pytest.raises(ValueError, match=r"^start_unix_nano: -1 "):
            site.record(-1, 0)
        with pytest.raises(ValueError, match=r"^end_unix_nano: 18446744073709551616 "):
            site.record(0, 2**64)
        with pytest.raises(TypeError, match=r"^end_unix_nano: 1.5 "):
            site.record(0, 1.5)
        with pytest.raises(TypeError, match=r"^start_unix_nano: None "):
            site.record(None, 2)


def test_an_end_that_is_none_is_now() -> None:
    with emitted(SMALL, []) as site:
        before = time.time_ns()
        record = site.record(5, None)
        assert record["start_unix_nano"] == 5
        assert before <= record["end_unix_nano"] <= time.time_ns()


def test_the_wrong_number_of_values_is_a_type_error() -> None:
    with emitted(SMALL, ["size", "outcome"]) as site:
        with pytest.raises(TypeError, match="outcome"):
            site.record(1, 2, 3)
        with pytest.raises(TypeError, match="takes 4 arguments, not 5"):
            site.record(1, 2, 1, "ok", 3)
        with pytest.raises(TypeError, match="takes 2 values, not 3"):
            site.spanned(1, "ok", 3)


def test_values_may_be_given_by_their_keys(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=SMALL, capacity=4) as emitter:
        site: Any = emitter.site(SMALL.span_names[0], varying=["size", "outcome"])
        assert site.emit(1, 2, outcome=None, size=7)
        (record,) = records_in(ring_dir)
        assert SMALL.values(record) == {"size": 7}
        for named, error in (({"size": 1}, "outcome"), ({"size": 1, "outcome": None, "x": 1}, "unexpected.*'x'")):
            with pytest.raises(TypeError, match=error):
                site.emit(1, 2, **named)
        with pytest.raises(TypeError, match="multiple values for argument 'size'"):
            site.emit(1, 2, 3, size=4, outcome=None)
        assert emitter.stats().attempts == 1


@pytest.mark.parametrize(
    ("size", "kept"), [(1, ""), (2, "é"), (4, "é"), (5, "é€"), (8, "é€"), (9, "é€𝄞"), (10, "é€𝄞z"), (11, "é€𝄞z")]
)
def test_a_str_is_cut_after_the_last_character_that_fits(size: int, kept: str) -> None:
    layout = layout_of(Attribute("k", "str", size))
    with emitted(layout, ["k"]) as site:
        record = site.record(1, 2, "é€𝄞z").tobytes()
        assert site.cuts == (size < 10)
    packed = record[layout.offsets["k"] :][: size + 2]
    assert packed == len(kept.encode()).to_bytes(2, "little") + kept.encode().ljust(size, b"\0")


def test_cuts_of_one_span_are_reported_together_and_never_with_an_error(strict: None) -> None:
    layout = layout_of(Attribute("a", "str", 2), Attribute("b", "bytes", 2), Attribute("c", "u8"))
    with emitted(layout, ["a", "b", "c"]) as site:
        site.record(1, 2, "abc", b"abc", 1)
        assert site.cuts == 2
        site.record(1, 2, "a\ud800c", memoryview(b"abc"), 1)
        assert site.cuts == 4
        site.spanned("abc", b"ab", 1)
        assert site.cuts == 5
        site.spanned("ab", b"ab", 1)
        assert site.cuts == 5
        with pytest.raises(ValueError, match="c: 256"):
            site.record(1, 2, "abc", b"abc", 256)
        assert site.cuts == 5


def test_constants_fill_a_whole_record() -> None:
    record = pack_constants(EVERY_TYPE, "schreiben ✎", {"flag": None, "a.i8": -1}, kind=2)
    assert len(record) == EVERY_TYPE.slot_bytes
    assert EVERY_TYPE.values(record) == {"a.i8": -1}
    core = ffi.from_buffer("rb_record *", record)
    assert (core.name, core.kind, core.present) == (1, 2, 1 << 2)
    assert (core.status, core.flags, core.start_unix_nano, any(core.trace_id)) == (0, 0, 0, False)


def test_constants_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^text: 'abcdef' is longer than 5 bytes$"):
        pack_constants(EVERY_TYPE, "read", {"text": "abcdef"})
    with pytest.raises(ValueError, match="'nothing'"):
        pack_constants(EVERY_TYPE, "read", {"nothing": 1})
    with pytest.raises(ValueError, match="'nothing'"):
        pack_constants(EVERY_TYPE, "nothing", {})
    for kind in (-1, 6):
        with pytest.raises(ValueError, match="kind"):
            pack_constants(EVERY_TYPE, "read", {}, kind=kind)
