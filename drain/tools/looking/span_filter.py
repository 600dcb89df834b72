"""Which spans are wanted: conditions from the command line, which all must hold."""

from __future__ import annotations

import enum
import functools
import inspect
import operator
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import numpy as np
import typer

from drain.tools.looking.help import words_of
from drain.tools.looking.span_fields import attributes_of, carries_otlp, durations_of, key_of, name_of
from drain.tools.looking.span_text import KINDS, STATUSES
from ringbuf.layout.attribute_types import Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.layout import SpanLayout

OUTCOME_KEY: Final = "grafos.outcome"
"""The attribute of Phase 219 that `--outcome` is about."""

Kind = enum.StrEnum("Kind", {kind.upper(): kind for kind in KINDS})  # type: ignore[misc]  # the words are in one place
Status = enum.StrEnum("Status", {status.upper(): status for status in STATUSES})  # type: ignore[misc]  # the same

_CONDITION: Final = re.compile(r"(?P<key>[^=!<>]+)(?P<sign>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_SIGNS: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_DURATION: Final = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>ns|us|µs|ms|s)")
_TRACE_DIGITS: Final = 32


class Condition(NamedTuple):
    """What an attribute must be; a span that has not set it matches `!=` only.

    Attributes:
        key: of the attribute, or its end after a dot, see `key_of`.
        sign: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: as it was written.
    """

    key: str
    sign: str
    value: str

    def holds(self, value: Any) -> bool:
        """Whether it does for a value as OTLP has it; None: not set."""
        if value is None:
            return self.sign == "!="
        if isinstance(value, bool):
            return bool(_SIGNS[self.sign]("true" if value else "false", self.value.lower()))
        if isinstance(value, int | float):
            wanted = number_of(self.value)
            return self.sign == "!=" if wanted is None else bool(_SIGNS[self.sign](value, wanted))
        if self.sign not in ("=", "!="):
            return False  # an order of texts is nothing that anybody means
        return bool(_SIGNS[self.sign](value.hex() if isinstance(value, bytes) else str(value), self.value))


@dataclass(frozen=True, slots=True)
class SpanFilter:
    """Conditions on spans, from the options of a command.

    Attributes:
        names: patterns, of which one must fit; empty: any name.
        conditions: on attributes; all must hold.
        min_duration_nano: 0: any duration.
        trace: the first digits of the trace id; empty: any trace.
        kinds: numbers of OTLP's span kinds, of which one must be the span's; empty: any kind.
        statuses: the same of its status codes.
    """

    names: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    min_duration_nano: int = 0
    trace: str = ""
    kinds: tuple[int, ...] = ()
    statuses: tuple[int, ...] = ()

    def of(self, layout: SpanLayout) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that says which records of an array of this layout match: a mask of bools."""
        name_fits = np.array([self._name_fits(name) for name in layout.span_names])
        tests: list[Callable[[np.ndarray], np.ndarray]] = []
        if self.min_duration_nano:
            tests.append(lambda records: durations_of(records) >= self.min_duration_nano)
        if self.trace:
            tests.append(self._trace_fits)
        if self.kinds:
            tests.append(lambda records: np.isin(records["kind"], self.kinds))
        if self.statuses:
            tests.append(lambda records: np.isin(records["status"], self.statuses))
        if carries_otlp(layout):
            if self.names or self.conditions:
                tests.append(lambda records: self._fits_one_by_one(layout, records))
        else:
            if self.names:
                tests.append(lambda records: _looked_up(name_fits, records["name"]))
            tests += [_compiled(condition, layout) for condition in self.conditions]

        def mask(records: np.ndarray) -> np.ndarray:
            found = np.ones(len(records), bool)
            for test in tests:
                found &= test(records)
            return found

        return mask

    def _name_fits(self, name: str) -> bool:
        return not self.names or any(fnmatchcase(name, pattern) for pattern in self.names)

    def _trace_fits(self, records: np.ndarray) -> np.ndarray:
        whole, rest = divmod(len(self.trace), 2)
        ids = records["trace_id"]
        found: np.ndarray = (ids[:, :whole] == np.frombuffer(bytes.fromhex(self.trace[: 2 * whole]), np.uint8)).all(1)
        return found & (ids[:, whole] >> 4 == int(self.trace[-1], 16)) if rest else found

    def _fits_one_by_one(self, layout: SpanLayout, records: np.ndarray) -> np.ndarray:
        return np.fromiter((self._fits(layout, record) for record in records), bool, len(records))

    def _fits(self, layout: SpanLayout, record: np.void) -> bool:
        attributes = attributes_of(layout, record)
        return (
            attributes is not None
            and self._name_fits(name_of(layout, record))
            and all(
                condition.holds(attributes.get(key_of(attributes, condition.key) or condition.key))
                for condition in self.conditions
            )
        )


def span_filter(
    names: Annotated[
        list[str] | None, typer.Option("--name", metavar="NAME", help="A span's name, or a pattern; may be repeated.")
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="KEY=VALUE",
            help="A condition: KEY=VALUE, KEY!=VALUE, and for numbers < <= > >=, in quotes: 'bytes>=4096'. KEY may be "
            "the end of a key after a dot. All that are given must hold.",
        ),
    ] = None,
    min_duration: Annotated[
        str | None, typer.Option("--min-duration", metavar="TIME", help="At least so long: 250ns, 10us, 1.5ms, 2s.")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="LABEL", help="The same as --attribute grafos.outcome=….")
    ] = None,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", metavar=words_of(Status), help="The status; may be repeated."),
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option("--kind", metavar=words_of(Kind), help="The kind of span; may be repeated."),
    ] = None,
    trace: Annotated[str | None, typer.Option("--trace", metavar="ID", help="The trace id, or its beginning.")] = None,
) -> SpanFilter:
    """Return the filter that options stand for.

    Raises:
        typer.BadParameter: naming the option that says nothing.
    """
    conditions = [_condition(text) for text in attributes or ()]
    if outcome is not None:
        conditions.append(Condition(OUTCOME_KEY, "=", outcome))
    return SpanFilter(
        tuple(names or ()),
        tuple(conditions),
        _nano(min_duration),
        "" if trace is None else trace_digits(trace, "--trace"),
        tuple(KINDS.index(one) for one in kind or ()),
        tuple(STATUSES.index(one) for one in status or ()),
    )


def trace_digits(text: str, hint: str) -> str:
    """Return the digits of a trace id, or of its beginning, in lower case.

    Raises:
        typer.BadParameter: it is none; with this hint.
    """
    digits = text.lower()
    if not re.fullmatch("[0-9a-f]+", digits) or len(digits) > _TRACE_DIGITS:
        raise typer.BadParameter(f"{text!r} is not 1 to 32 hex digits", param_hint=hint)
    return digits


def with_span_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `span_filter` in place of its parameter `wanted`, which is the filter they make.

    Typer makes options of a signature: the one that it is shown has the parameters of both functions.
    """
    options = inspect.signature(span_filter, eval_str=True).parameters

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in options}
        command(wanted=span_filter(**given), **arguments)

    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        shown += options.values() if parameter.name == "wanted" else [parameter]
    by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shown]
    with_options.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # inspect.signature reads it
    return with_options


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no KEY=VALUE (a condition with < or > needs quotes: the shell takes these for itself)",
            param_hint="--attribute",
        )
    condition = Condition(found["key"].strip(), found["sign"], found["value"].strip())
    if condition.sign[0] in "<>" and number_of(condition.value) is None:
        raise typer.BadParameter(f"{text!r}: {condition.sign} needs a number", param_hint="--attribute")
    return condition


