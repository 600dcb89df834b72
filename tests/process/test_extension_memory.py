"""What Python code can do to the extension's types: an exception at most, never a stray read, write or crash."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf._site import own_producer
from ringbuf.dataplane import DATAPLANE_LAYOUT
from ringbuf.sites.argument import END, START, STATUS, Argument
from ringbuf.sites.site import Site, SiteSpan
from tests.consumer import records_in
from tests.nursery import output_of

if TYPE_CHECKING:
    from pathlib import Path

SETUP = """
import ringbuf
from ringbuf import _site
from ringbuf.dataplane import DataplaneSpan, LeaseId, OpType, Outcome, ResourceKind, site
from ringbuf.dataplane_site import any_operation
from ringbuf.sites.span import Parent, Span
LEASE = LeaseId(7)
HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""
LAYOUT = ringbuf.SpanLayout(
    span_names=["get"],
    attributes=[
        ringbuf.Attribute("ratio", "f64"),
        ringbuf.Attribute("tier", "label", labels=("ram", "disk")),
        ringbuf.Attribute("id", "hex", 16),
    ],
)


def not_asked(_argument: int, value: Any) -> tuple[bytes, bool]:
    raise AssertionError(value)


def refused(_argument: int, value: Any) -> tuple[bytes, bool]:
    raise ValueError(value)


RATIO: Any
TIER: Any
ID: Any
RATIO, TIER, ID = (Argument.of_field(field) for field in LAYOUT.fields)


def test_what_is_no_span_has_no_values(ring_dir: Path) -> None:
    output_of(
        SETUP
        + """
with ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4) as emitter:
    read = site(OpType.FBMU_READ, emitter=emitter)
    others = [(1, 2, 3), b"bytes of another object", [1, 2], {}, 7, 2**200, "text", 1.5, None, object(), LEASE, read,
              Parent(bytes(16), bytes(8), 1), DataplaneSpan, memoryview(b"x")]
    for value in (DataplaneSpan.__dict__["nbytes"], DataplaneSpan.__dict__["outcome"], _site.SpanValue(0, None)):
        for other in others:
            for call in (lambda: value.__get__(other), lambda: value.__set__(other, 1)):
                if other is None:  # __get__: a descriptor is looked up on its class
                    continue
                try:
                    call()
                except TypeError:
                    continue
                raise AssertionError(other)
        for call in (lambda: value.__delete__(other), lambda: value.__delete__(read.span(LEASE))):
            try:
                call()
            except (AttributeError, TypeError):
                continue
            raise AssertionError("deleted")
""",
        ring_dir,
    )


def test_a_value_that_the_spans_of_a_site_do_not_have_is_an_attribute_error(ring_dir: Path) -> None:
    output_of(
        SETUP
        + """
from ringbuf.sites.site import Site, SiteSpan
class Far(SiteSpan):
    __slots__ = ()
    far = _site.SpanValue(2**62, "unset")
    next = _site.SpanValue(0, "unset")
layout = ringbuf.SpanLayout(span_names=["get"], attributes=[])
with ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4, layout=layout) as emitter:
    made = Site.bind(emitter, "get", bytes(64), (), None, print, Far, (print, ())).span()
    for name in ("far", "next"):
        for call in (lambda: getattr(made, name), lambda: setattr(made, name, 1)):
            try:
                call()
            except AttributeError:
                continue
            raise AssertionError(name)
for index in (-1, -2**62):
    try:
        _site.SpanValue(index, None)
    except ValueError:
        continue
    raise AssertionError(index)
""",
        ring_dir,
    )


# What makes a ring, and what says under which span a new one begins, is Python: either may have the span in its hands.
REENTERED = {
    "ring": """
class Emitter(ringbuf.Emitter):
    def recover(self):
        again()
        return super().recover()
emitter = Emitter.unopened()
""",
    "context": """
emitter = ringbuf.Emitter("service", capacity=4)
_site.set_outer_context(lambda: again(), lambda span: again(), lambda token: again())
""",
}


