"""`__enter__` and `__exit__` of a span, which Python before 3.14 binds for each `with`, are still methods.

And the memory of a span that is gone, which the next one has, keeps nothing of it.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf import _site
from ringbuf.sites.span import Span
from ringbuf.status import Status
from ringbuf.testing import InMemoryEmitter
from tests.python import command

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYOUT = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])


@pytest.fixture
def emitter() -> Iterator[InMemoryEmitter]:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        yield emitter


@pytest.fixture
def span(emitter: InMemoryEmitter) -> Any:
    return emitter.site("get", varying=["bytes"]).span()


class Referrer:
    """Anything that can be told to be gone."""

    referred: object


def plain(span: Any, name: str) -> Any:
    """Return the method as CPython binds it."""
    return getattr(_site.Span, name).__get__(span)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a `with` statement binds no methods there")
def test_a_with_statement_binds_none_of_cpythons_methods(span: Any) -> None:
    assert type(span.__enter__) is not type(plain(span, "__enter__"))


@pytest.mark.parametrize("name", ["__enter__", "__exit__"])
def test_it_is_what_cpythons_method_is(span: Any, name: str) -> None:
    method, usual = getattr(span, name), plain(span, name)
    assert repr(method) == repr(usual)
    assert (method.__name__, method.__self__, method.__doc__) == (usual.__name__, usual.__self__, usual.__doc__)
    assert callable(method)
    assert method == getattr(span, name)
    assert hash(method) == hash(getattr(span, name))
    assert method != getattr(span, "__exit__" if name == "__enter__" else "__enter__")
    assert method != getattr(span.site.span(), name)
    assert getattr(type(span), name) == getattr(_site.Span, name)
    with pytest.raises(AttributeError):
        _ = method.nothing


@pytest.mark.parametrize(
    ("name", "arguments", "names"),
    [
        ("__enter__", (1,), {}),
        ("__enter__", (), {"a": 1}),
        ("__exit__", (None, None, None), {"kind": 1}),
        ("__exit__", (), {"a": 1, "b": 2}),
    ],
)
def test_wrong_arguments_are_refused_in_the_same_words(
    span: Any, name: str, arguments: tuple[object, ...], names: dict[str, object]
) -> None:
    with pytest.raises(TypeError) as usual:
        plain(span, name)(*arguments, **names)
    with pytest.raises(TypeError) as ours:
        getattr(span, name)(*arguments, **names)
    assert str(ours.value) == str(usual.value)


def test_what_is_no_span_has_no_such_method() -> None:
    for name in ("__enter__", "__exit__"):
        descriptor = next(kind.__dict__[name] for kind in Span.__mro__ if name in kind.__dict__)
        with pytest.raises(TypeError):
            descriptor.__get__(object())


def test_a_block_may_be_entered_and_left_by_hand(emitter: InMemoryEmitter, span: Any) -> None:
    enter, leave = span.__enter__, span.__exit__
    assert enter() is span
    with contextlib.suppress(RuntimeError):
        enter()
    leave(ValueError, ValueError("no"), None)
    with pytest.raises(RuntimeError, match="was left already"):
        leave(None, None, None)
    with contextlib.ExitStack() as stack:
        inner = stack.enter_context(span.site.span())
        stack.push(span.site.span().__enter__().__exit__)
        inner["bytes"] = 7
    first, _second, third = emitter.finished_spans()
    assert first["status"] == Status.ERROR
    assert third["attributes"] == {"bytes": 7}


def test_a_cycle_through_a_bound_method_is_collected(emitter: InMemoryEmitter) -> None:
    site = emitter.site("get", varying=["bytes"])
    referrer = Referrer()
    span = site.span()
    span["bytes"] = referrer  # type: ignore[assignment] # it lies there until the end
    referrer.referred = span.__exit__
    is_there = weakref.ref(referrer)
    del span, referrer
    gc.collect()
    assert is_there() is None


def test_the_next_span_has_nothing_of_the_last(emitter: InMemoryEmitter) -> None:
    site = emitter.site("get", varying=["bytes"])
    with contextlib.suppress(ValueError), site.span(7) as span:
        span.status = Status.ERROR
        address = id(span)
        raise ValueError
    del span
    again = site.span()
    assert id(again) == address  # the memory is the same, or this shows nothing
    assert again["bytes"] is None
    assert again.status == Status.UNSET
    with pytest.raises(RuntimeError, match="when its block is entered"):
        _ = again.trace_id
    with again:
        pass
    first, second = emitter.finished_spans()
    assert first["attributes"] == {"bytes": 7}
    assert second["attributes"] == {}
    assert second["status"] == Status.UNSET
    assert first["span_id"] != second["span_id"]


def test_what_ends_with_a_span_may_open_others(emitter: InMemoryEmitter) -> None:
    """Memory is spare when nothing refers from it any more: what ran until then has taken none of it."""
    site = emitter.site("get", varying=["bytes"])
    opened: list[tuple[Any, Any]] = []

    class OpensSpans:
        def __del__(self) -> None:
            with site.span(2) as inner:
                inner.status = Status.OK
                opened.append((inner, inner.__exit__))

    span = site.span()
    span["bytes"] = OpensSpans()  # type: ignore[assignment] # it lies there until the end
    leave = span.__exit__
    del span
    del leave  # the method, with it the span, with it the value
    outer: Any = site.span(3)
    enter = outer.__enter__
    [(inner, leave)] = opened
    assert (leave.__self__ is inner, inner["bytes"], inner["status"]) == (True, 2, Status.OK)
    assert (enter.__self__ is outer, outer["bytes"]) == (True, 3)
    assert [one["attributes"] for one in emitter.finished_spans()] == [{"bytes": 2}]


def test_a_span_and_its_methods_leave_no_reference_behind(emitter: InMemoryEmitter) -> None:
    site = emitter.site("get", varying=["bytes"])

    def use() -> None:
        for _ in range(50):
            with site.span(1), site.span(2) as inner, site.span(3):
                inner["bytes"] = 4
            emitter.clear()

    use()
    gc.collect()  # what other tests have left, spans among it, goes now and not between the counts
    counts = [sys.getrefcount(one) for one in (site, type(site.span()), _site.Span)]
    use()
    assert [sys.getrefcount(one) for one in (site, type(site.span()), _site.Span)] == counts


def test_a_span_may_be_the_last_that_holds_its_site() -> None:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        span = emitter.site("get", varying=["bytes"]).span(7)
        with span:
            gc.collect()
        del span
        assert [one["attributes"] for one in emitter.finished_spans()] == [{"bytes": 7}]


LAST_OF_ITS_TYPE = """
import gc, ringbuf.testing, ringbuf.sites.site as sites

LAYOUT = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
with ringbuf.testing.InMemoryEmitter(layout=LAYOUT) as emitter:
    usual = sites.SiteSpan
    sites.SiteSpan = type("Own", (usual,), {"__slots__": ()})
    site = emitter.site("get", varying=["bytes"])
    sites.SiteSpan = usual
    for one in (site, emitter.site("get", varying=["bytes"])):
        with one.span(1):
            pass
    cycle = [site]
    cycle.append(cycle)
    del site, one, cycle
    gc.collect()
    print([kind for kind in usual.__subclasses__() if kind.__name__ == "Own"])
"""


def test_a_site_may_be_the_last_that_holds_the_type_of_its_spans() -> None:
    """The collector takes the class apart first; the site, which has memory of a span to return, goes last."""
    python, *rest = command(LAST_OF_ITS_TYPE)
    # With the debug allocator, memory that is returned from a wrong place ends the process.
    done = subprocess.run(
        [python, "-X", "dev", *rest], capture_output=True, text=True, errors="replace", check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
