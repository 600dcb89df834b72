"""Records of one ring as the rules see them, a look at a time: what `SeenSpan` is for one span.

Which conditions a record meets is worked out in C for the core, and over columns for attributes. Of records that carry
OTLP, whose name and attributes are their own, each is looked at by itself.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from drain.otlp.carried import carried
from drain.otlp.fields import checked_fields
from drain.sampling.columns import column_test
from drain.sampling.seen_span import value_of
from drain.sampling.trace_state import stated
from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.present_bits import present_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drain.sampling.rules import AttributeTest, Rule, Rules
    from drain.sampling.seen_span import Value
    from ringbuf.layout.layout import SpanLayout

_NAME_FIELD: Final = 5  # of Span
_NAME_TAG: Final = 0x2A
_KEPT_BY_SAMPLER: Final[int] = lib.RB_SPAN_SAMPLED | lib.RB_SPAN_RANDOM
_CORE_VALUES: Final = 256


class SeenRecords(NamedTuple):
    """What `Traces.look` is told of records.

    Attributes:
        masks: u8, bit i: the record meets all conditions of rule i on spans.
        thresholds: u8, 1 + T that each states, 0 none; None: none carries a tracestate, and
            those that are known to have their ring's state that.
        randoms: u8, 1 + R that each states, 0 none; None: the same.
        malformed: how many tracestates have an `ot` entry that is none.
    """

    masks: np.ndarray
    thresholds: np.ndarray | None = None
    randoms: np.ndarray | None = None
    malformed: int = 0


class RecordLooker:
    """Looks at the records of one layout and service.

    Args:
        rules: at most 64.
        layout: of the records.
        service: `service.name` of their resource.
        root_threshold: of the ring's header: 0, or 1 + T.
    """

    def __init__(self, rules: Rules, layout: SpanLayout, service: str, root_threshold: int = 0) -> None:
        self._rules = [_RuleColumns(rule, layout, service) for rule in rules.rules]
        self._otlp = next((field for field in layout.fields if field.attribute.type == "otlp"), None)
        self._root_threshold = root_threshold
        self._root_bit = np.uint32(present_bits(len(layout.attributes)) & lib.RB_PRESENT_ROOT_THRESHOLD)
        self._conditions: Any = ffi.new("rb_conditions *")
        self._of_names = np.zeros(len(layout.span_names), np.uint64)
        for number, rule in enumerate(self._rules):
            bit = np.uint64(1 << number)
            if rule.is_service:
                self._conditions.every |= int(bit)
            self._of_names[rule.names] |= bit
        for name, wanted in (
            ("statuses", [rule.statuses for rule in rules.rules]),
            ("kinds", [rule.kinds for rule in rules.rules]),
        ):
            masks = [_bits(not values or value in values for values in wanted) for value in range(_CORE_VALUES)]
            setattr(self._conditions, name, masks)
        longer = [rule.longer_than_nano for rule in rules.rules]
        self._conditions.timed = _bits(nano is not None for nano in longer)
        self._conditions.longer_than_nano = [min(nano or 0, 2**64 - 1) for nano in longer]
        self._conditions.name_count = len(self._of_names)

    def look(self, records: np.ndarray) -> SeenRecords:
        """Look at sound records of the layout, one dimension."""
        masks = self._masks(records, ffi.from_buffer("uint64_t[]", self._of_names))
        for number, rule in enumerate(self._rules):
            if rule.has_tests:
                masks[~rule.passes_tests(records)] &= np.uint64(~(1 << number) & 2**64 - 1)
        if self._otlp is None:
            return SeenRecords(masks)
        without_names = self._masks(records, ffi.NULL).tolist()
        thresholds, randoms, malformed = self._of_rings(records), np.zeros(len(records), np.uint64), 0
        for row, otlp in enumerate(carried(records, self._otlp)):
            if not otlp:
                continue
            span = Span.FromString(otlp)
            name = _name_of(span, otlp)
            masks[row] = _bits(
                without_names[row] >> number & 1 and rule.is_met_with(records[row : row + 1], name, span)
                for number, rule in enumerate(self._rules)
            )
            if span.trace_state:
                says = stated(span.trace_state)
                thresholds[row] = 0 if says.threshold is None else 1 + says.threshold
                randoms[row] = 0 if says.randomness is None else 1 + says.randomness
                malformed += says.is_malformed
        return SeenRecords(masks, thresholds, randoms, malformed)

    def _masks(self, records: np.ndarray, of_names: Any) -> np.ndarray:
        """Return for each record the rules whose conditions on the core it meets, and by `of_names` on its name."""
        self._conditions.names = of_names
        masks = np.empty(len(records), np.uint64)
        contiguous = np.ascontiguousarray(records)
        data = ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8)), ffi.from_buffer("uint64_t[]", masks)
        lib.rb_masks(self._conditions, data[0], records.dtype.itemsize, len(records), data[1])
        return masks

    def _of_rings(self, records: np.ndarray) -> np.ndarray:
        """Return 1 + T of spans in traces whose root their ring's sampler kept, and 0 for all others."""
        ids = np.ascontiguousarray(records["trace_id"]).view(">u8").reshape(-1, 2)[:, 1]
        threshold = max(0, self._root_threshold - 1)
        is_kept = (
            ((records["flags"] & _KEPT_BY_SAMPLER) == _KEPT_BY_SAMPLER)
            & ((records["parent_span_id"] == 0).all(axis=1) | ((records["present"] & self._root_bit) != 0))
            & ((ids & np.uint64(lib.RB_THRESHOLDS - 1)) >= np.uint64(threshold))
        )
        return np.where(is_kept, np.uint64(self._root_threshold), np.uint64(0))


