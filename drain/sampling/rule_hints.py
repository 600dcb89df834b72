"""What was probably meant by what rules do not know: each hint says what to write instead."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

# What other tail samplers call it, and what people try.
_ELSEWHERE: Final = {
    **dict.fromkeys(("decision_wait", "trace_timeout", "timeout"), "wait"),
    **dict.fromkeys(("decision_delay", "send_delay"), "wait_after_root"),
    **dict.fromkeys(("rules", "policies", "policy"), "rule"),
    **dict.fromkeys(("probability", "sampling_percentage", "sample_rate", "rate", "percentage", "percent"), "ratio"),
    **dict.fromkeys(("keep_ratio", "sample", "share", "fraction"), "ratio"),
    **dict.fromkeys(
        ("duration", "min_duration", "latency", "threshold_ms", "slower_than", "duration_longer_than"), "longer_than"
    ),
    **dict.fromkeys(("status_code", "status_codes", "error"), "status"),
    **dict.fromkeys(("span_name", "span_names", "operation"), "span"),
    **dict.fromkeys(("service_name", "services"), "service"),
    **dict.fromkeys(("attribute", "tags", "labels"), "attributes"),
    **dict.fromkeys(("min_spans", "span_count"), "trace_spans_at_least"),
    **dict.fromkeys(("spans_per_second", "max_spans_per_second"), "kept_spans_per_second"),
    **dict.fromkeys(("max_traces_per_second", "goal_throughput_per_sec"), "traces_per_second"),
}
# What there is no key for, and how it is said.
_OTHERWISE: Final = {
    **dict.fromkeys(("drop", "action", "decision"), "write ratio = 0 to drop what matches; without a ratio it is kept"),
    "keep": "what matches is kept, unless a ratio says how much of it",
    **dict.fromkeys(
        ("not", "exclude", "invert", "invert_match", "unless"),
        "no condition is the opposite of another: put a rule before this one that matches what is not meant",
    ),
    **dict.fromkeys(
        ("trace_spans_at_most", "max_spans", "shorter_than", "trace_shorter_than"),
        "conditions are lower bounds: put a rule before this one that matches what is above it",
    ),
    **dict.fromkeys(("enabled", "disabled"), "to switch a rule off, remove it or put # before its lines"),
    "hold_bytes": "it is an option of the drain, --hold-bytes",
    "on_stop": "it is an option of the drain, --on-stop",
}
_BOUNDS: Final = {
    **dict.fromkeys((">=", ">", "min", "minimum", "gte", "gt", "from", "least"), "at_least"),
    **dict.fromkeys(("<=", "<", "max", "maximum", "lte", "lt", "to", "most"), "at_most"),
}
_COMPARISON: Final = re.compile(r"\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*")
_NUMBER: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:([%kM])|\D*)\s*")
_FACTORS: Final = {"%": 0.01, "k": 1e3, "M": 1e6}
_BARE_WORD: Final = re.compile(r"=\s*[^\W\d]|[“”‘’]")  # noqa: RUF001 - the quotes that an editor makes
_BARE_TIME: Final = re.compile(r"=\s*[\d.]+\s*[a-z]")


def shown(value: object) -> str:
    """Return a value about as TOML has it.

    >>> shown([True, {"a": "x"}])
    "[true, { a = 'x' }]"
    """
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(shown, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {shown(one)}' for key, one in value.items())} }}" if value else "{}"
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return repr(value)


def unknown_key(key: str, known: Collection[str], elsewhere: Collection[str]) -> str:
    """Return what to say of a key that is none of these.

    Args:
        key: which.
        known: those of this table.
        elsewhere: those of the other table: of all rules, or of one.
    """
    if hint := _OTHERWISE.get(key.lower().replace("-", "_")):
        return f"{key!r} is not known: {hint}"
    if key in elsewhere and "name" in known:  # TOML has put it there where it stands below a rule
        return f"{key!r} belongs to all rules: put it into [sampling], above the first [[sampling.rule]]"
    if key in elsewhere:
        return f"{key!r} belongs to a rule: put it below a [[sampling.rule]]"
    return unknown(key, known)


def unknown(word: object, known: Collection[str]) -> str:
    """Return what to say of a word that is none of these."""
    lower = str(word).lower()
    meant = _ELSEWHERE.get(lower, "")
    nearest = [meant] if meant in known else difflib.get_close_matches(lower, known, 1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(sorted(known))}"
    return f"{shown(word)} is not known{hint}"


def no_one_table(value: object) -> str:
    """Return what to say of what is to be a table."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "is an array of tables, where one table is meant: write its name in [ ], not in [[ ]]"
    return f"{shown(value)} is no table"


