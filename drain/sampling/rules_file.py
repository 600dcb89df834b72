"""The rules from a TOML file, or all that is wrong with it, each with its place."""

from __future__ import annotations

import math
import tomllib
from typing import TYPE_CHECKING, Any, Final

from drain.accounting.sampling_status import UNSAMPLED
from drain.sampling import rule_hints
from drain.sampling.rule_hints import shown
from drain.sampling.rules import DEFAULT, MOST_RULES, AttributeTest, Rule, Rules
from drain.settings.units import LONGEST_SECONDS, seconds_of
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

_SECOND: Final = 1_000_000_000
_STATUSES: Final[dict[str, int]] = {"unset": lib.RB_STATUS_UNSET, "ok": lib.RB_STATUS_OK, "error": lib.RB_STATUS_ERROR}
_KINDS: Final[dict[str, int]] = {
    "unspecified": lib.RB_KIND_UNSPECIFIED,
    "internal": lib.RB_KIND_INTERNAL,
    "server": lib.RB_KIND_SERVER,
    "client": lib.RB_KIND_CLIENT,
    "producer": lib.RB_KIND_PRODUCER,
    "consumer": lib.RB_KIND_CONSUMER,
}
_WAITS: Final = ("wait", "wait_after_root", "wait_after_entry")
_MOST_NAME: Final = 100  # characters
_OF_ALL: Final = frozenset({*_WAITS, "default", "dry_run", "incoming", "kept_spans_per_second", "rule"})
_OF_A_RULE: Final = frozenset(
    {
        *("name", "status", "kind", "span", "service", "longer_than", "attributes"),
        *("trace_longer_than", "trace_spans_at_least", "ratio", "traces_per_second"),
    }
)


class RulesError(ValueError):
    """Rules that cannot be; the text has a line for each mistake, with its place.

    Attributes:
        mistakes: these lines.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def read_rules(path: Path) -> Rules:
    """Return the rules of a file, from its table `sampling`.

    Raises:
        RulesError: it is no TOML, has no such table, or that has mistakes.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))  # some editors begin it with a mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError([rule_hints.no_toml(str(error), content.decode(errors="replace"))]) from None
    if "sampling" not in document:
        raise RulesError([rule_hints.no_table(document)])
    if others := [rule_hints.beside(key) for key in document if key != "sampling"]:
        raise RulesError(others)
    return rules_of(document["sampling"])


def rules_of(table: object) -> Rules:
    """Return the rules that a table has, as TOML gives it.

    Raises:
        RulesError: all mistakes in it.
    """
    reader = _Reader()
    rules = reader.rules(table)
    if reader.mistakes:
        raise RulesError(reader.mistakes)
    return rules


