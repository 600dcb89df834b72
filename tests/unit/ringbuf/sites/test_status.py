"""Kind and status of a site's spans, and what an exception that passes makes of them."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

import ringbuf
from ringbuf import SpanKind, Status
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYOUT = ringbuf.SpanLayout(
    span_names=["checkout"],
    attributes=[
        ringbuf.Attribute("shop.outcome", "label", labels=("paid", "declined"), error_labels=["declined"]),
        ringbuf.Attribute("shop.check", "label", labels=("good", "bad"), error_labels=("bad",)),
        ringbuf.Attribute("shop.items", "u8"),
    ],
    record_errors=True,
)


class CheckoutError(Exception):
    """An error of the application's own."""

    __module__ = "shop"


class SilentError(Exception):
    """One that cannot say what it is."""

    __module__ = "shop"

    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture
def shop(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=16) as emitter:
        yield emitter
        records_in(ring_dir)


def statuses(ring_dir: Path) -> list[int]:
    return [int(record["status"]) for record in records_in(ring_dir)]


@pytest.mark.parametrize("kind", [*SpanKind, *trace.SpanKind], ids=str)
def test_a_site_has_the_kind_that_it_is_given(shop: ringbuf.Emitter, ring_dir: Path, kind: Any) -> None:
    """OpenTelemetry's API numbers them from 0, OTLP from 1: they go by name."""
    site = shop.site("checkout", kind=kind)
    assert site.emit(1, 2)
    with site.span():
        pass
    assert [record["kind"] for record in records_in(ring_dir)] == 2 * [SpanKind[kind.name]]


@pytest.mark.parametrize(
    ("kind", "error"), [(0, ValueError), (6, ValueError), ("server", TypeError), (True, TypeError)]
)
def test_a_kind_that_there_is_not_is_refused_by_name(shop: ringbuf.Emitter, kind: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="kind"):
        shop.site("checkout", kind=kind)


@pytest.mark.parametrize("status", [*Status, *trace.StatusCode, 0, 1, 2], ids=str)
def test_emit_takes_a_status_by_name(shop: ringbuf.Emitter, ring_dir: Path, status: Any) -> None:
    site: Any = shop.site("checkout", varying=["shop.items"])
    assert site.emit(1, 2, 7, status=status)
    assert site.emit_under(None, 1, status=status, **{"shop.items": 7})
    assert [(record["status"], record["shop.items"]) for record in records_in(ring_dir)] == 2 * [
        (getattr(status, "value", status), 7)
    ]


def test_a_status_takes_no_place_among_the_values(shop: ringbuf.Emitter) -> None:
    site = shop.site("checkout", varying=["shop.items"])
    with pytest.raises(TypeError, match="takes 3 arguments"):
        site.emit(1, 2, 7, Status.ERROR)
    with pytest.raises(TypeError, match="takes 1 value,"):
        site.span(7, Status.ERROR)


def test_a_status_of_another_type_raises_and_one_that_there_is_not_is_left_out(
    shop: ringbuf.Emitter, ring_dir: Path
) -> None:
    site: Any = shop.site("checkout")
    with pytest.raises(TypeError, match="status"):
        site.emit(1, 2, status="error")
    assert site.emit(1, 2, status=3)
    assert (statuses(ring_dir), shop.stats().invalid_values) == ([0], 1)


