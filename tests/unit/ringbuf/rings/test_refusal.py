"""What does not fit is left out of the span, counted and told of once: nothing of it reaches the application."""

from __future__ import annotations

import logging
import math
import sys
import threading
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
from ringbuf import _site
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from ringbuf.log import wait_until_told
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEASE = LeaseId(7)
LAYOUT = ringbuf.SpanLayout(
    span_names=["get"],
    attributes=[
        ringbuf.Attribute("flag", "bool"),
        ringbuf.Attribute("small", "i8"),
        ringbuf.Attribute("large", "u64"),
        ringbuf.Attribute("ratio", "f64"),
        ringbuf.Attribute("tier", "label", labels=("ram", "disk")),
        ringbuf.Attribute("id", "hex", 16),
        ringbuf.Attribute("text", "str", 8),
        ringbuf.Attribute("part", "otlp", 8),
    ],
)
SOUND: dict[str, Any] = {
    "flag": True,
    "small": 1,
    "large": 2,
    "ratio": 0.5,
    "tier": "ram",
    "id": bytes(16),
    "text": "t",
}


class Raising:
    """A value whose conversion fails in its own way."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __index__(self) -> int:
        raise self.error

    def __float__(self) -> float:
        raise self.error

    def __repr__(self) -> str:
        raise self.error


UNFIT: list[tuple[str, Any]] = [
    ("small", 128),
    ("small", -129),
    ("large", -1),
    ("large", 2**64),
    ("large", np.int64(-1)),
    ("large", 10**5000),
    ("ratio", 10**400),
    ("ratio", Decimal("sNaN")),
    ("tier", "tape"),
    ("tier", 2),
    ("tier", -1),
    ("id", b"short"),
    ("id", bytes(17)),
    ("part", bytes(9)),
    ("small", Raising(RuntimeError("own"))),
    ("small", Raising(ZeroDivisionError())),
    ("ratio", Raising(MemoryError())),
]
WRONG_TYPE: list[tuple[str, Any]] = [
    ("flag", 1),
    ("flag", "yes"),
    ("small", "1"),
    ("small", True),
    ("small", math.nan),
    ("large", 1.0),
    ("ratio", "0.5"),
    ("ratio", False),
    ("ratio", np.bool_(True)),
    ("tier", b"ram"),
    ("tier", 1.5),
    ("id", "0" * 32),
    ("text", b"text"),
    ("text", 5),
    ("part", "text"),
    ("large", Raising(TypeError())),
]


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    made = ringbuf.Emitter("service", ring_dir=ring_dir, layout=LAYOUT, capacity=256)
    yield made
    records_in(ring_dir)
    made.close()


@pytest.fixture
def get(emitter: ringbuf.Emitter) -> Any:
    return emitter.site("get", varying=list(SOUND))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged so far on the logger `ringbuf`."""

    def messages() -> list[str]:
        wait_until_told(60)
        return [record.getMessage() for record in caplog.records if record.name == "ringbuf"]

    return messages


def written(ring_dir: Path) -> dict[str, Any]:
    (record,) = records_in(ring_dir)
    return dict(LAYOUT.values(record))


