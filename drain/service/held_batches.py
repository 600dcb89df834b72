"""Held spans that are kept: out of the hold into batches, and settled there by what became of the batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.otlp.encoder import Encoded, Encoder
from drain.otlp.kept import Kept, KeptRow, KeptTable
from drain.sampling.hold.chunk import Fate
from drain.sampling.traces import Fates
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from drain.accounting.outcome import Outcome
    from drain.accounting.span_metrics import SpanCounter, SpanMetrics
    from drain.delivery.batch import Batch, Batcher
    from drain.exporters.protocol import Partitioner
    from drain.log import RepeatedTrouble
    from drain.otlp.request import Encoding
    from drain.sampling.hold.hold import Group, Hold
    from drain.sampling.hold.origins import Origin

_MOST_ENCODERS: Final = 1024
_ITSELF_AT: Final = lib.RB_FATE_ITSELF.bit_length() - 1
_WORTH_IT: Final = 1000  # spans
GATHERING_SECONDS: Final = 0.3
_MOST_SPANS: Final = 32768  # of a segment: each may have a row of its own


@dataclass(slots=True, eq=False)
class HeldSegment:
    """Held spans of one origin in a batch.

    Attributes:
        service: of the producer.
        places: u8, in the hold.
        spans: how many.
        invalid: none: what is held was found sound.
        sampled_out: none.
        outcome: what became of them; None until that is known.
        is_delivered: the backend has each of them, for sure.
        exemplars: of them, for the span metrics; None: none are wanted.
    """

    service: str
    places: np.ndarray
    spans: int
    invalid: int = 0
    sampled_out: int = 0
    outcome: Outcome | None = None
    is_delivered: bool = False
    exemplars: np.ndarray | None = None

    @property
    def is_pressing(self) -> bool:
        """No ring waits for them."""
        return False


AS_THEY_ARE: Final[Sequence[str]] = ()
"""In the place of the rules' names: the spans are what they would be without rules."""