def test_a_label_makes_the_status_an_error_where_it_says_so(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    site = shop.site("checkout", varying=["shop.outcome", "shop.check"])
    for values in (("paid", "good"), ("declined", "good"), ("paid", "bad"), (1, 0), (None, None)):
        assert site.emit(1, 2, *values)
    with site.span("paid") as span:
        span["shop.outcome"] = "declined"
    assert statuses(ring_dir) == [0, 2, 2, 2, 0, 2]


def test_a_constant_label_does_so_too(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    assert shop.site("checkout", constants={"shop.outcome": "declined"}, varying=["shop.check"]).emit(1, 2, "good")
    assert statuses(ring_dir) == [2]


def test_a_status_that_is_given_beats_the_labels(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    site = shop.site("checkout", varying=["shop.outcome"])
    named: Any = {"status": Status.OK, "shop.outcome": "declined"}
    assert site.emit(1, 2, **named)
    with site.span("declined") as span:
        span.status = Status.UNSET
    assert statuses(ring_dir) == [1, 0]


def test_a_span_says_what_its_status_is(shop: ringbuf.Emitter) -> None:
    site = shop.site("checkout", varying=["shop.outcome"])
    with site.span() as span:
        assert span.status is Status.UNSET
        span.status = trace.StatusCode.OK  # type: ignore[assignment] # OpenTelemetry's, at run time
        assert span.status is Status.OK
    with site.span("declined") as declined:
        pass
    with pytest.raises(CheckoutError), site.span() as failed:
        raise CheckoutError
    assert (span.status, declined.status, failed.status) == (Status.OK, Status.ERROR, Status.ERROR)


def test_set_status_is_opentelemetrys(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    """Source: OpenTelemetry specification, "Set Status": OK is final, UNSET is ignored."""
    site = shop.site("checkout")
    with site.span() as span:
        span.set_status(Status.ERROR, "no stock")
        span.set_status(Status.UNSET)
    with site.span() as span:
        span.set_status(trace.StatusCode.OK)  # type: ignore[arg-type] # OpenTelemetry's, at run time
        span.set_status(Status.ERROR, "too late")
    with site.span() as span:
        span.status = trace.StatusCode.OK  # type: ignore[assignment] # the same
        span.set_status(Status.ERROR, "too late")
    values = [(record["status"], LAYOUT.values(record)) for record in records_in(ring_dir)]
    assert values == [(2, {"error.message": "no stock"}), (1, {}), (1, {})]


NO_STATUS: list[Any] = [3, -1, "ERROR", 1.0, object(), trace.SpanKind.SERVER]


@pytest.mark.parametrize("wrong", NO_STATUS, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("by", ["set_status", "status", "item"])
def test_what_is_no_status_is_left_out_and_counted_and_harms_nobody(
    shop: ringbuf.Emitter, ring_dir: Path, wrong: Any, by: str
) -> None:
    with shop.site("checkout").span() as span:
        if by == "set_status":
            span.set_status(wrong, "no stock")
        elif by == "status":
            span.status = wrong
        else:
            span["status"] = wrong
        assert span.status is Status.UNSET
    assert span.status is Status.UNSET
    assert statuses(ring_dir) == [0]
    assert shop.stats().invalid_values == 1


def test_what_is_no_status_raises_where_a_test_is_strict(
    shop: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_STRICT", "1")
    with shop.site("checkout").span() as span, pytest.raises(ValueError, match="status: 3 is no Status"):
        span.set_status(3)  # type: ignore[arg-type] # as a user might


def test_a_word_is_no_kind_and_the_message_says_what_is(shop: ringbuf.Emitter) -> None:
    with pytest.raises(TypeError, match=r"kind: 'server' is none of SpanKind.INTERNAL, SpanKind.SERVER, "):
        shop.site("checkout", kind="server")  # type: ignore[arg-type] # as a user might


def test_a_description_without_a_place_is_counted(ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["checkout"], attributes=[])
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=layout, capacity=16) as shop:
        with shop.site("checkout").span() as span:
            span.set_status(Status.ERROR, "no stock")
        assert (statuses(ring_dir), shop.stats().invalid_values) == ([2], 1)


def test_an_exception_gives_its_type_and_what_it_says(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    site = shop.site("checkout", varying=["shop.items"])
    for error in (KeyError("k"), CheckoutError("é" * 60), SilentError(), CheckoutError()):
        with pytest.raises(type(error)), site.span(3):
            raise error
    found = [(record["status"], LAYOUT.values(record)) for record in records_in(ring_dir)]
    assert found == [
        (2, {"shop.items": 3, "error.type": "KeyError", "error.message": "'k'"}),
        (2, {"shop.items": 3, "error.type": "shop.CheckoutError", "error.message": "é" * 38}),
        (2, {"shop.items": 3, "error.type": "shop.SilentError"}),
        (2, {"shop.items": 3, "error.type": "shop.CheckoutError"}),
    ]
    assert shop.stats().truncated == 1


def test_what_a_block_says_of_its_failure_stays(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    site = shop.site("checkout", varying=["error.message"])
    with suppress(CheckoutError), site.span() as span:
        span["error.type"] = "declined"
        span["error.message"] = "by the bank"
        raise CheckoutError("no")
    with suppress(CheckoutError), site.span() as span:
        span.status = Status.OK  # final, as OpenTelemetry has it
        raise CheckoutError("no")
    with pytest.raises(GeneratorExit), site.span():
        raise GeneratorExit
    assert [(record["status"], LAYOUT.values(record)) for record in records_in(ring_dir)] == [
        (2, {"error.type": "declined", "error.message": "by the bank"}),
        (1, {}),
        (0, {}),
    ]


def test_an_exception_says_what_it_is_also_where_the_block_has_said_that_it_failed(
    shop: ringbuf.Emitter, ring_dir: Path
) -> None:
    """A handler that sets ERROR and raises again is how most programs do it; a label may have said so before."""
    site = shop.site("checkout", varying=["shop.outcome"])
    with suppress(KeyError), site.span() as span:
        span.set_status(Status.ERROR, "no stock")
        raise KeyError("k")
    with suppress(KeyError), site.span("declined"):
        raise KeyError("k")
    assert [(record["status"], LAYOUT.values(record)) for record in records_in(ring_dir)] == [
        (2, {"error.type": "KeyError", "error.message": "no stock"}),
        (2, {"shop.outcome": "declined", "error.type": "KeyError", "error.message": "'k'"}),
    ]


def test_what_cannot_be_recorded_of_an_exception_is_counted(
    shop: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recording(span: Any, _exception: object, _end: int) -> tuple[()]:
        span.leave_out("event", ValueError("no room"))
        return ()

    monkeypatch.setattr("ringbuf.sites.failure.Failure.__call__", lambda _self, *given: recording(*given))
    with suppress(KeyError), shop.site("checkout").span():
        raise KeyError("k")
    assert (statuses(ring_dir), shop.stats().invalid_values) == ([2], 1)


def test_an_error_type_that_is_a_label_is_other_where_it_is_none_of_them(ring_dir: Path) -> None:
    kinds = ringbuf.Attribute("error.type", "label", labels=("KeyError", "_OTHER"))
    layout = ringbuf.SpanLayout(span_names=["checkout"], attributes=[kinds])
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=layout, capacity=16) as shop:
        for error in (KeyError(), CheckoutError()):
            with pytest.raises(type(error)), shop.site("checkout").span():
                raise error
        assert [layout.values(record) for record in records_in(ring_dir)] == [
            {"error.type": "KeyError"},
            {"error.type": "_OTHER"},
        ]
        assert shop.stats().invalid_values == 0


def test_error_labels_are_part_of_the_layout() -> None:
    """A process that is spawned gets the layout as JSON, and must give the same status."""
    again = ringbuf.SpanLayout.from_json(LAYOUT.to_json())
    assert again.attributes == LAYOUT.attributes
    assert pickle.loads(pickle.dumps(LAYOUT)).attributes[0].error_labels == ("declined",)  # noqa: S301 - our own
    plain = ringbuf.SpanLayout(span_names=["a"], attributes=[ringbuf.Attribute("k", "label", labels=("x",))])
    assert "error_labels" not in json.loads(plain.to_json())["attributes"][0]


@pytest.mark.parametrize(
    ("attribute", "error"),
    [
        ({"type": "label", "labels": ("a",), "error_labels": ("b",)}, ValueError),
        ({"type": "label", "labels": ("a",), "error_labels": ("a", "a")}, ValueError),
        ({"type": "label", "labels": ("a",), "error_labels": "a"}, TypeError),
        ({"type": "u8", "error_labels": ("a",)}, ValueError),
    ],
)
def test_error_labels_that_are_no_labels_are_refused_by_name(attribute: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="error_labels"):
        ringbuf.Attribute("k", **attribute)


def test_a_site_that_is_unpickled_has_its_kind(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    site = pickle.loads(pickle.dumps(shop.site("checkout", kind=SpanKind.CLIENT)))  # noqa: S301 - our own
    assert site.emit(1, 2)
    assert records_in(ring_dir)[0]["kind"] == SpanKind.CLIENT


def test_record_errors_leaves_attributes_that_are_there() -> None:
    own = ringbuf.Attribute("error.type", "str", 16)
    layout = ringbuf.SpanLayout(span_names=["a"], attributes=[own], record_errors=True)
    assert [(one.key, one.size) for one in layout.attributes] == [("error.type", 16), ("error.message", 76)]