class _RuleColumns:
    """The conditions of one rule on spans, for the records of a layout.

    Attributes:
        is_service: whether it may match these records at all.
        names: which of the layout's names it wants: bool, shape (n,).
        has_tests: whether it asks for attributes.
    """

    def __init__(self, rule: Rule, layout: SpanLayout, service: str) -> None:
        self._rule = rule
        self.is_service = not rule.services or any(fnmatchcase(service, pattern) for pattern in rule.services)
        self.names = np.array([not rule.spans or self._is_name(name) for name in layout.span_names])
        fields = {field.attribute.key: field for field in layout.fields if not field.attribute.row.is_carried}
        self._tests: list[tuple[AttributeTest, Callable[[np.ndarray], np.ndarray] | None]] = [
            (test, column_test(fields[test.key], test) if test.key in fields else None) for test in rule.attributes
        ]
        self.has_tests = bool(self._tests)

    def passes_tests(self, records: np.ndarray) -> np.ndarray:
        """Return which records have the attributes, as if none carried anything."""
        passes = np.ones(len(records), np.bool_)
        for _, test in self._tests:
            passes &= test(records) if test is not None else np.False_
        return passes

    def is_met_with(self, record: np.ndarray, name: str | None, span: Span) -> bool:
        """Return whether a record, an array of one whose core is as it wants, meets them with what it carries."""
        if self._rule.spans and not (self.names[record["name"][0]] if name is None else self._is_name(name)):
            return False
        values: Mapping[str, Value] = {item.key: value_of(item.value) for item in span.attributes}
        return all(
            test.holds(values[test.key]) if test.key in values else column is not None and bool(column(record)[0])
            for test, column in self._tests
        )

    def _is_name(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._rule.spans)


def _name_of(span: Span, otlp: bytes) -> str | None:
    """Return the name that a record carries; None: it has its layout's. An empty one is a name, too."""
    if span.name:
        return span.name
    return "" if _NAME_TAG in otlp and _NAME_FIELD in checked_fields("Span", otlp) else None


def _bits(values: Iterable[object]) -> int:
    """Return a mask: bit i says that value i is true."""
    return sum(1 << number for number, value in enumerate(values) if value)
