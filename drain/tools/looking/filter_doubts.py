"""What a filter can never match, for want of an attribute, a label or a name: said, with the nearest that there is."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from drain.tools.looking.nearest import meant, near_of, nearest, some
from drain.tools.looking.span_fields import carries_otlp
from drain.tools.looking.span_filter import field_of, number_of
from drain.tools.looking.span_text import printable
from ringbuf.layout.attribute_types import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.tools.looking.span_filter import Condition, SpanFilter
    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.layout import SpanLayout

_EQUALITY: Final = ("=", "!=")


def doubts(wanted: SpanFilter, layouts: Iterable[SpanLayout]) -> list[str]:
    """Return what of a filter no span of these layouts can match, or all can match that have the attribute.

    Nothing is said where there is no layout, or where one carries OTLP, in which any name and key may be.
    """
    known = list(dict.fromkeys(layouts))
    if not known or any(carries_otlp(layout) for layout in known):
        return []
    names = {name for layout in known for name in layout.span_names}
    found = [
        f"no span of these rings is called {pattern!r}{nearest(pattern, names)}"
        for pattern in wanted.names
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    for condition in wanted.conditions:
        fields = [field for layout in known if (field := field_of(layout, condition.key)) is not None]
        reasons = [_doubt(condition, field) for field in fields]
        if not fields:
            found.append(_no_such_key(condition.key, [key for layout in known for key in layout.offsets]))
        elif all(reasons):
            found.append(reasons[0])
    return found


def _no_such_key(word: str, all_keys: Iterable[str]) -> str:
    keys = list(dict.fromkeys(all_keys))
    several = [key for key in keys if key.endswith(f".{word}")]
    if len(several) > 1:
        return f"{word!r} may mean {len(several)} attributes: {some(several)}"
    by_ending = {key.rpartition(".")[2]: key for key in keys}
    near = near_of(word, [*keys, *by_ending])
    end = f"; there is {some(keys)}" if near is None else meant(by_ending.get(near, near))
    return f"no span of these rings has an attribute {word!r}{end}"


def _doubt(condition: Condition, field: LayoutField) -> str:
    """Return why the condition can hold of no value of the field, or of each; empty if it is a condition."""
    attribute = field.attribute
    row = attribute.row
    key = printable(attribute.key)
    if row.shape is Shape.NUMBER and row.python is not bool:
        return f"{key} is a number, and {condition.value!r} is none" if number_of(condition.value) is None else ""
    if condition.sign not in _EQUALITY:
        return f"{key} is no number: {condition.sign} holds of none of its values"
    match row.shape:
        case Shape.LABEL if condition.value not in (attribute.labels or ()):
            return f"{key} has no label {condition.value!r}{nearest(condition.value, attribute.labels or ())}"
        case Shape.NUMBER if condition.value.lower() not in ("true", "false"):
            return f"{key} is true or false, and never {condition.value!r}"
        case Shape.EXACT if not re.fullmatch(f"[0-9a-fA-F]{{{2 * field.nbytes}}}", condition.value):
            return f"{key} has {2 * field.nbytes} hex digits, and {condition.value!r} is none of that kind"
    return ""
