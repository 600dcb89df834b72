"""The rules: which traces are kept, and at which share. Nothing here has a state, and nothing looks at R.

A rule that looked at R, or a decision that came sooner for some R, would make a lie of the threshold: what is kept
would not stand for what is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.sampling.seen_span import SeenSpan, Value

DEFAULT: Final = "default"
"""The rule of the traces that no other matches."""

MOST_RULES: Final = 64
"""The default included: the bits of a mask."""

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AttributeTest:
    """What an attribute must be.

    Attributes:
        key: of the attribute; a span without it does not match.
        values: it is one of these, of the same kind: a bool is no number.
        at_least: or a number that is not below this, and
        at_most: not above that.
    """

    key: str
    values: tuple[str | bool | int | float, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: Value) -> bool:
        """Whether it does for a value; None: not set."""
        if value is None:
            return False
        if self.values:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, all of which must hold, and the share that is kept of the traces that they match.

    Of the conditions on a span, one span must meet all. What is empty or None is no condition. More spans never make a
    trace match no longer.

    Attributes:
        name: for people, metrics, and the spans that are kept.
        statuses: OTLP StatusCodes.
        kinds: OTLP SpanKinds.
        spans: patterns of the span's name, with `*`, `?` and `[…]`; one must fit.
        services: patterns of the service's name.
        longer_than_nano: the span's duration is above it.
        attributes: of the span.
        trace_longer_than_nano: from the first start to the last end it is above this.
        trace_spans_at_least: so many spans have come.
        ratio: of all traces that match, whatever the head did: 0 (none) to 1 (all).
        traces_per_second: at most so many are kept in the mean; None: no bound.
    """

    name: str
    statuses: frozenset[int] = frozenset()
    kinds: frozenset[int] = frozenset()
    spans: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    longer_than_nano: int | None = None
    attributes: tuple[AttributeTest, ...] = ()
    trace_longer_than_nano: int | None = None
    trace_spans_at_least: int | None = None
    ratio: float = 1.0
    traces_per_second: float | None = None

    @property
    def is_catch_all(self) -> bool:
        """Whether it has no condition, so that no rule behind it is ever asked."""
        return not self._looks_at_spans and self.trace_longer_than_nano is None and self.trace_spans_at_least is None

    @property
    def keeps_all(self) -> bool:
        """Whether whatever matches is kept."""
        return self.ratio == 1 and self.traces_per_second is None

    def matches(self, spans: Sequence[SeenSpan]) -> bool:
        """Whether the spans of a trace that have come meet the conditions."""
        if self._looks_at_spans and not any(map(self.fits, spans)):
            return False
        if self.trace_spans_at_least is not None and len(spans) < self.trace_spans_at_least:
            return False
        if self.trace_longer_than_nano is None:
            return True
        begin, end = min(span.start_unix_nano for span in spans), max(span.end_unix_nano for span in spans)
        return end - begin > self.trace_longer_than_nano

    @property
    def _looks_at_spans(self) -> bool:
        has_words = self.statuses or self.kinds or self.spans or self.services or self.attributes
        return bool(has_words) or self.longer_than_nano is not None

    def fits(self, span: SeenSpan) -> bool:
        """Whether a span meets all conditions on spans."""
        return (
            (not self.statuses or span.status in self.statuses)
            and (not self.kinds or span.kind in self.kinds)
            and (not self.spans or any(fnmatchcase(span.name, pattern) for pattern in self.spans))
            and (not self.services or any(fnmatchcase(span.service, pattern) for pattern in self.services))
            and (self.longer_than_nano is None or span.duration_nano > self.longer_than_nano)
            and all(test.holds(span.attributes.get(test.key)) for test in self.attributes)
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a drain, and how long it waits.

    Attributes:
        rules: in the order in which they are asked; the last is the default.
        wait_nano: from a trace's first span, never extended.
        wait_after_root_nano: from its root.
        wait_after_entry_nano: from its last span whose parent is remote, where no root has come.
        is_head_open: nobody samples upstream: a trace that states no threshold has that of all.
        kept_spans_per_second: above it all thresholds rise together; None: no bound.
        is_dry_run: a drain delivers all, as without rules, which only count.
    """

    rules: tuple[Rule, ...] = (Rule(DEFAULT, ratio=0.0),)
    wait_nano: int = 5 * _SECOND
    wait_after_root_nano: int = _SECOND // 2
    wait_after_entry_nano: int = 2 * _SECOND
    is_head_open: bool = False
    kept_spans_per_second: float | None = None
    is_dry_run: bool = False

    def match(self, spans: Sequence[SeenSpan]) -> int:
        """Return the index of the first rule that matches; the default always does."""
        return next(index for index, rule in enumerate(self.rules) if rule.is_catch_all or rule.matches(spans))

    @property
    def have_rates(self) -> bool:
        """Whether a threshold follows what comes."""
        has_bound = self.kept_spans_per_second is not None
        return has_bound or any(rule.traces_per_second is not None for rule in self.rules)

    def settles(self, spans: Sequence[SeenSpan]) -> bool:
        """Whether no span that may still come can change which rule matches: the first does already."""
        return self.match(spans) == 0


def of_ratio(ratio: float) -> Rules:
    """Return rules that keep a share of all traces."""
    return Rules((Rule(DEFAULT, ratio=ratio),))