def no_head(value: object) -> str:
    """Return what to say of what is to be said of samplers upstream."""
    return f'{shown(value)} is not known: it is "all" where nobody samples upstream, else "unknown"'


def no_table(document: Collection[str]) -> str:
    """Return what to say of a file without a table `sampling`."""
    if "rule" in document or "rules" in document:
        return "there is no table [sampling]: each rule begins with [[sampling.rule]]"
    near = difflib.get_close_matches("sampling", document, 1)
    hint = f"[{near[0]}] is not known; did you mean [sampling]?" if near else "it begins with that line"
    return f"there is no table [sampling]: {hint}"


def beside(key: str) -> str:
    """Return what to say of a key beside the table `sampling`."""
    if key in {"rule", "rules"}:
        return f"[[{key}]] is not known: each rule begins with [[sampling.rule]]"
    return f"{key!r} is not known: all rules stand in [sampling] and [[sampling.rule]]"


def no_toml(error: str, text: str) -> str:
    """Return what to say of a text that is no TOML."""
    found = re.search(r"at line (\d+)", error)
    lines = text.splitlines()
    line = lines[int(found[1]) - 1].strip() if found and int(found[1]) <= len(lines) else ""
    if text.lstrip().startswith("{"):
        hint = "; it looks like JSON, and rules are TOML: they begin with [sampling]"
    elif re.match(r"\s*(-\s+)?\w+:(\s|$)", text):
        hint = "; it looks like YAML, and rules are TOML: they begin with [sampling]"
    elif _BARE_WORD.search(line):
        hint = '; a text is between straight quotes: "error"'
    elif _BARE_TIME.search(line):
        hint = '; a time is between quotes: "5s"'
    elif error.startswith("Cannot overwrite"):
        hint = "; a key stands twice in one table: each rule begins with a [[sampling.rule]] of its own"
    else:
        hint = ""
    return f"no TOML: {error}" + (f": {line[:80]}" if line else "") + hint


def no_number(value: object) -> str:
    """Return what to say of a value that is to be a number."""
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return f"{shown(value)} is no number"
    number = float(found[1]) * _FACTORS.get(found[2], 1)
    return f"{value!r} is no number: it is written without quotes and unit, as {number:.15g}"


def no_share(value: object, number: float) -> str:
    """Return what to say of a number that is no share.

    Args:
        value: as it was written.
        number: which that is.
    """
    percent = f"; {number:g} % is {number / 100:g}" if 1 < number <= 100 else ""  # noqa: PLR2004 - a hundred per cent
    return f"{value!r} is not between 0 (none) and 1 (all){percent}"


def bound(key: str, names: Collection[str]) -> str:
    """Return what to say of a table of an attribute that has other keys than the two bounds.

    Args:
        key: of the attribute.
        names: its keys.
    """
    others = [name for name in names if name not in ("at_least", "at_most")]
    if not others:
        return f"{key!r}: its table has neither at_least nor at_most"
    text = f"{key!r}: of a table at_least and at_most are known, not {', '.join(others)}"
    meant = [_BOUNDS[name] for name in others if name in _BOUNDS]
    if meant:
        return f"{text}; did you mean {meant[0]}?"
    is_cut = len(others) == len(names)  # TOML has made tables of a key with dots
    return text + (f'; a key with a dot needs quotes: "{key}.{others[0]}"' if is_cut else "")


def comparison(text: str) -> str:
    """Return what a text is to be where it was meant as a comparison; empty where it was not.

    >>> comparison(">= 500")
    '{ at_least = 500 }'
    """
    found = _COMPARISON.fullmatch(text)
    return "" if found is None else f"{{ {_BOUNDS[found[1]]} = {found[2]} }}"


def wrong_pattern(pattern: str) -> str:
    """Return what is wrong with a pattern; empty where nothing is.

    >>> wrong_pattern("GET /cart/*")
    ''
    """
    if pattern.startswith(("^", ".*")) or pattern.endswith("$"):
        simple = pattern.removeprefix("^").removesuffix("$").replace(".*", "*")
        return (
            f"{pattern!r} looks like a regular expression; patterns have *, ? and [abc], and fit the whole name: "
            f"{simple!r}"
        )
    if "|" in re.sub(r"\[.[^]]*\]", "", pattern):
        several = ", ".join(f'"{part}"' for part in pattern.strip("()").split("|"))
        return f"{pattern!r}: several are a list, as [{several}]; the character itself is written [|]"
    at = pattern.find("[")
    while at >= 0:
        end = pattern.find("]", at + 2)
        if end < 0:
            return f"{pattern!r}: no ] ends what [ begins; the character itself is written [[]"
        at = pattern.find("[", end + 1)
    return ""
