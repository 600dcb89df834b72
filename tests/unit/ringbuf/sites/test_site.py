"""A site of any layout: constants, values that vary, and its spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"
LAYOUT = ringbuf.SpanLayout(
    span_names=["get", "put"],
    attributes=[
        ringbuf.Attribute("key", "str", 8),
        ringbuf.Attribute("bytes", "u64"),
        ringbuf.Attribute("hit", "bool"),
        ringbuf.Attribute("tier", "label", labels=("ram", "disk")),
    ],
)


@pytest.fixture
def store(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    emitter = ringbuf.Emitter("store", ring_dir=ring_dir, layout=LAYOUT, capacity=16)
    yield emitter
    records_in(ring_dir)
    emitter.close()


def test_a_site_writes_constants_and_what_varies(store: ringbuf.Emitter, ring_dir: Path) -> None:
    put = store.site("put", constants={"tier": "disk"}, varying=["bytes", "key"])
    assert put.emit(10, 20, 5, "k")
    (record,) = records_in(ring_dir)
    assert LAYOUT.values(record) == {"key": "k", "bytes": 5, "tier": "disk"}
    assert (record["start_unix_nano"], record["end_unix_nano"], record["name"]) == (10, 20, 1)
    assert (record["kind"], record["status"], record["flags"]) == (1, 0, 0x103)


def test_none_is_an_absent_value_at_a_site(store: ringbuf.Emitter, ring_dir: Path) -> None:
    get = store.site("get", varying=["bytes", "hit"])
    assert get.emit(1, 2, None, None)
    assert get.emit(1, 2, 0, False)
    assert [LAYOUT.values(record) for record in records_in(ring_dir)] == [{}, {"bytes": 0, "hit": False}]


def test_a_value_does_not_stay_in_the_slot_for_the_next_span(store: ringbuf.Emitter, ring_dir: Path) -> None:
    full = store.site("get", varying=["key", "bytes", "hit", "tier"])
    for _ in range(16):
        assert full.emit(1, 2, "old text", 2**64 - 1, True, "disk")
    records_in(ring_dir)
    assert store.site("get").emit(1, 2)
    (record,) = records_in(ring_dir)
    assert bytes(64) == record.tobytes()[64:]


def test_a_sites_span_takes_values_first_and_later(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get", varying=["key", "bytes", "hit"]).span("k") as span:
        span["bytes"] = 3
    assert LAYOUT.values(records_in(ring_dir)[0]) == {"key": "k", "bytes": 3}


def test_an_exception_makes_the_status_of_a_sites_span_an_error(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with pytest.raises(KeyError), store.site("get").span():
        raise KeyError
    with store.site("get").span():
        pass
    assert [record["status"] for record in records_in(ring_dir)] == [2, 0]


def test_a_sites_span_continues_a_trace(store: ringbuf.Emitter, ring_dir: Path) -> None:
    get = store.site("get")
    with get.span(traceparent=HEADER) as outer, get.span():
        assert get.emit(1, 2)
    emitted, inner, first = records_in(ring_dir)
    assert (parent_of(first), first["flags"]) == ((TRACE, PARENT), 0x301)
    assert parent_of(inner) == own_ids(outer)
    assert parent_of(emitted) == (TRACE, ids(inner)[2])


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("delete", {}, "'delete'; it has get"),
        ("get", {"varying": ["size"]}, "size"),
        ("get", {"constants": {"size": 1}}, "size"),
        ("get", {"varying": ["key", "key"]}, "key"),
        ("get", {"varying": ["key"], "constants": {"key": "k"}}, "both constant and varying"),
        ("get", {"constants": {"key": "far too long"}}, "key"),
        ("get", {"constants": {"bytes": -1}}, "bytes"),
        ("get", {"constants": {"tier": "tape"}}, "tier: 'tape' is none of its labels, "),
    ],
)
def test_a_site_that_cannot_be_is_refused_by_name(
    store: ringbuf.Emitter, name: str, arguments: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        store.site(name, **arguments)


def test_a_value_of_another_type_at_a_site_raises_and_nothing_is_counted(store: ringbuf.Emitter) -> None:
    get = store.site("get", varying=["bytes"])
    for wrong in ("1", 1.5, True, b"1"):
        with pytest.raises(TypeError, match="bytes"):
            get.emit(1, 2, wrong)
    for times in ((None, 2), (1.5, 2), ("1", 2), (1, True)):
        with pytest.raises(TypeError, match=r"start|end"):
            get.emit(*times, 1)
    with pytest.raises(TypeError):
        get.emit(1, 2)
    with pytest.raises(TypeError):
        get.emit(1, 2, 3, 4)
    with pytest.raises(TypeError):
        get.span(1, 2)
    with pytest.raises(ValueError, match="key"), get.span() as span:
        span["key"] = "k"
    assert (store.stats().attempts, store.stats().published) == (1, 1)  # the last span, without the key


def test_a_span_has_no_ids_before_it_begins(store: ringbuf.Emitter) -> None:
    get = store.site("get")
    span = get.span()
    for name in ("trace_id", "span_id", "traceparent"):
        with pytest.raises(RuntimeError, match="entered"):
            getattr(span, name)
    with pytest.raises(RuntimeError, match="entered"):
        span.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="entered"):
        get.emit_under(span, 1, 2)
    assert store.stats().attempts == 0


def ids(record: np.void) -> tuple[str, str, str]:
    """Return trace, parent and span id of a record as hex digits."""
    trace_id, parent_span_id, span_id = (
        record[name].tobytes().hex() for name in ("trace_id", "parent_span_id", "span_id")
    )
    return trace_id, parent_span_id, span_id


def parent_of(record: np.void) -> tuple[str, str]:
    return ids(record)[:2]


def own_ids(span: Any) -> tuple[str, str]:
    return span.trace_id.hex(), span.span_id.hex()