class HeldBatches:
    """Encodes what is kept, and settles it.

    Args:
        hold: has the records.
        batcher: gets what is encoded.
        encoding: of its batches.
        batch_bytes: of a batch, before compression: what makes more is halved.
        partitioner: gives what sorts spans by destination now; None: nothing does.
        metrics: where the spans were counted, and their exemplars are shown; None: nowhere.
        clock: seconds, that of the batcher.
        trouble: a line for each kind.

    Attributes:
        not_delivered: spans that ended without a delivery: rejected, dead letters, and what cannot be encoded.
        on_their_way: spans that were added, and of which nobody knows yet what became.
    """

    def __init__(
        self,
        hold: Hold,
        batcher: Batcher,
        encoding: Encoding,
        batch_bytes: int,
        partitioner: Callable[[], Partitioner | None],
        *,
        metrics: SpanMetrics | None,
        clock: Callable[[], float],
        trouble: RepeatedTrouble,
    ) -> None:
        self._metrics = metrics
        self._hold = hold
        self._batcher = batcher
        self._is_json = encoding == "json"
        self._batch_bytes = batch_bytes
        self._partitioner = partitioner
        self._clock = clock
        self._trouble = trouble
        self._encoders: dict[tuple[bytes, int], Encoder] = {}
        self._counters: dict[bytes, SpanCounter] = {}
        self._kept: deque[tuple[Sequence[str], np.ndarray, Fates]] = deque()
        self._unsent = 0
        self._added_at = 0.0
        self.not_delivered = 0
        self.on_their_way = 0

    def add(self, places: np.ndarray, fates: Fates, names: Sequence[str]) -> None:
        """Take spans that are kept; they are sent by the next `send`.

        Args:
            places: of them.
            fates: of each.
            names: of the rules that decided, the same object as long as they are the same; or AS_THEY_ARE.
        """
        if len(places):
            if not self._kept:
                self._added_at = self._clock()
            self._kept.append((names, places, fates))
            self._unsent += len(places)
            self.on_their_way += len(places)

    def seconds_until_sent(self) -> float | None:
        """Return when to call `send` next at the latest; None: there is nothing to be sent, or no place for it."""
        if not self._kept or self._batcher.full:
            return None
        return max(0.0, self._added_at + GATHERING_SECONDS - self._clock())

    def send(self, *, at_once: bool = False) -> bool:
        """Put what was added into batches, as long as none is full; return whether any was.

        A few spans at a time would cost as much as many: they are gathered for a moment, unless it is to be `at_once`.
        """
        is_worth_it = at_once or self._unsent >= _WORTH_IT or self.seconds_until_sent() == 0
        were_any = False
        while is_worth_it and self._kept and not self._batcher.full:
            were_any = True
            names, places, fates = self._next()
            groups = self._hold.records(places)
            self.on_their_way -= len(places) - sum(len(group.places) for group in groups)  # else they are lost
            for destination, group in (pair for all_of_it in groups for pair in self._by_destination(all_of_it)):
                at = np.searchsorted(places, group.places)
                most = min(self._batcher.max_spans, _MOST_SPANS)
                for start in range(0, len(at), most):
                    some = slice(start, start + most)
                    self._send(destination, group, some, Fates(*(array[at[some]] for array in fates)), names)
        return were_any

    def _next(self) -> tuple[Sequence[str], np.ndarray, Fates]:
        """Return what was added first, by the same rules, about a batch of it, in the order of the places."""
        some, count, names = [], 0, self._kept[0][0]
        while self._kept and self._kept[0][0] is names and count < self._batcher.max_spans:
            some.append(self._kept.popleft()[1:])
            count += len(some[-1][0])
        most = max(self._batcher.max_spans, 1)
        places = np.concatenate([places for places, _ in some])
        fates = Fates(*(np.concatenate(arrays) for arrays in zip(*(fates for _, fates in some), strict=True)))
        if len(places) > most:
            self._kept.appendleft((names, places[most:], Fates(*(array[most:] for array in fates))))
        order = np.argsort(places[:most])
        self._unsent -= len(order)
        return names, places[order], Fates(*(array[order] for array in fates))

    def settle(self, batches: Iterable[Batch]) -> None:
        """Say in the hold what became of the held spans of batches."""
        for batch in batches:
            for segment in batch.segments:
                if isinstance(segment, HeldSegment) and segment.outcome is not None:
                    self._settle(segment.places, segment.outcome)
                    if self._metrics is not None and segment.is_delivered:
                        self._metrics.offer(segment.exemplars)

    def _settle(self, places: np.ndarray, outcome: Outcome) -> None:
        """Settle places; of a partial success nobody knows which were rejected: it is put down to the first."""
        self.not_delivered += outcome.rejected + outcome.dead_lettered
        self.on_their_way -= len(places)
        at = 0
        for fate, count in (
            (Fate.REJECTED, outcome.rejected),
            (Fate.DEAD_LETTERED, outcome.dead_lettered),
            (Fate.SPOOLED, outcome.spooled),
            (Fate.DELIVERED, outcome.delivered),
        ):
            if count:
                self._hold.settle(places[at : at + count], fate)
                at += count

    def _by_destination(self, group: Group) -> Iterator[tuple[str, Group]]:
        partitioner = self._partitioner()
        if partitioner is None:
            yield "", group
            return
        names = partitioner.names
        records = np.ascontiguousarray(group.records)
        try:
            destinations = partitioner.assign(records, group.origin.service)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the next drain would meet it again
            if len(records) > 1:
                middle = len(records) // 2
                for half in (slice(0, middle), slice(middle, None)):
                    part = group._replace(places=group.places[half], records=group.records[half])
                    yield from self._by_destination(part)
            else:
                self._refuse(group.places, group.origin.service, repr(error))
            return
        raw = records.view(np.uint8).reshape(len(records), -1)  # as bytes: numpy copies a record field by field
        for destination in sorted({*destinations.tolist()}):
            is_its = destinations == destination
            some = raw[is_its].view(records.dtype).reshape(-1)
            yield names[destination], group._replace(places=group.places[is_its], records=some)

    def _send(self, destination: str, group: Group, some: slice, fates: Fates, names: Sequence[str]) -> None:
        kept = None if names is AS_THEY_ARE else _rows(fates, names)
        places = group.places[some]
        for part, encoded in self._encoded(group.origin, group.records[some], kept):
            if encoded.spans == len(places[part]):
                segment = HeldSegment(group.origin.service, places[part], encoded.spans)
                segment.exemplars = self._exemplars(group.origin, group.records[some][part])
                self._batcher.add(segment, [(destination, encoded)], self._added_at)  # it waited already
                continue
            self._refuse(places[part], group.origin.service, "the encoder takes them for none")

    def _refuse(self, places: np.ndarray, service: str, reason: str) -> None:
        self.not_delivered += len(places)
        self.on_their_way -= len(places)
        self._hold.settle(places, Fate.INVALID)
        self._trouble.warn("held records are no spans", service=service, of=len(places), reason=reason)

    def _encoded(
        self, origin: Origin, records: np.ndarray, kept: Kept | None, start: int = 0
    ) -> Iterator[tuple[slice, Encoded]]:
        """Encode records, in halves where they make more bytes than a batch may have, or one cannot be encoded."""
        encoded = self._encode(origin, records, kept)
        is_whole = encoded is not None and encoded.spans == len(records) and len(encoded.body) <= self._batch_bytes
        if is_whole or len(records) == 1:
            yield slice(start, start + len(records)), encoded or Encoded(b"", 0, len(records))
            return
        middle = len(records) // 2
        yield from self._encoded(origin, records[:middle], kept and kept.of(slice(0, middle)), start)
        yield from self._encoded(origin, records[middle:], kept and kept.of(slice(middle, None)), start + middle)

    def _encode(self, origin: Origin, records: np.ndarray, kept: Kept | None) -> Encoded | None:
        try:
            # What a kept span states is in its row: of those that are as they are the head's sampler says it.
            encoder = self._encoder_of(origin, origin.root_threshold if kept is None else 0)
            return encoder.encode_json(records, kept) if self._is_json else encoder.encode(records, kept)
        except MemoryError:
            raise  # not the record's fault; what is not settled is in the hold
        except Exception as error:  # noqa: BLE001 - whatever it is, the next drain would meet it again
            self._trouble.warn("held records cannot be encoded", service=origin.service, reason=repr(error))
            return None

    def _exemplars(self, origin: Origin, records: np.ndarray) -> np.ndarray | None:
        if self._metrics is None:
            return None
        counter = self._counters.get(origin.id)
        if counter is None:
            if len(self._counters) >= _MOST_ENCODERS:
                self._counters.clear()
            counter = self._counters[origin.id] = self._metrics.of(origin.layout, origin.service)
        try:
            return counter.exemplars(records)
        except Exception as error:  # noqa: BLE001 - an exemplar is no reason to deliver nothing
            self._trouble.warn("held records give no exemplars", service=origin.service, reason=repr(error))
            return None

    def _encoder_of(self, origin: Origin, root_threshold: int) -> Encoder:
        encoder = self._encoders.get((origin.id, root_threshold))
        if encoder is None:
            if len(self._encoders) >= _MOST_ENCODERS:
                self._encoders.clear()
            encoder = Encoder(origin.layout, origin.resource, root_threshold)
            self._encoders[origin.id, root_threshold] = encoder
        return encoder


