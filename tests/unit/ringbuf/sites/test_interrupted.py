"""What comes between while a ring is made where a span is emitted: nothing of it costs a span that is not counted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf.log import wait_until_told
from ringbuf.ring.settings import RingSettings
from tests.records import fresh_records

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = ringbuf.SpanLayout(span_names=["get"], attributes=[])


class Interrupted(ringbuf.Emitter):
    """An emitter whose user presses Ctrl-C, but at the first time."""

    calls = 0

    def recover(self) -> bool:
        """Say that there is no ring, or that somebody wants to end."""
        type(self).calls += 1
        if self.calls > 1:
            raise KeyboardInterrupt
        return False


def test_an_interrupt_passes_and_its_span_is_counted(ring_dir: Path) -> None:
    emitter = Interrupted.unopened(LAYOUT, RingSettings(ring_dir=ring_dir))
    get = emitter.site("get")
    with suppress(KeyboardInterrupt):
        with get.span():
            pass
        pytest.fail("no interrupt passed")
    assert (Interrupted.calls, emitter.stats().local) == (2, 1)
    with pytest.raises(KeyboardInterrupt):
        get.emit(1, 2)
    assert emitter.stats().local == 2
    emitter.close()


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_costs_no_whole_record_that_is_not_counted(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(Interrupted, "calls", 1)
    emitter = Interrupted.unopened(LAYOUT, RingSettings(ring_dir=ring_dir))
    records = fresh_records(emitter, count)
    with pytest.raises(KeyboardInterrupt):
        emitter.emit(records[0]) if count == 1 else emitter.emit_batch(records)
    assert emitter.stats().local == count
    emitter.close()


class Makers(dict[int, tuple[int, object]]):
    """Of an emitter whose user presses Ctrl-C as soon as it is known who makes the ring."""

    def setdefault(self, *maker: Any) -> Any:
        super().setdefault(*maker)
        raise KeyboardInterrupt


def test_an_interrupt_of_who_makes_a_ring_leaves_that_to_the_next(ring_dir: Path) -> None:
    emitter = ringbuf.Emitter.unopened(LAYOUT, RingSettings(ring_dir=ring_dir))
    emitter._makers = Makers()
    with pytest.raises(KeyboardInterrupt):
        emitter.recover()
    emitter._makers = dict(emitter._makers)
    assert emitter.site("get").emit(1, 2)
    emitter.close()


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("anything"), RecursionError()])
def test_no_error_of_making_a_ring_passes_into_the_application(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("ringbuf.ring.process_ring.open_ring", fail)
    emitter = ringbuf.Emitter.unopened(settings=RingSettings(ring_dir=ring_dir))
    records = fresh_records(emitter, 3)
    assert not emitter.emit(records[0])
    assert emitter.emit_batch(records[1:]) == 0
    assert emitter.stats().local == 3
    wait_until_told(60)
    assert "no ring in process" in caplog.text
    emitter.close()