class _Reader:
    """Reads values and gathers what is wrong with them; a value that is wrong is read as None."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def rules(self, table: object) -> Rules:
        values = self._table("sampling", table, _OF_ALL, _OF_A_RULE)
        defaults = Rules()
        waits = {
            f"{name}_nano": self._read(f"sampling.{name}", values[name], self._nano)
            for name in _WAITS
            if name in values
        }
        waits = {name: nano for name, nano in waits.items() if nano is not None}
        for name in _WAITS[1:]:
            nano = waits.get(f"{name}_nano", 0)
            if nano > waits.get("wait_nano", defaults.wait_nano):
                self._wrong(f"sampling.{name}", "is longer than wait, which ends before it")
        default = self._read("sampling.default", values.get("default", "drop"), self._default)
        is_open = self._read("sampling.incoming", values.get("incoming", "unknown"), self._incoming)
        bound = self._optional("sampling", values, "kept_spans_per_second", self._rate)
        is_dry_run = self._optional("sampling", values, "dry_run", self._bool)
        rules = self._all(values.get("rule", []))
        self._check_order(rules, is_default_given="default" in values)
        if not (rules or self.mistakes or "default" in values):
            self._wrong(
                "sampling", 'has no rule, so that all is dropped: add a [[sampling.rule]], or say default = "drop"'
            )
        return Rules(
            (*rules, Rule(DEFAULT, ratio=default or 0.0)),
            **waits,
            is_head_open=bool(is_open),
            kept_spans_per_second=bound,
            is_dry_run=bool(is_dry_run),
        )

    def _all(self, given: object) -> list[Rule]:
        if not isinstance(given, list):
            self._wrong("sampling.rule", "is no array of tables: each rule begins with [[sampling.rule]]")
            return []
        if len(given) >= MOST_RULES:  # the default is one of them
            self._wrong("sampling.rule", f"{len(given)} rules; there may be {MOST_RULES - 1}")
        rules = [self._rule(number, table) for number, table in enumerate(given, 1)]
        seen = {DEFAULT: "the rule of traces that no other matches", UNSAMPLED: "the built-in rule of unsampled spans"}
        for number, rule in enumerate(rules, 1):
            if rule.name in seen:
                self._wrong(f"sampling.rule {number}", f"name: {rule.name!r} is {seen[rule.name]} already")
            seen.setdefault(rule.name, f"rule {number}")
        return rules

    def _rule(self, number: int, table: object) -> Rule:
        at = f"sampling.rule {number}"
        conditions: dict[str, tuple[str, Callable[[object], Any]]] = {
            "status": ("statuses", lambda value: frozenset(self._words(value, _STATUSES))),
            "kind": ("kinds", lambda value: frozenset(self._words(value, _KINDS))),
            "span": ("spans", self._patterns),
            "service": ("services", self._patterns),
            "longer_than": ("longer_than_nano", self._nano),
            "attributes": ("attributes", self._attributes),
            "trace_longer_than": ("trace_longer_than_nano", self._nano),
            "trace_spans_at_least": ("trace_spans_at_least", self._count),
            "ratio": ("ratio", self._ratio),
            "traces_per_second": ("traces_per_second", self._rate),
        }
        values = self._table(at, table, _OF_A_RULE, _OF_ALL)
        name = values.get("name")
        if isinstance(name, str) and name.strip():
            at += f" {name!r}"
            if len(name) > _MOST_NAME or not name.isprintable():
                self._wrong(at, f"name: metrics and kept spans have it: one line, at most {_MOST_NAME} characters")
        else:
            self._wrong(at, "name: it has none, and metrics and kept spans could not say which rule it was")
            name = f"rule {number}"
        if "ratio" in values and "traces_per_second" in values:
            self._wrong(at, "ratio and traces_per_second: one of the two, as either is a threshold")
        fields = {
            field: read
            for key, (field, reading) in conditions.items()
            if key in values and (read := self._read(f"{at}: {key}", values[key], reading)) is not None
        }
        return Rule(name, **fields)

    def _check_order(self, rules: list[Rule], *, is_default_given: bool) -> None:
        for number, rule in enumerate(rules, 1):
            if not rule.is_catch_all:
                continue
            behind = ", ".join(repr(other.name) for other in rules[number:])
            if behind:
                self._wrong(
                    f"sampling.rule {number} {rule.name!r}",
                    f"has no condition, so that these behind it are never asked: {behind}",
                )
            elif is_default_given:
                self._wrong("sampling.default", f"no trace comes to it: rule {rule.name!r} has no condition")
            return

    # ---- values: each returns what it reads, or raises ValueError with what is wrong ----

    def _nano(self, value: object) -> int:
        seconds = seconds_of(value) if isinstance(value, str) else value
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SECONDS:
            raise ValueError(f'{shown(value)} is no time, as "10ms", "5s", or a number of seconds')
        return round(seconds * _SECOND)

    def _bool(self, value: object) -> bool:
        if value is not True and value is not False:
            raise ValueError(f"{shown(value)} is not true or false, without quotes")
        return value

    def _ratio(self, value: object) -> float:
        number = self._number(value)
        if not 0 <= number <= 1:
            raise ValueError(rule_hints.no_share(value, number))
        return number

    def _rate(self, value: object) -> float:
        number = self._number(value)
        if number <= 0:
            raise ValueError(f"{shown(value)} is not above 0; to keep none, write ratio = 0")
        return number

    def _count(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{shown(value)} is no number of spans, from 1")
        return value

    def _number(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(rule_hints.no_number(value))
        return float(value)

    def _texts(self, value: object) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"{shown(value)} is no name or pattern, nor a list of them")
        return tuple(texts)

    def _patterns(self, value: object) -> tuple[str, ...]:
        patterns = self._texts(value)
        if wrong := next(filter(None, map(rule_hints.wrong_pattern, patterns)), ""):
            raise ValueError(wrong)
        return patterns

    def _words(self, value: object, known: Mapping[str, int]) -> list[int]:
        words = value if isinstance(value, list) and value else [value]
        return [known[self._known(word, known)] for word in words]

    def _incoming(self, value: object) -> bool:
        if value not in ("unknown", "all"):
            raise ValueError(rule_hints.no_head(value))
        return value == "all"

    def _default(self, value: object) -> float:
        known = {"drop": 0.0, "keep": 1.0}
        if isinstance(value, str):
            return known[self._known(value, known)]
        raise ValueError(
            f'{shown(value)} is not "drop" or "keep"; a share is a last rule without a condition, with a ratio'
        )

    def _attributes(self, value: object) -> tuple[AttributeTest, ...]:
        if not isinstance(value, dict) or not value:
            raise ValueError(f'{shown(value)} is no table of attributes, as {{ "http.method" = "GET" }}')
        return tuple(self._attribute(key, wanted) for key, wanted in value.items())

    def _attribute(self, key: str, wanted: object) -> AttributeTest:
        if isinstance(wanted, dict):
            if not wanted or not wanted.keys() <= {"at_least", "at_most"}:
                raise ValueError(rule_hints.bound(key, wanted))
            bounds = {name: self._bound(key, name, bound) for name, bound in wanted.items()}
            if bounds.keys() >= {"at_least", "at_most"} and bounds["at_least"] > bounds["at_most"]:
                low, high = wanted["at_least"], wanted["at_most"]
                raise ValueError(f"{key!r}: no number is at least {low} and at most {high}")
            return AttributeTest(key, at_least=bounds.get("at_least"), at_most=bounds.get("at_most"))
        values: list[Any] = wanted if isinstance(wanted, list) else [wanted]
        if not values or not all(isinstance(one, str | bool | int | float) for one in values):
            raise ValueError(f"{key!r}: {shown(wanted)} is no text, number or bool, nor a list of them")
        for one in values:
            if isinstance(one, float) and math.isnan(one):
                raise ValueError(f"{key!r}: no number is equal to nan")
            if isinstance(one, str) and (meant := rule_hints.comparison(one)):
                raise ValueError(f"{key!r}: {one!r} is a text, and no comparison: {meant}")
        return AttributeTest(key, tuple(values))

    def _bound(self, key: str, name: str, value: object) -> float:
        try:
            return self._number(value)
        except ValueError as error:
            raise ValueError(f"{key!r}: {name}: {error}") from None

    # ---- places ----

    def _table(self, at: str, table: object, known: Collection[str], elsewhere: Collection[str]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._wrong(at, rule_hints.no_one_table(table))
            return {}
        for key in [key for key in table if key not in known]:
            self._wrong(at, rule_hints.unknown_key(key, known, elsewhere))
        return {key: value for key, value in table.items() if key in known}

    def _optional(self, at: str, values: Mapping[str, Any], key: str, reading: Callable[[object], Any]) -> Any:
        return self._read(f"{at}.{key}", values[key], reading) if key in values else None

    def _known(self, value: object, known: Mapping[str, Any]) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(rule_hints.unknown(value, known))
        return value

    def _read(self, at: str, value: object, reading: Callable[[object], Any]) -> Any:
        try:
            return reading(value)
        except ValueError as error:
            self._wrong(at, str(error))
            return None

    def _wrong(self, at: str, why: str) -> None:
        self.mistakes.append(f"{at}: {why}")