def _rows(fates: Fates, names: Sequence[str]) -> Kept:
    """Return what is to be written of each span."""
    bits = fates.bits & (lib.RB_FATE_RULE | lib.RB_FATE_ITSELF)
    first, rows = _numbered(_alike(bits, fates))
    unique = zip(*(array[first].tolist() for array in (bits, fates.stated, fates.drew)), strict=True)
    table = KeptTable(
        [
            KeptRow(
                names[one & lib.RB_FATE_RULE],
                stated - 1 if stated else None,
                drew - 1 if drew else None,
                is_alone=bool(one & lib.RB_FATE_ITSELF),
            )
            for one, stated, drew in unique
        ]
    )
    return Kept(table, rows.astype(np.uint16))


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of the keys is first, and of each key which of these it is."""
    # np.unique imports numpy.ma: 27 ms.
    order = np.argsort(keys, kind="stable")
    ascending = keys[order]
    is_first = np.ones(len(keys), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(is_first) - 1
    return order[is_first], numbers


def _alike(bits: np.ndarray, fates: Fates) -> np.ndarray:
    """Return a number for each span, equal where all is that is written of them."""
    # A rule has six bits, 1 + T 57.
    keys: np.ndarray = fates.stated | bits.astype(np.uint64) << np.uint64(57)
    keys |= (bits.astype(np.uint64) & np.uint64(lib.RB_FATE_ITSELF)) << np.uint64(63 - _ITSELF_AT)
    if not fates.drew.any():
        return keys
    pairs: np.ndarray = _numbered(keys)[1] * len(keys) + _numbered(fates.drew)[1]
    return pairs
