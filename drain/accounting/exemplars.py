"""Exemplars: spans that stand for a bucket of their series, so that a metric leads to a trace.

Of each bucket it is the span that was delivered last; what is not delivered leads nowhere. Memory is bounded by the
series and their buckets.

Source: OpenTelemetry specification `metrics/sdk.md`, "Exemplar": the filters, and the reservoir that is aligned with
the buckets of a histogram.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

ExemplarFilter: TypeAlias = Literal["trace_based", "always_on", "always_off"]
"""Which spans may be exemplars: those with the sampled flag, all, none."""

SHOWN_NANO: Final = 120_000_000_000
"""For so long after its delivery /metrics shows one: two of Prometheus's default intervals, for all scrapers to see."""

_FLAGS: Final[dict[ExemplarFilter, int]] = {"trace_based": lib.RB_SPAN_SAMPLED, "always_on": 0}


class Exemplar(NamedTuple):
    """One of them.

    Attributes:
        bucket: which of the explicit ones.
        seconds: the span's duration.
        unix_nano: when it ended.
        seen_nano: CLOCK_MONOTONIC, when it was known to be delivered.
        trace_id: 16 bytes.
        span_id: 8 bytes.
    """

    bucket: int
    seconds: float
    unix_nano: int
    seen_nano: int
    trace_id: bytes
    span_id: bytes


class ExemplarReservoir:
    """Holds those of all series; its caller sees to threads.

    Args:
        buckets: of each series.
        of: which spans may be exemplars; not "always_off".
        clock_nano: CLOCK_MONOTONIC.
        clock_unix_nano: what the ends of spans are by.

    Attributes:
        buckets: as given.
        flags: what a span has that may be one.
    """

    def __init__(
        self,
        buckets: int,
        of: ExemplarFilter,
        clock_nano: Callable[[], int] = time.monotonic_ns,
        clock_unix_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        self.buckets = buckets
        self.flags = _FLAGS[of]
        self._clock_nano = clock_nano
        self._clock_unix_nano = clock_unix_nano
        self._held = np.zeros(buckets, _dtype())

    def empty(self, count: int) -> np.ndarray:
        """Return an array of so many exemplars, not filled."""
        return np.empty(count, self._held.dtype)

    def make_room(self, rows: int) -> None:
        """Let there be so many series."""
        held = np.zeros(rows * self.buckets, self._held.dtype)
        held[: len(self._held)] = self._held
        self._held = held

    def candidates(
        self, records: Any, slot_bytes: int, places: np.ndarray, nanos: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Return the last span of each bucket that any of these falls into, of those that may be exemplars.

        Args:
            records: spans; `uint8_t *`.
            slot_bytes: of each.
            places: of each, index into `rows` times the buckets, plus its bucket; int64.
            nanos: their durations; float64.
            rows: of series; int64.
        """
        taken = np.zeros(len(rows) * self.buckets, np.uint8)
        found = np.empty(min(len(taken), len(places)), self._held.dtype)
        count = lib.rb_pick_exemplars(
            *(records, len(places), slot_bytes, self.flags),
            *(ffi.from_buffer("int64_t[]", places), ffi.from_buffer("double[]", nanos)),
            *(len(taken), ffi.from_buffer("uint8_t[]", taken), _of(found)),
        )
        found = found[:count]
        at, bucket = np.divmod(found["place"], self.buckets)
        found["place"] = rows[at] * self.buckets + bucket
        return found

    def offer(self, candidates: np.ndarray) -> None:
        """Hold what was delivered, in the place of what ended before it."""
        # Receivers take a series' exemplars in the order of time only; but the drain's clock may have been set back.
        seen_nano = self._clock_nano()
        lib.rb_hold_exemplars(
            *(_of(candidates), len(candidates), self._clock_unix_nano(), seen_nano, seen_nano - SHOWN_NANO),
            *(_of(self._held), len(self._held)),
        )

    def held(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of what is held of series, for `exemplars`; shape (rows, buckets)."""
        of_series: np.ndarray = self._held.reshape(-1, self.buckets)[rows]
        return of_series


def exemplars(held: np.ndarray) -> list[list[Exemplar]]:
    """Return by series what `ExemplarReservoir.held` returned, by bucket."""
    by_series: list[list[Exemplar]] = [[] for _ in held]
    at, buckets = np.nonzero(held["seen_nano"])
    found = held[at, buckets]
    trace_ids, span_ids = found["trace_id"].tobytes(), found["span_id"].tobytes()
    numbers = (found[name].tolist() for name in ("nanos", "end_unix_nano", "seen_nano"))
    for number, (series, bucket, nanos, end, seen) in enumerate(
        zip(at.tolist(), buckets.tolist(), *numbers, strict=True)
    ):
        ids = trace_ids[16 * number : 16 * number + 16], span_ids[8 * number : 8 * number + 8]
        by_series[series].append(Exemplar(bucket, nanos / 1e9, end, seen, *ids))
    return by_series


def _of(exemplars: np.ndarray) -> Any:
    return ffi.from_buffer("rb_exemplar[]", exemplars.view(np.uint8))


def _dtype() -> np.dtype[np.void]:
    """Return `rb_exemplar` as numpy has it."""
    kinds: dict[str, Any] = {"place": "i8", "end_unix_nano": "u8", "seen_nano": "i8", "nanos": "f8"}
    kinds |= {"trace_id": ("u1", 16), "span_id": ("u1", 8)}
    fields = dict(ffi.typeof("rb_exemplar").fields)
    return np.dtype(
        {
            "names": list(kinds),
            "formats": list(kinds.values()),
            "offsets": [fields[name].offset for name in kinds],
            "itemsize": ffi.sizeof("rb_exemplar"),
        }
    )