def _nano(text: str | None) -> int:
    if text is None:
        return 0
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no time: 250ns, 10us, 1.5ms, 2s", param_hint="--min-duration")
    return round(float(found["number"]) * _UNITS[found["unit"]])


def number_of(text: str) -> int | float | None:
    """Return the number that a text is, None when it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def field_of(layout: SpanLayout, word: str) -> LayoutField | None:
    """Return the field that the key of a condition means, see `key_of`."""
    by_key = {field.attribute.key: field for field in layout.fields}
    key = key_of(by_key, word)
    return None if key is None else by_key[key]


def _compiled(condition: Condition, layout: SpanLayout) -> Callable[[np.ndarray], np.ndarray]:
    """Return the condition on a whole array; what a value is, is decided once for each label, not for each record."""
    field = field_of(layout, condition.key)
    if field is None:
        return lambda records: np.full(len(records), condition.holds(None))
    fits = _fits_of(condition, field)

    def mask(records: np.ndarray) -> np.ndarray:
        is_set = (records["present"] >> np.uint32(field.index) & np.uint32(1)).astype(bool)
        return np.where(is_set, fits(records[field.attribute.key]), condition.holds(None))

    return mask


def _fits_of(condition: Condition, field: LayoutField) -> Callable[[np.ndarray], np.ndarray]:
    row = field.attribute.row
    match row.shape:
        case Shape.LABEL:
            table = np.array([condition.holds(label) for label in field.attribute.labels or ()])
            return lambda values: _looked_up(table, values)
        case Shape.NUMBER if row.python is bool:
            table = np.array([condition.holds(value) for value in (False, True)])
            return lambda values: _looked_up(table, values.view(np.uint8))
        case Shape.EXACT:
            wanted = condition.value.lower()
            same = _SIGNS["=" if condition.sign == "=" else "!="]
            return lambda values: np.fromiter(
                (same(value.tobytes().hex(), wanted) and condition.sign in ("=", "!=") for value in values),
                bool,
                len(values),
            )
        case Shape.INLINE:
            return lambda values: np.fromiter(
                (condition.holds(_inline(value, is_text=row.python is str)) for value in values), bool, len(values)
            )
        case Shape.NUMBER:
            number = number_of(condition.value)
            if number is None:
                return lambda values: np.full(len(values), condition.sign == "!=")
            return lambda values: _SIGNS[condition.sign](values, number)


def _inline(value: np.void, *, is_text: bool) -> str | bytes:
    data: bytes = value["data"].tobytes()[: int(value["length"])]
    return data.decode(errors="replace") if is_text else data


def _looked_up(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the table's entry for each index; an index beyond it, which a broken producer may write, fits nothing."""
    is_inside = indices < len(table)
    found: np.ndarray = is_inside & table[np.where(is_inside, indices, 0)]
    return found
