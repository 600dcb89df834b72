"""The trace table of csrc/sampling/: which traces are kept, decided as their spans come, a look at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from drain.sampling.sampler import Why
from drain.sampling.thresholds import Thresholds
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.present_bits import present_bits as bits_left_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drain.sampling.rates import RateState
    from drain.sampling.rules import Rules
    from drain.sampling.thresholds import Choice

_SECOND: Final = 1_000_000_000
NOWHERE: Final = 2**32 - 1  # of Looked.spans
_MOST_AT_ONCE: Final = 65536
_PRESENT_BITS: Final = bits_left_by(0)

# In the order of enum rb_why.
WHYS: Final = (
    *(Why.RULE, Why.ALONE, Why.ROOT, Why.ENTRY, Why.TIMEOUT),
    *(Why.LIMIT, Why.HOLD, Why.SHARE, Why.STOP),
)

DECIDED: Final = np.dtype(
    [
        *(("hash", "<u8"), ("id", "V16"), ("threshold", "<u8"), ("known", "<u8"), ("random", "<u8")),
        *(("at_nano", "<u8"), ("share", "<f4"), ("rule", "u1"), ("why", "u1"), ("random_is", "<u2")),
    ]
)
"""A decision, as `rb_decided` has it."""


class Fates(NamedTuple):
    """What became of spans; arrays of the same length.

    Attributes:
        bits: u4, enum rb_fate: the rule, why, and what became of the span.
        stated: u8, 1 + the threshold that a kept span states, 0: none is known.
        drew: u8, 1 + R where the trace stated one, 0: R is that of its id.
    """

    bits: np.ndarray
    stated: np.ndarray
    drew: np.ndarray

    @classmethod
    def empty(cls, count: int) -> Fates:
        """Return room for so many."""
        return cls(np.empty(count, np.uint32), np.empty(count, np.uint64), np.empty(count, np.uint64))

    @property
    def is_settled(self) -> np.ndarray:
        """Which do not wait."""
        return _has(self.bits, lib.RB_FATE_SETTLED)

    @property
    def is_kept(self) -> np.ndarray:
        """Which are to be delivered."""
        return _has(self.bits, lib.RB_FATE_KEPT)

    @property
    def rules(self) -> np.ndarray:
        """By which rule, its index in `Rules.rules`; of what waits or is unsampled it says nothing."""
        rules: np.ndarray = self.bits & lib.RB_FATE_RULE
        return rules


class Looked(NamedTuple):
    """What a look decided.

    The arrays are the table's, until its next look.

    Attributes:
        fates: of each record; what is not settled waits.
        spans: u4, the number under which a record waits, or NOWHERE.
        held: u4, numbers of the records that have to be held: they wait, or are to be delivered.
        kept: how many are to be delivered.
        for_themselves: how many of these are, though their trace is not.
    """

    fates: Fates
    spans: np.ndarray
    held: np.ndarray
    kept: int = 0
    for_themselves: int = 0


class Settled(NamedTuple):
    """What became of spans that waited.

    Attributes:
        places: u8, as `place` was told.
        fates: in the same order.
        kept: how many are to be delivered; these come first.
    """

    places: np.ndarray
    fates: Fates
    kept: int


class RuleCounts(NamedTuple):
    """What a rule decided since the table was made.

    Attributes:
        traces: by why.
        kept_traces: of these; a span of such a trace is dropped where it states a higher threshold of its own.
        kept_spans: late ones too.
        dropped_spans: the same.
    """

    traces: Mapping[Why, int]
    kept_traces: int
    kept_spans: int
    dropped_spans: int


class Counts(NamedTuple):
    """What was decided since the table was made, and what waits.

    Attributes:
        rules: by each.
        unsampled: spans that their head did not want.
        late: spans of traces that were decided before they came.
        late_kept: of these, those kept for themselves.
        forgotten: spans that were decided on by themselves, as there was no place in the table for their trace.
        waiting_spans: now.
        waiting_traces: now.
    """

    rules: Sequence[RuleCounts]
    unsampled: int
    late: int
    late_kept: int
    forgotten: int
    waiting_spans: int
    waiting_traces: int


class Traces:
    """A trace table; one thread at a time may use it.

    Args:
        rules: at most 64.
        key: 16 random bytes, kept with the decisions that `remember` is given.
        traces: how many may wait.
        spans: how many may wait.
        decided: how many decisions are remembered for late spans; rounded up to a power of two.
        look: the most records of a look.
        rates: as `rates()` returned them, of an earlier drain of this boot.
        beside: of other rules that are in effect for a while: bounds of a rate are of both together.

    Raises:
        RingBufferError: there is no memory, or a number is out of bounds.
    """

    def __init__(
        self,
        rules: Rules,
        key: bytes,
        *,
        traces: int,
        spans: int,
        decided: int,
        look: int = 65536,
        rates: Mapping[str, RateState] | None = None,
        beside: Thresholds | None = None,
    ) -> None:
        c_rules = ffi.new("rb_trace_rule[]", len(rules.rules))
        for entry, rule in zip(c_rules, rules.rules, strict=True):
            entry.is_longer = rule.trace_longer_than_nano is not None
            entry.longer_than_nano = rule.trace_longer_than_nano or 0
            entry.spans_at_least = min(rule.trace_spans_at_least or 0, NOWHERE)
            entry.keeps_all = rule.keeps_all
        config = ffi.new("rb_traces_config *")
        config.key, config.rules, config.rule_count = key, c_rules, len(rules.rules)
        config.wait_nano, config.wait_after_root_nano = rules.wait_nano, rules.wait_after_root_nano
        config.wait_after_entry_nano, config.is_head_open = rules.wait_after_entry_nano, rules.is_head_open
        config.trace_room, config.span_room, config.look_room = traces, spans, look
        config.decided_room = 1 << (decided - 1).bit_length()
        made, error = ffi.new("rb_traces **"), ffi.new("rb_error *")
        if lib.rb_traces_new(config, made, error) != lib.RB_OK:
            raise RingBufferError(f"no trace table: {ffi.string(error.detail).decode()}")
        self._table: Any = ffi.gc(made[0], lib.rb_traces_free)
        self.bounds = Thresholds(rules, rates, beside)
        self._choices: list[Choice] = []
        self._second: int | None = None
        self._counts = ffi.new("rb_traces_counts *")
        self._totals = ffi.new("rb_traces_totals *")
        self._rule_count = len(rules.rules)
        self._decided = ffi.new("uint64_t *")
        self._decisions = np.empty(_MOST_AT_ONCE, DECIDED)
        self._kept = ffi.new("uint64_t *")
        self._looked = Looked(Fates.empty(look), np.empty(look, np.uint32), np.empty(look, np.uint32))
        self._settled = Settled(np.empty(_MOST_AT_ONCE, np.uint64), Fates.empty(_MOST_AT_ONCE), 0)
        self._look = ffi.new("rb_look *")
        # Both live as long as they are pointed to.
        self._out = _pointers(*self._looked.fates, self._looked.spans, self._looked.held)
        for name, pointer in zip(("fates", "stated", "drew", "spans", "held"), self._out, strict=True):
            setattr(self._look, name, pointer)
        self._taken = _pointers(self._settled.places, *self._settled.fates)

    def join(self) -> int:
        """Take a ring in; return its number, an `origin`."""
        origin: int = _checked(lib.rb_traces_join(self._table))
        return origin

    def leave(self, origin: int) -> None:
        """Say that a ring has ended; what waits of it goes on to wait."""
        _checked(lib.rb_traces_leave(self._table, origin))

    def look(
        self,
        origin: int,
        records: np.ndarray,
        masks: np.ndarray,
        now_nano: int,
        *,
        root_threshold: int = 0,
        thresholds: np.ndarray | None = None,
        randoms: np.ndarray | None = None,
        again: np.ndarray | None = None,
        present_bits: int = _PRESENT_BITS,
    ) -> Looked:
        """Take in records that come now, after what is due was decided; what is settled must be taken before.

        Args:
            origin: the ring.
            records: of its layout, all sound, one dimension.
            masks: u8, by record: bit i says that it meets all conditions of rule i on spans.
            now_nano: by a clock that never goes back.
            root_threshold: of the ring's header: 0, or 1 + T; looked at without `thresholds`.
            thresholds: u8, 1 + T that each states, 0 none.
            randoms: u8, 1 + R that each states, 0 none.
            again: u1, enum rb_again of each; None: none was looked at before.
            present_bits: those that the layout leaves, see `ringbuf.layout.present_bits`.
        """
        count, look = len(records), self._look
        records = np.ascontiguousarray(records)
        given = [
            ffi.NULL if array is None else ffi.from_buffer(c_type, array)
            for c_type, array in (
                ("uint8_t[]", records.view(np.uint8)),
                ("uint64_t[]", masks),
                ("uint64_t[]", thresholds),
                ("uint64_t[]", randoms),
                ("uint8_t[]", again),
            )
        ]
        look.records, look.masks, look.thresholds, look.randoms, look.again = given
        look.count, look.now_nano, look.root_threshold = count, now_nano, root_threshold
        look.slot_bytes, look.origin = records.dtype.itemsize, origin
        look.present_bits = present_bits
        self._turn_to(now_nano)
        held = _checked(lib.rb_traces_look(self._table, look))
        out = self._looked
        bits, stated, drew = out.fates
        fates = Fates(bits[:count], stated[:count], drew[:count])
        return Looked(fates, out.spans[:count], out.held[:held], look.kept, look.for_themselves)

    def knows(self, records: np.ndarray) -> np.ndarray:
        """Return of which records the trace waits or was decided here; nothing changes by it."""
        contiguous, known = np.ascontiguousarray(records), np.zeros(len(records), np.bool_)
        data = ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8)), ffi.from_buffer("uint8_t[]", known)
        _checked(lib.rb_traces_know(self._table, data[0], records.dtype.itemsize, len(records), data[1]))
        return known

    def place(self, looked: Looked, places: np.ndarray) -> None:
        """Say where the records of a look lie, before the next `take`.

        Args:
            looked: the look, the latest.
            places: u8, of each of `looked.held`.
        """
        where = np.ascontiguousarray(places, np.uint64)
        data = ffi.from_buffer("uint32_t[]", looked.held), ffi.from_buffer("uint64_t[]", where)
        _checked(lib.rb_traces_place(self._table, self._look, *data, len(where)))

    def next_due(self) -> int | None:
        """Return when the next wait is over, at the earliest; None: nothing waits."""
        due: int = lib.rb_traces_next_due(self._table)
        return None if due == 2**64 - 1 else due

    def decide_due(self, now_nano: int) -> None:
        """Decide on the traces whose wait is over, each second by its own thresholds."""
        while (due := lib.rb_traces_next_due(self._table)) <= now_nano:
            self._turn_to(due)
            until = min(now_nano, (due // _SECOND + 1) * _SECOND - 1)
            while lib.rb_traces_decide_due(self._table, until, _MOST_AT_ONCE) == _MOST_AT_ONCE:
                pass

    def decide_early(self, spans: int, why: Why, now_nano: int, origin: int | None = None) -> int:
        """Decide on the oldest traces of a ring until so many spans are settled; return how many are.

        Args:
            spans: at least these.
            why: HOLD or STOP.
            now_nano: after what is due was decided.
            origin: the ring; None: that with most spans waiting, then the next.
        """
        self._turn_to(now_nano)
        origin = NOWHERE if origin is None else origin
        settled: int = _checked(lib.rb_traces_decide_early(self._table, origin, spans, WHYS.index(why), now_nano))
        return settled

    def take(self) -> Settled | None:
        """Return what became of some spans that waited, each once, in arrays of the table's until the next call.

        None: nothing is left to be taken.
        """
        if not lib.rb_traces_settled(self._table):
            return None
        taken = lib.rb_traces_take(self._table, _MOST_AT_ONCE, *self._taken, self._kept)
        places, fates, _ = self._settled
        return Settled(places[:taken], Fates(*(array[:taken] for array in fates)), self._kept[0])

    def decided(self) -> np.ndarray:
        """Return the decisions that were made since this was last asked, of `DECIDED`; good until it is asked again."""
        return self._decisions_from(self._decided)

    @property
    def has_decided(self) -> bool:
        """Whether `decided` would return any."""
        count: int = lib.rb_traces_decisions(self._table)
        return bool(count != self._decided[0])

    @property
    def has_news(self) -> bool:
        """Whether `decided` or `take` would return any."""
        return bool(lib.rb_traces_settled(self._table)) or self.has_decided

    def remembered(self) -> np.ndarray:
        """Return all decisions that late spans still find, the oldest first."""
        return self._decisions_from(ffi.new("uint64_t *"))

    def remember(self, decided: np.ndarray) -> None:
        """Take decisions in that were read back, the oldest first; `decided` returns neither them nor any before."""
        self.decided()
        contiguous = np.ascontiguousarray(decided, DECIDED)
        data = ffi.cast("rb_decided *", ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8)))
        lib.rb_traces_remember(self._table, data, len(contiguous))
        self._decided[0] += len(contiguous)

    @property
    def decisions(self) -> int:
        """How many decisions there were, remembered ones too, when `decided` was last asked."""
        count: int = self._decided[0]
        return count

    @property
    def waiting_spans(self) -> int:
        """How many spans wait for a decision."""
        self.count()
        count: int = self._counts.waiting_spans
        return count

    def counts(self) -> Counts:
        """Return what was decided so far."""
        self.count()
        totals = self._totals
        lib.rb_traces_total(self._table, totals)
        rules = [
            RuleCounts(
                dict(zip(WHYS, totals.traces[at], strict=True)),
                totals.kept_traces[at],
                totals.kept_spans[at],
                totals.dropped_spans[at],
            )
            for at in range(self._rule_count)
        ]
        late = totals.late, totals.late_kept
        waiting = self._counts.waiting_spans, self._counts.waiting_traces
        return Counts(rules, totals.unsampled, *late, totals.forgotten, *waiting)

    def oldest(self) -> int | None:
        """Return when the first span of the oldest trace came that waits; None: none does."""
        nano: int = lib.rb_traces_oldest(self._table)
        return None if nano == 2**64 - 1 else nano

    def rates(self) -> dict[str, RateState]:
        """Return what the next drain of this boot goes on with."""
        self.count()
        return self.bounds.states()

    def thresholds(self) -> Sequence[Choice]:
        """Return what each rule keeps in the second of the last look; nothing before the first."""
        return self._choices

    def _decisions_from(self, number: Any) -> np.ndarray:
        """Return decisions from a number on, in an array of the table's until the next call, if they are few."""
        data = ffi.cast("rb_decided *", ffi.from_buffer("uint8_t[]", self._decisions.view(np.uint8)))
        found: list[np.ndarray] = []
        while (count := lib.rb_traces_decided(self._table, number, data, _MOST_AT_ONCE)) == _MOST_AT_ONCE:
            found.append(self._decisions.copy())
        few = self._decisions[:count]
        if not found:
            return few
        # As bytes: numpy copies records field by field.
        return np.concatenate([part.view(np.uint8) for part in (*found, few)]).view(DECIDED)

    def _turn_to(self, now_nano: int) -> None:
        """Let the thresholds be those of this second."""
        if self._second == now_nano // _SECOND:
            return
        self.count()
        self._second, self._choices = now_nano // _SECOND, self.bounds.choices(now_nano)
        lib.rb_traces_choose(self._table, self._choices)

    def count(self) -> None:
        """Let the rates know what came since this was last done, all of it in the second that is now."""
        counts, rules = self._counts, len(self._choices)
        lib.rb_traces_count(self._table, counts)
        if self._second is None:
            return
        traces, spans = counts.traces[0:rules], counts.spans[0:rules]
        wanted = counts.late_shares + sum(
            count * choice.share for count, choice in zip(spans, self._choices, strict=True)
        )
        self.bounds.add(traces, wanted, self._second * _SECOND)


def _has(bits: np.ndarray, bit: int) -> np.ndarray:
    found: np.ndarray = (bits & bit) != 0
    return found


def _pointers(*arrays: np.ndarray) -> list[Any]:
    return [ffi.from_buffer(f"uint{8 * array.itemsize}_t[]", array) for array in arrays]


def _checked(status: int) -> int:
    if status < 0:
        raise RingBufferError(f"the trace table refuses: {ffi.string(lib.rb_strerror(status)).decode()}")
    return status