@pytest.mark.parametrize(("key", "value"), UNFIT, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("door", ["emit", "named", "under", "block", "set"])
def test_a_value_that_does_not_fit_is_left_out(
    emitter: ringbuf.Emitter, ring_dir: Path, told: Callable[[], list[str]], door: str, key: str, value: Any
) -> None:
    get: Any = emitter.site("get", varying=list(dict.fromkeys([*SOUND, key])))
    values = {**SOUND, key: value}
    if door == "emit":
        assert get.emit(1, 2, *values.values())
    elif door == "named":
        assert get.emit(start_unix_nano=1, end_unix_nano=2, **values)
    elif door == "under":
        assert get.emit_under(None, 1, 2, *values.values())
    elif door == "block":
        with get.span(*values.values()):
            pass
    else:
        with get.span() as span:
            for name, one in values.items():
                span[name] = one
    assert set(written(ring_dir)) == set(SOUND) - {key}
    stats = emitter.stats()
    assert (stats.published, stats.attempts, stats.invalid_values, stats.truncated) == (1, 1, 1, 0)
    (message,) = told()
    assert key in message
    assert "get" in message


@pytest.mark.parametrize(("key", "value"), WRONG_TYPE, ids=lambda value: type(value).__name__)
def test_a_value_of_another_type_raises_from_emit_and_is_left_out_of_a_block(
    emitter: ringbuf.Emitter, ring_dir: Path, told: Callable[[], list[str]], key: str, value: Any
) -> None:
    get = emitter.site("get", varying=list(dict.fromkeys([*SOUND, key])))
    values = {**SOUND, key: value}
    with pytest.raises(TypeError):
        get.emit(1, 2, *values.values())
    assert (emitter.stats().attempts, emitter.stats().invalid_values) == (0, 0)
    with get.span(*values.values()):
        pass
    assert set(written(ring_dir)) == set(SOUND) - {key}
    assert (emitter.stats().published, emitter.stats().invalid_values) == (1, 1)
    assert len(told()) == 1


@pytest.mark.parametrize(("key", "value"), [*UNFIT, *WRONG_TYPE], ids=lambda value: type(value).__name__)
def test_the_exception_of_the_application_passes_a_block_with_a_wrong_value(
    emitter: ringbuf.Emitter, ring_dir: Path, key: str, value: Any
) -> None:
    get = emitter.site("get", varying=[key])
    own = ConnectionError("the database is away")

    def work() -> None:
        with get.span() as span:
            span[key] = value
            raise own

    with pytest.raises(ConnectionError) as caught:
        work()
    assert caught.value is own
    assert caught.value.__context__ is None
    (record,) = records_in(ring_dir)
    assert record["status"] == 2


def test_the_result_of_a_block_with_a_wrong_value_is_not_lost(get: Any) -> None:
    def work() -> str:
        with get.span() as span:
            span["small"] = 1000
            return "result"

    assert work() == "result"


@pytest.mark.parametrize("strict", ["1", "true"])
def test_strict_raises_for_all(
    emitter: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, strict: str
) -> None:
    get = emitter.site("get", varying=["small", "tier"])
    monkeypatch.setenv("RINGBUF_STRICT", strict)
    with pytest.raises(ValueError, match="small"):
        get.emit(1, 2, 1000, "ram")
    with pytest.raises(ValueError, match="tier"):
        get.emit(1, 2, 1, "tape")
    with pytest.raises(ValueError, match="start"):
        get.emit(-1, 2, 1, "ram")
    assert emitter.stats().attempts == 0
    with pytest.raises(TypeError, match="small"), get.span() as span:
        span["small"] = "1"
    (record,) = records_in(ring_dir)  # written all the same
    assert record["end_unix_nano"] > 0


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (-1, 5, (5, 5)),
        (2**64, 5, (5, 5)),
        (5, 2**64, (5, "now")),
        (5, -1, (5, "now")),
        (-1, -1, ("now", "now")),
        (-1, None, ("now", "now")),
        (7, 5, (7, 5)),  # delivered as it is
    ],
)
def test_times_that_do_not_fit_become_such_that_do(
    emitter: ringbuf.Emitter, ring_dir: Path, start: Any, end: Any, expected: tuple[Any, Any]
) -> None:
    get = emitter.site("get")
    before = ringbuf.unix_nano()
    assert get.emit(start, end)
    after = ringbuf.unix_nano()
    (record,) = records_in(ring_dir)
    for found, wanted in zip((record["start_unix_nano"], record["end_unix_nano"]), expected, strict=True):
        assert before <= int(found) <= after if wanted == "now" else int(found) == wanted
    wrong = sum(not (value is None or 0 <= value < 2**64) for value in (start, end))
    assert emitter.stats().invalid_values == wrong