@pytest.mark.parametrize("header", ["HEADER", "None"])
@pytest.mark.parametrize("where", REENTERED)
def test_a_span_that_is_entered_while_it_is_entered_keeps_its_parent(ring_dir: Path, where: str, header: str) -> None:
    output_of(
        SETUP
        + """
import gc, os
os.environ["RINGBUF_DIR"] = sys.argv[1]
refused, kept = [], []
def again():
    try:
        span.__enter__()
    except RuntimeError:
        refused.append(1)
    kept.append([Parent(bytes([0xAA]) * 16, bytes([0xBB]) * 8, 1) for _ in range(1000)])
"""
        + REENTERED[where]
        + f"""
span = site(OpType.FBMU_READ, emitter=emitter).span(LEASE, traceparent={header})
with span:
    if {header} is not None:
        assert span.traceparent[:36] == HEADER[:36], span.traceparent
    assert b"\\xaa" * 4 not in span.trace_id
assert refused
emitter.close()
""",
        ring_dir,
    )


def test_a_hundred_spans_in_each_other_fit_a_small_stack(ring_dir: Path) -> None:
    output_of(
        SETUP
        + """
import threading
layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], layout=layout, capacity=1024)
get = emitter.site("get", varying=["bytes"])
class Deep:
    def __init__(self, depth, emit): self.depth, self.emit = depth, emit
    def __index__(self):
        if self.depth:
            self.emit(Deep(self.depth - 1, self.emit))
        return self.depth
def emit(value): assert get.emit(1, 2, value)
def block(value):
    with get.span(value): pass
def run():
    emit(Deep(100, emit))
    block(Deep(100, block))
threading.stack_size(512 << 10)
thread = threading.Thread(target=run)
thread.start()
thread.join()
assert emitter.stats().published == 202, emitter.stats()
""",
        ring_dir,
    )


@pytest.mark.parametrize("kind", ["_site.Span", "DataplaneSpan"])
@pytest.mark.parametrize("held_by", ["values", "contexts"])
def test_a_long_chain_of_spans_is_freed(ring_dir: Path, kind: str, held_by: str) -> None:
    output_of(
        SETUP
        + """
import contextvars, gc
kind, held_by = sys.argv[2:]
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4)
read = site(OpType.FBMU_READ, emitter=emitter)
if kind == "_site.Span":
    read = any_operation(emitter)
arguments = (LEASE, ResourceKind.MEM, OpType.FBMU_READ, Outcome.OK) if kind == "_site.Span" else (LEASE,)
def values():
    last = None
    for _ in range(300_000):
        made = read.span(*arguments)
        made["nbytes"] = last
        last = made
def contexts():
    for _ in range(300_000):
        read.span(*arguments).__enter__()
gc.disable()
contextvars.copy_context().run(globals()[held_by])
gc.collect()
assert not any(isinstance(found, Span) for found in gc.get_objects())
""",
        ring_dir,
        kind,
        held_by,
    )