def test_a_site_tells_once_and_counts_on(
    emitter: ringbuf.Emitter, ring_dir: Path, told: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        get = emitter.site("get", varying=["small"])
        for value in range(100, 200):
            assert get.emit(1, 2, value)
    assert len(told()) == 2
    assert emitter.stats().invalid_values == 2 * 72
    assert len(records_in(ring_dir)) == 200


def test_a_wrong_outcome_leaves_the_one_that_was(ring_dir: Path) -> None:
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4) as emitter:
        read = site(OpType.FBMU_READ, emitter=emitter)
        wrong: Any = "error"
        with pytest.raises(TypeError, match="outcome"):
            read.emit(LEASE, 1, 2, 3, wrong)
        with read.span(LEASE) as span:
            span.outcome = wrong
            span.nbytes = -1
        (record,) = records_in(ring_dir)
        values = emitter.layout.values(record)
        assert values["grafos.outcome"] == str(Outcome.OK)
        assert "grafos.bytes" not in values
        assert emitter.stats().invalid_values == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_in_a_conversion_passes_and_the_span_is_written(
    emitter: ringbuf.Emitter, ring_dir: Path, interrupt: BaseException
) -> None:
    get = emitter.site("get", varying=["small", "tier"])
    with pytest.raises(type(interrupt)) as caught, get.span(Raising(interrupt), "disk"):
        pass
    assert caught.value is interrupt
    assert written(ring_dir) == {"tier": "disk"}
    assert ringbuf.current_traceparent() is None
    with pytest.raises(type(interrupt)):
        get.emit(1, 2, Raising(interrupt), "disk")
    assert emitter.stats().attempts == 1


class Failing(ringbuf.Emitter):
    """An emitter whose own parts fail."""

    def recover(self) -> bool:
        raise RuntimeError("recover")

    def attend(self) -> None:
        raise RuntimeError("attend")


def test_a_fault_of_our_own_does_not_pass_either(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    emitter = Failing.unopened()
    read = site(OpType.FBMU_READ, emitter=emitter)
    assert not read.emit(LEASE, 1, 2)
    with read.span(LEASE) as span:
        assert len(span.traceparent) == 55
    assert emitter.stats().local == 2
    assert ["recover" in message for message in told()] == [True]
    emitter.close()


def test_a_fault_of_another_tracing_library_does_not_pass(
    get: Any, ring_dir: Path, told: Callable[[], list[str]]
) -> None:
    def fail(*_arguments: object) -> Any:
        raise LookupError("another library")

    _site.set_outer_context(fail, fail, fail)
    try:
        with get.span() as outer, get.span() as inner:
            assert inner.trace_id == outer.trace_id
            assert get.emit_under(outer, 1, 2, *SOUND.values())
        assert ringbuf.current_traceparent() is None
        assert get.emit(1, 2, *SOUND.values())
    finally:
        _site.set_outer_context(None, None, None)
    assert len(records_in(ring_dir)) == 4
    assert ["another library" in message for message in told()] == [True]


def test_at_the_end_of_the_stack_a_span_goes_on_without_a_part(get: Any, ring_dir: Path) -> None:
    def dive() -> int:
        with get.span(Raising(RecursionError())):
            return 1 + dive()

    limit = sys.getrecursionlimit()
    depth = sum(1 for _ in traceback.walk_stack(None))
    sys.setrecursionlimit(depth + 150)  # what is told at each depth has the whole stack in it
    try:
        with pytest.raises(RecursionError):
            dive()
    finally:
        sys.setrecursionlimit(limit)
    assert ringbuf.current_traceparent() is None
    assert records_in(ring_dir).size > 0


def test_what_is_told_is_told_by_another_thread(get: Any) -> None:
    """A handler that is itself traced, whose lock this thread holds, neither waits for itself nor comes back."""
    handling: list[str] = []
    lock = threading.Lock()

    class Traced(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with lock:
                handling.append(threading.current_thread().name)
                assert get.emit(1, 2, *{**SOUND, "small": 1000}.values())
                del record

    logger, handler = logging.getLogger("ringbuf"), Traced()
    logger.addHandler(handler)
    try:
        with lock:  # as a signal handler that interrupts the logging of its own thread
            assert get.emit(1, 2, *{**SOUND, "small": 1000}.values())
        wait_until_told(60)
    finally:
        logger.removeHandler(handler)
    assert handling == ["ringbuf-warning"]