def test_a_type_of_another_extension_may_inherit_from_site(ring_dir: Path) -> None:
    """PyType_GetModuleState of such a type is the other extension's state: no place to look for ours."""
    output_of(
        SETUP
        + """
import _struct, ctypes
class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]
class Spec(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int),
                ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(Slot))]
Py_TPFLAGS_BASETYPE = 1 << 10
spec = Spec(b"other.Site", _site.Site.__basicsize__, 0, Py_TPFLAGS_BASETYPE, (Slot * 1)())
make = ctypes.pythonapi.PyType_FromModuleAndSpec
make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.POINTER(Spec), ctypes.py_object]
foreign = make(_struct, spec, _site.Site)
with ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=4) as emitter:
    class Own(foreign):
        pass
    made = Own(emitter.owner, bytes(128), (), None, print, print, print, print, Span, (print, ()))
    assert made.emit()
    with made.span():
        pass
""",
        ring_dir,
    )


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        (RATIO._replace(nbytes=1), "the eight bytes of a float would end outside"),
        (RATIO._replace(offset=LAYOUT.slot_bytes - 4), "ends outside the slot"),
        (RATIO._replace(offset=2**32 - 1), "lies outside the slot"),
        (RATIO._replace(labels={"a": 0}), "labels of another type"),
        (TIER._replace(nbytes=9), "more bytes than an index has"),
        (TIER._replace(labels=None), "no labels"),
        (TIER._replace(labels=("ram", "disk")), "labels that are no dict"),
        (TIER._replace(labels={"ram": object()}), "an index that is no int"),
        (TIER._replace(labels={1: 0}), "a label that is no str"),
        (TIER._replace(statuses=b"\0"), "fewer statuses than labels"),
        (TIER._replace(statuses=[0, 0]), "statuses that are no bytes"),
        (TIER._replace(names=b"\0"), "fewer names than labels"),
        (ID._replace(only=7), "a type that is none"),
        (ID._replace(only=int), "a type that has no bytes"),
        (Argument.of_name("name", ()), "no name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_argument_that_is_no_part_of_the_record_is_refused(ring_dir: Path, argument: Any, why: str) -> None:
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter,
        pytest.raises((TypeError, ValueError)),
    ):
        Site.bind(
            emitter, "get", bytes(LAYOUT.slot_bytes), (START, END, argument), None, not_asked, SiteSpan, (print, ())
        )


@pytest.mark.parametrize(
    "pairs",
    [None, 7, [], (7,), ((0,),), ((-1, None),), ((3, None),), ((2**70, None),), ((0, ...),), ((1, "tape"),)],
    ids=repr,
)
def test_what_an_exception_cannot_set_is_left_out_and_its_span_is_an_error(ring_dir: Path, pairs: Any) -> None:
    record, arguments = bytes(LAYOUT.slot_bytes), (START, END, RATIO, TIER, ID)
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter:
        made = Site.bind(emitter, "get", record, arguments, lambda *_: pairs, refused, SiteSpan, (print, ()))
        with pytest.raises(KeyError), made.span():
            raise KeyError
        (found,) = records_in(ring_dir)
        assert (found["status"], found["present"]) == (2, 0)


def test_what_is_given_by_name_alone_comes_last(ring_dir: Path) -> None:
    with (
        ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter,
        pytest.raises(ValueError, match="last"),
    ):
        Site.bind(
            emitter, "get", bytes(LAYOUT.slot_bytes), (STATUS, START, END), None, not_asked, SiteSpan, (print, ())
        )


def test_the_labels_of_a_site_are_its_own(ring_dir: Path) -> None:
    labels = {"ram": 0, "disk": 1}
    argument, record = TIER._replace(labels=labels), bytes(LAYOUT.slot_bytes)
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter:
        made: Any = Site.bind(emitter, "get", record, (argument,), None, not_asked, SiteSpan, (print, ()))
        labels.clear()
        assert made.emit("disk")


def test_a_site_of_smaller_records_than_the_ring_has_writes_none(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, layout=DATAPLANE_LAYOUT, capacity=4) as emitter:
        made: Any = Site.bind(emitter, "get", bytes(64), (), None, not_asked, SiteSpan, (print, ()))
        with pytest.raises(ValueError, match="record"):
            made.emit()
        assert emitter.stats().published == 0


@pytest.mark.parametrize("owner", [None, 7, object(), "ringbuf.producer"])
def test_a_site_takes_its_producer_from_who_owns_it(owner: Any) -> None:
    emitter: Any = SimpleNamespace(owner=owner, recover=print, attend=print)
    with pytest.raises((TypeError, ValueError)):
        Site.bind(emitter, "get", bytes(64), (), None, not_asked, SiteSpan, (print, ()))


def test_nothing_is_no_producer() -> None:
    with pytest.raises(ValueError, match="null"):
        own_producer(0)
